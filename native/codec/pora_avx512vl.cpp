// Four seals in 256-bit registers with AVX-512VL, which rotates in one instruction.
#if defined(__x86_64__)
#include <immintrin.h>

#include "blake2b.h"
#include "pora.h"
#include "transpose4.h"

#define ZG_TARGET __attribute__((target("avx2,avx512f,avx512vl")))

namespace zg {
namespace pora_avx512vl {
namespace {

struct Lane {
  template <int N>
  ZG_TARGET static inline __m256i right(__m256i a) noexcept {
    return _mm256_ror_epi64(a, N);
  }
};

#include "blake2b_lanes.inc"

}  // namespace
}  // namespace pora_avx512vl

const PoraPath kPoraAvx512vl = {"avx512vl", 4, pora_avx512vl::qualities};

}  // namespace zg
#endif
