// Kernels in 256-bit registers: four accumulators are the 32 lanes.
#if defined(__x86_64__)
#include <immintrin.h>

#include <bit>
#include <cstring>

#include "kernels.h"
#include "tensor_type.h"

#define ZG_TARGET __attribute__((target("avx2,fma,f16c")))

namespace zg::infer {
namespace {

struct Lanes {
  __m256 a, b, c, d;
};

ZG_TARGET inline Lanes zero() {
  const __m256 z = _mm256_setzero_ps();
  return {z, z, z, z};
}

ZG_TARGET inline float sum(const Lanes& l) {
  const __m256 eight = _mm256_add_ps(_mm256_add_ps(l.a, l.c), _mm256_add_ps(l.b, l.d));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

// Folds the columns behind the last whole 32 one by one: lanes without a column must stay untouched, even by a zero.
template <typename Widen>
ZG_TARGET inline float finish(const Lanes& l, size_t rest, const float* x, Widen widen) {
  if (rest == 0) return sum(l);
  float v[32];
  _mm256_storeu_ps(v, l.a);
  _mm256_storeu_ps(v + 8, l.b);
  _mm256_storeu_ps(v + 16, l.c);
  _mm256_storeu_ps(v + 24, l.d);
  for (size_t j = 0; j < rest; j++) v[j] = __builtin_fmaf(widen(j), x[j], v[j]);
  return sum({_mm256_loadu_ps(v), _mm256_loadu_ps(v + 8), _mm256_loadu_ps(v + 16), _mm256_loadu_ps(v + 24)});
}

uint16_t load16(const uint8_t* p) {
  uint16_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

ZG_TARGET inline float dot_f32(const uint8_t* weights, const float* x, size_t columns) {
  Lanes l = zero();
  size_t i = 0;
  for (; i + 32 <= columns; i += 32) {
    const auto* w = reinterpret_cast<const float*>(weights + 4 * i);
    l.a = _mm256_fmadd_ps(_mm256_loadu_ps(w), _mm256_loadu_ps(x + i), l.a);
    l.b = _mm256_fmadd_ps(_mm256_loadu_ps(w + 8), _mm256_loadu_ps(x + i + 8), l.b);
    l.c = _mm256_fmadd_ps(_mm256_loadu_ps(w + 16), _mm256_loadu_ps(x + i + 16), l.c);
    l.d = _mm256_fmadd_ps(_mm256_loadu_ps(w + 24), _mm256_loadu_ps(x + i + 24), l.d);
  }
  return finish(l, columns - i, x + i, [weights, i](size_t j) {
    float w;
    std::memcpy(&w, weights + 4 * (i + j), sizeof w);
    return w;
  });
}

ZG_TARGET inline __m256 halves(const uint8_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}

ZG_TARGET inline float dot_f16(const uint8_t* weights, const float* x, size_t columns) {
  Lanes l = zero();
  size_t i = 0;
  for (; i + 32 <= columns; i += 32) {
    const uint8_t* w = weights + 2 * i;
    l.a = _mm256_fmadd_ps(halves(w), _mm256_loadu_ps(x + i), l.a);
    l.b = _mm256_fmadd_ps(halves(w + 16), _mm256_loadu_ps(x + i + 8), l.b);
    l.c = _mm256_fmadd_ps(halves(w + 32), _mm256_loadu_ps(x + i + 16), l.c);
    l.d = _mm256_fmadd_ps(halves(w + 48), _mm256_loadu_ps(x + i + 24), l.d);
  }
  return finish(l, columns - i, x + i,
                [weights, i](size_t j) { return half_to_float(load16(weights + 2 * (i + j))); });
}

ZG_TARGET inline __m256 upper_halves(const uint8_t* p) {
  const __m128i words = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(words), 16));
}

ZG_TARGET inline float dot_bf16(const uint8_t* weights, const float* x, size_t columns) {
  Lanes l = zero();
  size_t i = 0;
  for (; i + 32 <= columns; i += 32) {
    const uint8_t* w = weights + 2 * i;
    l.a = _mm256_fmadd_ps(upper_halves(w), _mm256_loadu_ps(x + i), l.a);
    l.b = _mm256_fmadd_ps(upper_halves(w + 16), _mm256_loadu_ps(x + i + 8), l.b);
    l.c = _mm256_fmadd_ps(upper_halves(w + 32), _mm256_loadu_ps(x + i + 16), l.c);
    l.d = _mm256_fmadd_ps(upper_halves(w + 48), _mm256_loadu_ps(x + i + 24), l.d);
  }
  return finish(l, columns - i, x + i,
                [weights, i](size_t j) { return std::bit_cast<float>(uint32_t{load16(weights + 2 * (i + j))} << 16); });
}

// Eight signed bytes times the block's scale: exact.
ZG_TARGET inline __m256 scaled(const uint8_t* q, __m256 d) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(q));
  return _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)));
}

ZG_TARGET inline float dot_q8_0(const uint8_t* weights, const float* x, size_t columns) {
  Lanes l = zero();
  for (size_t i = 0; i < columns; i += 32, weights += 34) {
    const __m256 d = _mm256_set1_ps(_cvtsh_ss(load16(weights)));
    const uint8_t* q = weights + 2;
    l.a = _mm256_fmadd_ps(scaled(q, d), _mm256_loadu_ps(x + i), l.a);
    l.b = _mm256_fmadd_ps(scaled(q + 8, d), _mm256_loadu_ps(x + i + 8), l.b);
    l.c = _mm256_fmadd_ps(scaled(q + 16, d), _mm256_loadu_ps(x + i + 16), l.c);
    l.d = _mm256_fmadd_ps(scaled(q + 24, d), _mm256_loadu_ps(x + i + 24), l.d);
  }
  return sum(l);
}

#include "elementwise.inc"

}  // namespace

constinit const Kernels kAvx2 = {"avx2", rows_f32, rows_f16, rows_bf16, rows_q8_0, scores, mix,
                             exp_shifted, silu_product, rms_norm, add};

}  // namespace zg::infer
#endif
