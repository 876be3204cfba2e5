// Four messages of any length in 256-bit registers.
#if defined(__x86_64__)
#include <immintrin.h>

#include <cstring>

#include "base/keccak_batch.h"
#include "keccak_constants.h"
#include "transpose4.h"

#define ZG_TARGET __attribute__((target("avx2")))

namespace zg {
namespace batch256 {
namespace {

struct Lane {
  using V = __m256i;
  static constexpr size_t kCount = 4;
  static constexpr bool kThreeInputs = false;

  ZG_TARGET static inline V xor2(V a, V b) noexcept { return _mm256_xor_si256(a, b); }
  ZG_TARGET static inline V xor3(V a, V b, V c) noexcept { return _mm256_xor_si256(_mm256_xor_si256(a, b), c); }
  ZG_TARGET static inline V chi(V a, V b, V c) noexcept { return _mm256_xor_si256(a, _mm256_andnot_si256(b, c)); }
  ZG_TARGET static inline V all(uint64_t x) noexcept { return _mm256_set1_epi64x(static_cast<long long>(x)); }
  template <int N>
  ZG_TARGET static inline V rol(V a) noexcept {
    return _mm256_or_si256(_mm256_slli_epi64(a, N), _mm256_srli_epi64(a, 64 - N));
  }
  ZG_TARGET static inline void load(const uint8_t* p, size_t stride, V* w, size_t words) noexcept {
    load_transposed4(p, stride, w, words);
  }
  ZG_TARGET static inline void store4(const V* s, uint8_t* out) noexcept { store_transposed4(s, out); }
};

#include "keccak_round.inc"

#include "keccak_batch_lanes.inc"

}  // namespace
}  // namespace batch256

extern const KeccakLanes kBatchAvx2;
const KeccakLanes kBatchAvx2 = {"avx2", batch256::Lane::kCount, batch256::run};

}  // namespace zg
#endif
