// 32 bytes at a time: multiplication by nibbles with byte shuffles.
#if defined(__x86_64__)
#include <immintrin.h>

#include "rs.h"

#define ZG_TARGET __attribute__((target("avx2")))

namespace zg {
namespace rs_avx2 {
namespace {

const RsTables& tables = rs_tables();

struct Lane {
  using V = __m256i;
  static constexpr size_t kBytes = 32;

  ZG_TARGET static inline V load(const uint8_t* p) noexcept { return _mm256_loadu_si256(reinterpret_cast<const V*>(p)); }
  ZG_TARGET static inline void store(uint8_t* p, V v) noexcept { _mm256_storeu_si256(reinterpret_cast<V*>(p), v); }
  ZG_TARGET static inline V zero() noexcept { return _mm256_setzero_si256(); }
  ZG_TARGET static inline V xor_of(V a, V b) noexcept { return _mm256_xor_si256(a, b); }

  struct Factor {
    V low;
    V high;

    ZG_TARGET inline explicit Factor(uint8_t coefficient) noexcept {
      const auto* t = reinterpret_cast<const __m128i*>(tables.nibbles[coefficient]);
      low = _mm256_broadcastsi128_si256(_mm_loadu_si128(t));
      high = _mm256_broadcastsi128_si256(_mm_loadu_si128(t + 1));
    }

    ZG_TARGET inline V times(V v) const noexcept {
      const V mask = _mm256_set1_epi8(15);
      return _mm256_xor_si256(_mm256_shuffle_epi8(low, _mm256_and_si256(v, mask)),
                              _mm256_shuffle_epi8(high, _mm256_and_si256(_mm256_srli_epi16(v, 4), mask)));
    }
  };
};

#include "rs_lanes.inc"

}  // namespace
}  // namespace rs_avx2

const RsPath kRsAvx2 = {"avx2", rs_avx2::dot};

}  // namespace zg
#endif
