// Four messages in 256-bit registers with AVX2: no rotate and no three-input logic, so twice the operations of AVX-512VL.
#if defined(__x86_64__)
#include <immintrin.h>

#include "keccak.h"
#include "keccak_constants.h"
#include "transpose4.h"

#define ZG_TARGET __attribute__((target("avx2")))

namespace zg {
namespace avx2 {
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
    // Whole bytes turn in one shuffle instead of two shifts and an or.
    if constexpr (N == 8) {
      return _mm256_shuffle_epi8(a, _mm256_set_epi8(14, 13, 12, 11, 10, 9, 8, 15, 6, 5, 4, 3, 2, 1, 0, 7,  //
                                                    14, 13, 12, 11, 10, 9, 8, 15, 6, 5, 4, 3, 2, 1, 0, 7));
    } else if constexpr (N == 56) {
      return _mm256_shuffle_epi8(a, _mm256_set_epi8(8, 15, 14, 13, 12, 11, 10, 9, 0, 7, 6, 5, 4, 3, 2, 1,  //
                                                    8, 15, 14, 13, 12, 11, 10, 9, 0, 7, 6, 5, 4, 3, 2, 1));
    } else {
      return _mm256_or_si256(_mm256_slli_epi64(a, N), _mm256_srli_epi64(a, 64 - N));
    }
  }

  ZG_TARGET static inline void load(const uint8_t* p, size_t stride, V* w, size_t words) noexcept {
    load_transposed4(p, stride, w, words);
  }
  ZG_TARGET static inline void load_hashes(const uint8_t* p, V* w) noexcept { load_transposed4(p, kHashBytes, w, 4); }
  ZG_TARGET static inline void store4(const V* s, uint8_t* out) noexcept { store_transposed4(s, out); }
};

#include "keccak_round.inc"

#include "keccak_lanes.inc"

}  // namespace
}  // namespace avx2

const Kernels kAvx2 = {"avx2", keccak256_bmi2, 4, avx2::leaves, avx2::nodes, avx2::words, avx2::stream};

}  // namespace zg
#endif
