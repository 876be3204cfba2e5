// Kernels in 512-bit registers: two accumulators are the 32 lanes.
#if defined(__x86_64__)
// GCC 12 warns falsely about uninitialized values inside its own header.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>

#include <bit>
#include <cstring>

#include "kernels.h"
#include "tensor_type.h"

#define ZG_TARGET __attribute__((target("avx512f,avx2,fma,f16c")))

namespace zg::infer {
namespace {

struct Lanes {
  __m512 a, b;
};

ZG_TARGET inline float sum(const Lanes& l) {
  const __m512 sixteen = _mm512_add_ps(l.a, l.b);
  const __m256 upper = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(sixteen), 1));
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(sixteen), upper);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

// Lanes that have a column when rest (0 to 32) are left.
struct Masks {
  __mmask16 a, b;
};

inline Masks masks(size_t rest) {
  const uint32_t bits = (uint64_t{1} << rest) - 1;
  return {static_cast<__mmask16>(bits), static_cast<__mmask16>(bits >> 16)};
}

uint16_t load16(const uint8_t* p) {
  uint16_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

ZG_TARGET inline float dot_f32(const uint8_t* weights, const float* x, size_t columns) {
  Lanes l = {_mm512_setzero_ps(), _mm512_setzero_ps()};
  size_t i = 0;
  for (; i + 32 <= columns; i += 32) {
    const uint8_t* w = weights + 4 * i;
    l.a = _mm512_fmadd_ps(_mm512_loadu_ps(w), _mm512_loadu_ps(x + i), l.a);
    l.b = _mm512_fmadd_ps(_mm512_loadu_ps(w + 64), _mm512_loadu_ps(x + i + 16), l.b);
  }
  if (i < columns) {
    const Masks m = masks(columns - i);
    const uint8_t* w = weights + 4 * i;
    l.a = _mm512_mask3_fmadd_ps(_mm512_maskz_loadu_ps(m.a, w), _mm512_maskz_loadu_ps(m.a, x + i), l.a, m.a);
    l.b = _mm512_mask3_fmadd_ps(_mm512_maskz_loadu_ps(m.b, w + 64), _mm512_maskz_loadu_ps(m.b, x + i + 16), l.b, m.b);
  }
  return sum(l);
}

// 16-bit weights, of which the last ones are copied out so that no load leaves the row.
template <typename Widen>
ZG_TARGET inline float dot_16(const uint8_t* weights, const float* x, size_t columns, Widen widen) {
  Lanes l = {_mm512_setzero_ps(), _mm512_setzero_ps()};
  size_t i = 0;
  for (; i + 32 <= columns; i += 32) {
    const uint8_t* w = weights + 2 * i;
    l.a = _mm512_fmadd_ps(widen(w), _mm512_loadu_ps(x + i), l.a);
    l.b = _mm512_fmadd_ps(widen(w + 32), _mm512_loadu_ps(x + i + 16), l.b);
  }
  if (i < columns) {
    const Masks m = masks(columns - i);
    uint8_t w[64] = {};
    std::memcpy(w, weights + 2 * i, 2 * (columns - i));
    l.a = _mm512_mask3_fmadd_ps(widen(w), _mm512_maskz_loadu_ps(m.a, x + i), l.a, m.a);
    l.b = _mm512_mask3_fmadd_ps(widen(w + 32), _mm512_maskz_loadu_ps(m.b, x + i + 16), l.b, m.b);
  }
  return sum(l);
}

struct Halves {
  ZG_TARGET inline __m512 operator()(const uint8_t* p) const {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
};

struct UpperHalves {
  ZG_TARGET inline __m512 operator()(const uint8_t* p) const {
    const __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(words), 16));
  }
};

ZG_TARGET inline float dot_f16(const uint8_t* weights, const float* x, size_t columns) {
  return dot_16(weights, x, columns, Halves{});
}

ZG_TARGET inline float dot_bf16(const uint8_t* weights, const float* x, size_t columns) {
  return dot_16(weights, x, columns, UpperHalves{});
}

// Sixteen signed bytes times the block's scale: exact.
ZG_TARGET inline __m512 scaled(const uint8_t* q, __m512 d) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(q));
  return _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)));
}

ZG_TARGET inline float dot_q8_0(const uint8_t* weights, const float* x, size_t columns) {
  Lanes l = {_mm512_setzero_ps(), _mm512_setzero_ps()};
  for (size_t i = 0; i < columns; i += 32, weights += 34) {
    const __m512 d = _mm512_set1_ps(_cvtsh_ss(load16(weights)));
    l.a = _mm512_fmadd_ps(scaled(weights + 2, d), _mm512_loadu_ps(x + i), l.a);
    l.b = _mm512_fmadd_ps(scaled(weights + 18, d), _mm512_loadu_ps(x + i + 16), l.b);
  }
  return sum(l);
}

#include "elementwise.inc"

}  // namespace

constinit const Kernels kAvx512 = {"avx512", rows_f32, rows_f16, rows_bf16, rows_q8_0, scores, mix,
                             exp_shifted, silu_product, rms_norm, add};

}  // namespace zg::infer
#endif
