// Weights in blocks of 32 columns, whatever their type (inference.md section 2): integers and the few numbers that turn an integer
// sum into a float. One form for all quantized types, so that the rules of section 12.2 are written once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "rules.h"

namespace zg::det {

// Type ids as in files.
enum class Type : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kIQ4_NL = 20,
  kIQ4_XS = 23,
  kBF16 = 30,
  kMXFP4 = 39,
};

// Every type with a product here.
constexpr Type kTypes[] = {Type::kF32,  Type::kF16,  Type::kBF16, Type::kQ4_0, Type::kQ4_1, Type::kQ5_0,   Type::kQ5_1,   Type::kQ8_0,
                           Type::kQ2_K, Type::kQ3_K, Type::kQ4_K, Type::kQ5_K, Type::kQ6_K, Type::kIQ4_NL, Type::kIQ4_XS, Type::kMXFP4};

struct TypeShape {
  const char* name;
  uint32_t values;
  uint32_t bytes;
};
// Values and bytes of a block in files; values 0: no such type here.
TypeShape type_shape(Type type) noexcept;
inline bool is_float_type(Type t) { return t == Type::kF32 || t == Type::kF16 || t == Type::kBF16; }

// 32 columns of one row. The product with an activation block x of scale dx is, in this order,
//   S = s[0]·Σ₀…₁₅ q·x + s[1]·Σ₁₆…₃₁ q·x,  acc = fma(float(S), d·dx, acc)
//   M = m[0]·Σ₀…₁₅ x + m[1]·Σ₁₆…₃₁ x,      acc = fma(float(−M), dm·dx, acc)      only if has_minimum
// and the value of a column is d·(s·q) − dm·m, the products exact.
struct Block {
  int8_t q[32];
  int32_t s[2] = {1, 1};
  int32_t m[2] = {0, 0};
  float d = 0;
  float dm = 0;
  bool has_minimum = false;
};

// Block b of a row of a quantized type.
void unpack_block(Type type, const uint8_t* row, size_t b, Block* out) noexcept;

// Column c of a row of F32, F16 or BF16.
float float_weight(Type type, const uint8_t* row, size_t c) noexcept;

// count values of a row (whole blocks) as floats.
void dequantize(Type type, const uint8_t* row, size_t count, float* out) noexcept;

// Activations as 8-bit blocks of 32 (section 2); a last block is filled up with zeros.
struct Activations {
  std::vector<int8_t> q;
  std::vector<float> d;
  // Sums of the first and the second 16 quants of each block.
  std::vector<int32_t> sums;
};
void quantize(const float* x, size_t count, Activations* out);

// Row · x by section 12.2, for quantized and for float weights. columns: of the row.
float product(Type type, const uint8_t* row, size_t columns, const Activations& x) noexcept;
float product(Type type, const uint8_t* row, size_t columns, const float* x) noexcept;

}  // namespace zg::det
