// 16 bytes at a time: multiplication by nibbles with byte shuffles.
#if defined(__x86_64__)
#include <immintrin.h>

#include "da_lanes.h"

#define ZG_TARGET __attribute__((target("ssse3")))

namespace zg {
namespace da_ssse3 {
namespace {

struct Lane {
  using V = __m128i;
  static constexpr size_t kBytes = 16;

  ZG_TARGET static inline V load(const uint8_t* p) noexcept { return _mm_loadu_si128(reinterpret_cast<const V*>(p)); }
  ZG_TARGET static inline void store(uint8_t* p, V v) noexcept { _mm_storeu_si128(reinterpret_cast<V*>(p), v); }
  ZG_TARGET static inline V add(V a, V b) noexcept { return _mm_xor_si128(a, b); }
  ZG_TARGET static inline V zero() noexcept { return _mm_setzero_si128(); }

  struct Factor {
    V t[8];  // low and high byte of the product, for each of four nibbles

    ZG_TARGET inline explicit Factor(const uint8_t* table) noexcept {
      for (size_t i = 0; i < 8; i++) {
        t[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table + 16 * i));
      }
    }

    ZG_TARGET inline void add(V lo, V hi, V& to_lo, V& to_hi) const noexcept {
      const V mask = _mm_set1_epi8(15);
      const V nibbles[4] = {_mm_and_si128(lo, mask), _mm_and_si128(_mm_srli_epi16(lo, 4), mask),
                            _mm_and_si128(hi, mask), _mm_and_si128(_mm_srli_epi16(hi, 4), mask)};
      for (size_t n = 0; n < 4; n++) {
        to_lo = Lane::add(to_lo, _mm_shuffle_epi8(t[2 * n], nibbles[n]));
        to_hi = Lane::add(to_hi, _mm_shuffle_epi8(t[2 * n + 1], nibbles[n]));
      }
    }
  };
};

#include "da_lanes.inc"

}  // namespace
}  // namespace da_ssse3

const Lanes kLanesSsse3 = {"ssse3", expand_nibbles, da_ssse3::forward, da_ssse3::backward, da_ssse3::scale};

}  // namespace zg
#endif
