// Four messages in 256-bit registers with AVX-512VL: rotates and three-input logic in one instruction each, 32 registers.
#if defined(__x86_64__)
#include <immintrin.h>

#include "keccak.h"
#include "keccak_constants.h"
#include "transpose4.h"

#define ZG_TARGET __attribute__((target("avx2,avx512f,avx512vl")))

namespace zg {
namespace avx512vl {
namespace {

struct Lane {
  using V = __m256i;
  static constexpr size_t kCount = 4;
  static constexpr bool kThreeInputs = true;

  ZG_TARGET static inline V xor2(V a, V b) noexcept { return _mm256_xor_si256(a, b); }
  ZG_TARGET static inline V xor3(V a, V b, V c) noexcept { return _mm256_ternarylogic_epi64(a, b, c, 0x96); }
  // a ^ (~b & c)
  ZG_TARGET static inline V chi(V a, V b, V c) noexcept { return _mm256_ternarylogic_epi64(a, b, c, 0xd2); }
  ZG_TARGET static inline V all(uint64_t x) noexcept { return _mm256_set1_epi64x(static_cast<long long>(x)); }

  template <int N>
  ZG_TARGET static inline V rol(V a) noexcept {
    return _mm256_rol_epi64(a, N);
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
}  // namespace avx512vl

const Kernels kAvx512vl = {"avx512vl", keccak256_avx512vl, 4, avx512vl::leaves, avx512vl::nodes, avx512vl::words, avx512vl::stream};

}  // namespace zg
#endif
