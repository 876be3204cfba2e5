// Eight messages of any length in 512-bit registers.
#if defined(__x86_64__)
// GCC 12 reports its own header: _mm512_undefined_epi32 reads an uninitialised value on purpose (its bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#include <cstring>

#include "base/keccak_batch.h"
#include "keccak_constants.h"

#define ZG_TARGET __attribute__((target("avx2,avx512f,avx512vl")))

namespace zg {
namespace batch512 {
namespace {

struct Lane {
  using V = __m512i;
  static constexpr size_t kCount = 8;
  static constexpr bool kThreeInputs = true;

  ZG_TARGET static inline V xor2(V a, V b) noexcept { return _mm512_xor_si512(a, b); }
  ZG_TARGET static inline V xor3(V a, V b, V c) noexcept { return _mm512_ternarylogic_epi64(a, b, c, 0x96); }
  ZG_TARGET static inline V chi(V a, V b, V c) noexcept { return _mm512_ternarylogic_epi64(a, b, c, 0xd2); }
  ZG_TARGET static inline V all(uint64_t x) noexcept { return _mm512_set1_epi64(static_cast<long long>(x)); }
  template <int N>
  ZG_TARGET static inline V rol(V a) noexcept {
    return _mm512_rol_epi64(a, N);
  }

  // w[i] = word i of each message; eight words of eight messages a step.
  ZG_TARGET static inline void load(const uint8_t* p, size_t stride, V* w, size_t words) noexcept {
    for (size_t i = 0; i < words; i += 8) {
      V even[4];
      V odd[4];
      for (size_t k = 0; k < 4; k++) {
        const V a = _mm512_loadu_si512(p + 8 * i + 2 * k * stride);
        const V b = _mm512_loadu_si512(p + 8 * i + (2 * k + 1) * stride);
        even[k] = _mm512_unpacklo_epi64(a, b);
        odd[k] = _mm512_unpackhi_epi64(a, b);
      }
      blocks(even, w + i);
      blocks(odd, w + i + 1);
    }
  }

  ZG_TARGET static inline void store4(const V* s, uint8_t* out) noexcept {
    alignas(64) uint64_t words[4][8];
    for (size_t i = 0; i < 4; i++) _mm512_store_si512(words[i], s[i]);
    for (size_t m = 0; m < 8; m++)
      for (size_t i = 0; i < 4; i++) std::memcpy(out + 32 * m + 8 * i, &words[i][m], 8);
  }

 private:
  // q[k] has 128-bit blocks (words 0, 2, 4, 6) of message pair k; out[0], out[2], out[4], out[6] get one block of every pair.
  ZG_TARGET static inline void blocks(const V (&q)[4], V* out) noexcept {
    const V low01 = _mm512_shuffle_i64x2(q[0], q[1], 0x88);
    const V high01 = _mm512_shuffle_i64x2(q[0], q[1], 0xdd);
    const V low23 = _mm512_shuffle_i64x2(q[2], q[3], 0x88);
    const V high23 = _mm512_shuffle_i64x2(q[2], q[3], 0xdd);
    out[0] = _mm512_shuffle_i64x2(low01, low23, 0x88);
    out[2] = _mm512_shuffle_i64x2(high01, high23, 0x88);
    out[4] = _mm512_shuffle_i64x2(low01, low23, 0xdd);
    out[6] = _mm512_shuffle_i64x2(high01, high23, 0xdd);
  }
};

#include "keccak_round.inc"

#include "keccak_batch_lanes.inc"

}  // namespace
}  // namespace batch512

extern const KeccakLanes kBatchAvx512;
const KeccakLanes kBatchAvx512 = {"avx512", batch512::Lane::kCount, batch512::run};

}  // namespace zg
#endif
