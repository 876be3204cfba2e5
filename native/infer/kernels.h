// The arithmetic of a forward pass over plain arrays, once per level of CPU. All levels give the same bits: each states the order of
// its additions below, products are joined by fused multiply-add only, and exponentials are our own (inference.md 12.3).
#pragma once

#include <cstddef>
#include <cstdint>

namespace zg::infer {

// Dot products: lane j (0 to 31) folds columns j, j + 32, … with fma from +0; then lanes 16…31 are added to 0…15, 8…15 to 0…7, and
// so on to one. A weight is the float that dequantize() (tensor_type.h) gives, so a fused product equals the one over the widened row.
//
// y_i = row i of the weights · x, for rows that lie row_bytes apart.
using RowsFunction = void (*)(const uint8_t* weights, size_t row_bytes, size_t rows, const float* x, size_t columns, float* y);

struct Kernels {
  const char* name;
  RowsFunction rows_f32;
  RowsFunction rows_f16;
  RowsFunction rows_bf16;
  // columns is a multiple of 32.
  RowsFunction rows_q8_0;
  // Attention over count positions whose keys or values lie stride floats apart:
  // out_t = (q · key_t) · scale, the product as above;
  void (*scores)(const float* q, const float* keys, size_t stride, size_t count, size_t size, float scale, float* out);
  // out_d = fma(p_t, value_t,d, out_d), t ascending.
  void (*mix)(const float* p, const float* values, size_t stride, size_t count, size_t size, float* out);
  // x_i = zexp(x_i − shift).
  void (*exp_shifted)(float* x, float shift, size_t count);
  // gate_i = gate_i / (1 + zexp(−gate_i)) · up_i.
  void (*silu_product)(float* gate, const float* up, size_t count);
  // out_i = (x_i · (1 / √(mean(x²) + epsilon))) · w_i, the squares summed as in a dot product.
  void (*rms_norm)(const float* x, const float* w, float epsilon, float* out, size_t count);
  // x_i = x_i + y_i.
  void (*add)(float* x, const float* y, size_t count);
};

// Levels of this machine, narrowest first; ends with nullptr. Static storage.
const Kernels* const* available_kernels() noexcept;

// The level by name (`scalar`, `avx2`, `avx512`), or nullptr when unknown or missing here. An empty name or nullptr: the widest.
const Kernels* kernels_by_name(const char* name) noexcept;

// e^x by a polynomial: the same float on every machine, at most 1.01 ulp off; monotonic; zexp(0) = 1. Below −87.3 it is 0, above 88.7
// infinite, and what is not a number stays so.
float zexp(float x) noexcept;

// ln x for finite x > 0, at most 2 ulp off.
float zlog(float x) noexcept;

extern const Kernels kScalar;
#if defined(__x86_64__)
extern const Kernels kAvx2;
extern const Kernels kAvx512;
#endif

}  // namespace zg::infer
