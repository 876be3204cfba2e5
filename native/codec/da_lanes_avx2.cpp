// 32 bytes at a time: multiplication by nibbles with byte shuffles.
#if defined(__x86_64__)
#include <immintrin.h>

#include "da_lanes.h"

#define ZG_TARGET __attribute__((target("avx2")))

namespace zg {
namespace da_avx2 {
namespace {

struct Lane {
  using V = __m256i;
  static constexpr size_t kBytes = 32;

  ZG_TARGET static inline V load(const uint8_t* p) noexcept { return _mm256_loadu_si256(reinterpret_cast<const V*>(p)); }
  ZG_TARGET static inline void store(uint8_t* p, V v) noexcept { _mm256_storeu_si256(reinterpret_cast<V*>(p), v); }
  ZG_TARGET static inline V add(V a, V b) noexcept { return _mm256_xor_si256(a, b); }
  ZG_TARGET static inline V zero() noexcept { return _mm256_setzero_si256(); }

  struct Factor {
    V t[8];  // low and high byte of the product, for each of four nibbles

    ZG_TARGET inline explicit Factor(const uint8_t* table) noexcept {
      for (size_t i = 0; i < 8; i++) {
        t[i] = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table + 16 * i)));
      }
    }

    ZG_TARGET inline void add(V lo, V hi, V& to_lo, V& to_hi) const noexcept {
      const V mask = _mm256_set1_epi8(15);
      const V nibbles[4] = {_mm256_and_si256(lo, mask), _mm256_and_si256(_mm256_srli_epi16(lo, 4), mask),
                            _mm256_and_si256(hi, mask), _mm256_and_si256(_mm256_srli_epi16(hi, 4), mask)};
      for (size_t n = 0; n < 4; n++) {
        to_lo = Lane::add(to_lo, _mm256_shuffle_epi8(t[2 * n], nibbles[n]));
        to_hi = Lane::add(to_hi, _mm256_shuffle_epi8(t[2 * n + 1], nibbles[n]));
      }
    }
  };
};

#include "da_lanes.inc"

}  // namespace
}  // namespace da_avx2

const Lanes kLanesAvx2 = {"avx2", expand_nibbles, da_avx2::forward, da_avx2::backward, da_avx2::scale};

}  // namespace zg
#endif
