// Four rows of 64-bit words to four columns and back: AVX2, used by both 4-lane paths.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace zg {

// a, b, c, d are rows; on return they are columns. The operation is its own inverse.
__attribute__((target("avx2"), always_inline)) inline void transpose4(__m256i& a, __m256i& b, __m256i& c,
                                                                      __m256i& d) noexcept {
  const __m256i ab_even = _mm256_unpacklo_epi64(a, b);  // a0 b0 a2 b2
  const __m256i ab_odd = _mm256_unpackhi_epi64(a, b);   // a1 b1 a3 b3
  const __m256i cd_even = _mm256_unpacklo_epi64(c, d);
  const __m256i cd_odd = _mm256_unpackhi_epi64(c, d);
  a = _mm256_permute2x128_si256(ab_even, cd_even, 0x20);  // a0 b0 c0 d0
  b = _mm256_permute2x128_si256(ab_odd, cd_odd, 0x20);
  c = _mm256_permute2x128_si256(ab_even, cd_even, 0x31);
  d = _mm256_permute2x128_si256(ab_odd, cd_odd, 0x31);
}

// w[i] = word i of the messages at p, p + stride, p + 2·stride, p + 3·stride, for i < words (a multiple of 4).
__attribute__((target("avx2"), always_inline)) inline void load_transposed4(const uint8_t* p, size_t stride, __m256i* w,
                                                                            size_t words) noexcept {
  for (size_t i = 0; i < words; i += 4) {
    const uint8_t* at = p + 8 * i;
    w[i] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
    w[i + 1] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at + stride));
    w[i + 2] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at + 2 * stride));
    w[i + 3] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at + 3 * stride));
    transpose4(w[i], w[i + 1], w[i + 2], w[i + 3]);
  }
}

// out[32·i … 32·i + 31] = words 0 to 3 of message i.
__attribute__((target("avx2"), always_inline)) inline void store_transposed4(const __m256i* s, uint8_t* out) noexcept {
  __m256i a = s[0];
  __m256i b = s[1];
  __m256i c = s[2];
  __m256i d = s[3];
  transpose4(a, b, c, d);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), a);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 32), b);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 64), c);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 96), d);
}

}  // namespace zg
