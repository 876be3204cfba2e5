// The arithmetic of the deterministic mode zg-k1 (inference.md section 12) as one source for C++ and CUDA: elementary functions,
// folds of sums, half precision. Every operation rounds once and where it is written: no compiler may join or split them, so C++ is
// compiled with -ffp-contract=off and without -ffast-math, CUDA with --fmad=false -ftz=false -prec-div=true -prec-sqrt=true.
#pragma once

#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define ZG_RULE __host__ __device__ __forceinline__
#else
#include <cmath>
#define ZG_RULE inline
#endif

namespace zg::det {

// One rounding each.
ZG_RULE float fma1(float a, float b, float c) {
#ifdef __CUDA_ARCH__
  return __fmaf_rn(a, b, c);
#else
  return __builtin_fmaf(a, b, c);
#endif
}
ZG_RULE float add1(float a, float b) {
#ifdef __CUDA_ARCH__
  return __fadd_rn(a, b);
#else
  return a + b;
#endif
}
ZG_RULE float mul1(float a, float b) {
#ifdef __CUDA_ARCH__
  return __fmul_rn(a, b);
#else
  return a * b;
#endif
}
ZG_RULE float div1(float a, float b) {
#ifdef __CUDA_ARCH__
  return __fdiv_rn(a, b);
#else
  return a / b;
#endif
}
ZG_RULE float sqrt1(float a) {
#ifdef __CUDA_ARCH__
  return __fsqrt_rn(a);
#else
  return __builtin_sqrtf(a);
#endif
}
ZG_RULE float rint1(float a) {
#ifdef __CUDA_ARCH__
  return rintf(a);
#else
  return __builtin_rintf(a);
#endif
}
ZG_RULE uint32_t bits_of(float a) {
#ifdef __CUDA_ARCH__
  return __float_as_uint(a);
#else
  uint32_t u;
  memcpy(&u, &a, sizeof u);
  return u;
#endif
}
ZG_RULE float float_of(uint32_t u) {
#ifdef __CUDA_ARCH__
  return __uint_as_float(u);
#else
  float a;
  memcpy(&a, &u, sizeof a);
  return a;
#endif
}

ZG_RULE bool is_nan(float a) { return (bits_of(a) & 0x7fffffffu) > 0x7f800000u; }
ZG_RULE bool is_finite(float a) { return (bits_of(a) & 0x7f800000u) != 0x7f800000u; }
constexpr uint32_t kNan = 0x7fc00000u;

// IEEE half to float: exact, subnormal numbers count.
ZG_RULE float half_float(uint16_t half) {
#ifdef __CUDA_ARCH__
  float f;
  asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(half));
  return f;
#else
  const uint32_t sign = (half & 0x8000u) << 16;
  const uint32_t exponent = (half >> 10) & 31u;
  const uint32_t fraction = half & 1023u;
  if (exponent == 31) return float_of(sign | 0x7f800000u | fraction << 13);
  if (exponent != 0) return float_of(sign | (exponent + 112) << 23 | fraction << 13);
  // fraction · 2⁻²⁴.
  return float_of(bits_of(mul1(static_cast<float>(fraction), float_of(0x33800000u))) | sign);
#endif
}

// The scale 2^(e − 128) of an MXFP4 block: subnormal for 0 and 1, not a number for 255.
ZG_RULE float mx_scale(uint32_t e) {
  if (e == 255) return float_of(kNan);
  return float_of(e >= 2 ? (e - 1) << 23 : 0x00200000u << e);
}

// Float to IEEE half, to nearest even: beyond 65 504 (rounded) infinity, a NaN stays one.
ZG_RULE uint16_t float_half(float a) {
#ifdef __CUDA_ARCH__
  uint16_t h;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(a));
  return h;
#else
  const uint32_t bits = bits_of(a);
  const uint32_t sign = bits >> 16 & 0x8000u;
  const uint32_t m = bits & 0x7fffffffu;
  if (m > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);
  if (m >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);
  if (m < 0x38800000u) {
    // Subnormal: the sum's unit in the last place is 2⁻²⁴, so the addition rounds as wanted.
    const float shifted = add1(float_of(m), 0.5f);
    return static_cast<uint16_t>(sign | (bits_of(shifted) - 0x3f000000u));
  }
  const uint32_t odd = m >> 13 & 1u;
  return static_cast<uint16_t>(sign | ((m - 0x38000000u + 0xfffu + odd) >> 13));
#endif
}

// e to the x. Monotonic, zexp(0) = 1, at most 1.01 units in the last place off; 0 below −87.3, infinite above 88.7.
ZG_RULE float zexp(float x) {
  if (is_nan(x)) return x;
  if (x < -87.3f) return 0.0f;
  if (x > 88.7f) return float_of(0x7f800000u);
  const float n = rint1(mul1(x, float_of(0x3FB8AA3Bu)));
  float r = fma1(n, -float_of(0x3F317200u), x);
  r = fma1(n, -float_of(0x35BFBE8Eu), r);
  float p = float_of(0x39506967u);
  p = fma1(p, r, float_of(0x3AB743CEu));
  p = fma1(p, r, float_of(0x3C088908u));
  p = fma1(p, r, float_of(0x3D2AA9C1u));
  p = fma1(p, r, float_of(0x3E2AAAAAu));
  p = fma1(p, r, float_of(0x3F000000u));
  p = add1(fma1(p, mul1(r, r), r), 1.0f);
  return float_of(bits_of(p) + (static_cast<uint32_t>(static_cast<int32_t>(n)) << 23));
}

ZG_RULE float zsigmoid(float x) { return div1(1.0f, add1(1.0f, zexp(-x))); }
ZG_RULE float silu(float x) { return div1(x, add1(1.0f, zexp(-x))); }

// Hyperbolic tangent, odd: at most 2.6 units in the last place off.
ZG_RULE float ztanh(float x) {
  if (is_nan(x)) return x;
  const uint32_t sign = bits_of(x) & 0x80000000u;
  const float a = float_of(bits_of(x) & 0x7fffffffu);
  float y;
  if (a > 9.0f) {
    y = 1.0f;
  } else if (a >= 0.25f) {
    const float e = zexp(mul1(-2.0f, a));
    y = div1(add1(1.0f, -e), add1(1.0f, e));
  } else {
    const float z = mul1(a, a);
    float p = float_of(0x3CB327A4u);
    p = fma1(p, z, float_of(0xBD5D0DD1u));
    p = fma1(p, z, float_of(0x3E088889u));
    p = fma1(p, z, float_of(0xBEAAAAABu));
    y = fma1(mul1(a, z), p, a);
  }
  return float_of(bits_of(y) | sign);
}

// The form with the hyperbolic tangent.
ZG_RULE float gelu(float x) {
  const float i = fma1(mul1(mul1(x, x), x), float_of(0x3D372713u), x);
  return mul1(mul1(x, 0.5f), add1(1.0f, ztanh(mul1(i, float_of(0x3F4C422Au)))));
}

// Natural logarithm of a positive normal number, for log-probabilities only: at most 2 units in the last place off.
ZG_RULE float zlog(float x) {
  const int32_t shifted = static_cast<int32_t>(bits_of(x) - 0x3F3504F3u);
  const int32_t exponent = shifted >> 23;
  const float n = static_cast<float>(exponent);
  const float m = float_of(bits_of(x) - (static_cast<uint32_t>(exponent) << 23));
  const float s = div1(add1(m, -1.0f), add1(m, 1.0f));
  const float z = mul1(s, s);
  float p = float_of(0x3DBA2E8Cu);
  p = fma1(p, z, float_of(0x3DE38E39u));
  p = fma1(p, z, float_of(0x3E124925u));
  p = fma1(p, z, float_of(0x3E4CCCCDu));
  p = fma1(p, z, float_of(0x3EAAAAABu));
  const float t = add1(s, s);
  return fma1(n, float_of(0x3F317200u), fma1(n, float_of(0x35BFBE8Eu), fma1(mul1(t, z), p, t)));
}

// The larger; a NaN wins over everything, and a zero counts as +0.
ZG_RULE float larger(float a, float b) {
  if (is_nan(a)) return a;
  if (is_nan(b)) return b;
  const float m = a > b ? a : b;
  return m == 0.0f ? 0.0f : m;
}

// An activation block of 32 (section 2): scale and factor for the largest absolute value's bits.
struct ActivationScale {
  float d;
  // Values times this, rounded half to even, are the quants.
  float factor;
};
ZG_RULE ActivationScale activation_scale(uint32_t largest_bits) {
  if (largest_bits >= 0x7f800000u) return {float_of(kNan), 0.0f};
  // 2⁻¹⁰⁰.
  if (largest_bits < 0x0d800000u) return {0.0f, 0.0f};
  const float a = float_of(largest_bits);
  return {div1(a, 127.0f), div1(127.0f, a)};
}
ZG_RULE int32_t activation_quant(float x, float factor) {
  // A factor of 0 stands for a block without quants; x may then be infinite, and the product no number.
  return factor == 0.0f ? 0 : static_cast<int32_t>(rint1(mul1(x, factor)));
}

// 1 / root of the mean square, from the R64 fold of the squares.
ZG_RULE float rms_factor(float sum, float count, float epsilon) {
  return div1(1.0f, sqrt1(add1(div1(sum, count), epsilon)));
}

// R64 over 64 lanes' folds: 64 → 32 → … → 1.
inline float join64(float* lanes) {
  for (int half = 32; half >= 1; half /= 2) {
    for (int j = 0; j < half; j++) lanes[j] = add1(lanes[j], lanes[j + half]);
  }
  return lanes[0];
}

}  // namespace zg::det
