// Kernels in plain C++: the truth that the others are compared with.
#include <bit>
#include <cstring>

#include "kernels.h"
#include "tensor_type.h"

#define ZG_TARGET

namespace zg::infer {
namespace {

constexpr size_t kLanes = 32;

struct Lanes {
  float v[kLanes] = {};

  void fold(size_t column, float w, float x) { v[column % kLanes] = __builtin_fmaf(w, x, v[column % kLanes]); }

  float sum() {
    for (size_t half = kLanes / 2; half > 0; half /= 2) {
      for (size_t j = 0; j < half; j++) v[j] += v[j + half];
    }
    return v[0];
  }
};

uint16_t load16(const uint8_t* p) {
  uint16_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

inline float dot_f32(const uint8_t* weights, const float* x, size_t columns) {
  Lanes lanes;
  for (size_t i = 0; i < columns; i++) {
    float w;
    std::memcpy(&w, weights + 4 * i, sizeof w);
    lanes.fold(i, w, x[i]);
  }
  return lanes.sum();
}

inline float dot_f16(const uint8_t* weights, const float* x, size_t columns) {
  Lanes lanes;
  for (size_t i = 0; i < columns; i++) lanes.fold(i, half_to_float(load16(weights + 2 * i)), x[i]);
  return lanes.sum();
}

inline float dot_bf16(const uint8_t* weights, const float* x, size_t columns) {
  Lanes lanes;
  for (size_t i = 0; i < columns; i++) lanes.fold(i, std::bit_cast<float>(uint32_t{load16(weights + 2 * i)} << 16), x[i]);
  return lanes.sum();
}

inline float dot_q8_0(const uint8_t* weights, const float* x, size_t columns) {
  Lanes lanes;
  for (size_t i = 0; i < columns; i += 32, weights += 34) {
    const float d = half_to_float(load16(weights));
    for (size_t j = 0; j < 32; j++) lanes.fold(j, d * static_cast<float>(static_cast<int8_t>(weights[2 + j])), x[i + j]);
  }
  return lanes.sum();
}

#include "elementwise.inc"

}  // namespace

float zexp(float x) noexcept { return exp_one(x); }

float zlog(float x) noexcept {
  // x = 2ⁿ · m with m in [√½, √2).
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const int32_t exponent = static_cast<int32_t>(bits - 0x3F3504F3u) >> 23;
  const float n = static_cast<float>(exponent);
  const float m = std::bit_cast<float>(bits - (static_cast<uint32_t>(exponent) << 23));
  const float s = (m - 1.0f) / (m + 1.0f);
  const float z = s * s;
  float p = std::bit_cast<float>(0x3DBA2E8Cu);
  p = __builtin_fmaf(p, z, std::bit_cast<float>(0x3DE38E39u));
  p = __builtin_fmaf(p, z, std::bit_cast<float>(0x3E124925u));
  p = __builtin_fmaf(p, z, std::bit_cast<float>(0x3E4CCCCDu));
  p = __builtin_fmaf(p, z, std::bit_cast<float>(0x3EAAAAABu));
  const float t = s + s;
  return __builtin_fmaf(n, std::bit_cast<float>(0x3F317200u),
                        __builtin_fmaf(n, std::bit_cast<float>(0x35BFBE8Eu), __builtin_fmaf(t * z, p, t)));
}

constinit const Kernels kScalar = {"scalar", rows_f32, rows_f16, rows_bf16, rows_q8_0, scores, mix,
                             exp_shifted, silu_product, rms_norm, add};

}  // namespace zg::infer
