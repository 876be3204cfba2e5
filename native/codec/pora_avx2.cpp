// Four seals in 256-bit registers with AVX2.
#if defined(__x86_64__)
#include <immintrin.h>

#include "blake2b.h"
#include "pora.h"
#include "transpose4.h"

#define ZG_TARGET __attribute__((target("avx2")))

namespace zg {
namespace pora_avx2 {
namespace {

struct Lane {
  template <int N>
  ZG_TARGET static inline __m256i right(__m256i a) noexcept {
    if constexpr (N == 32) {
      return _mm256_shuffle_epi32(a, 0xb1);
    } else if constexpr (N == 24) {
      return _mm256_shuffle_epi8(a, _mm256_setr_epi8(3, 4, 5, 6, 7, 0, 1, 2, 11, 12, 13, 14, 15, 8, 9, 10,  //
                                                     3, 4, 5, 6, 7, 0, 1, 2, 11, 12, 13, 14, 15, 8, 9, 10));
    } else if constexpr (N == 16) {
      return _mm256_shuffle_epi8(a, _mm256_setr_epi8(2, 3, 4, 5, 6, 7, 0, 1, 10, 11, 12, 13, 14, 15, 8, 9,  //
                                                     2, 3, 4, 5, 6, 7, 0, 1, 10, 11, 12, 13, 14, 15, 8, 9));
    } else {
      static_assert(N == 63);
      return _mm256_xor_si256(_mm256_srli_epi64(a, 63), _mm256_add_epi64(a, a));
    }
  }
};

#include "blake2b_lanes.inc"

}  // namespace
}  // namespace pora_avx2

const PoraPath kPoraAvx2 = {"avx2", 4, pora_avx2::qualities};

}  // namespace zg
#endif
