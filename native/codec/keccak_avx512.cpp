// Eight messages in 512-bit registers.
#if defined(__x86_64__)
// GCC 12 reports its own header: _mm512_undefined_epi32 reads an uninitialised value on purpose (its bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#include "keccak.h"
#include "keccak_constants.h"

#define ZG_TARGET __attribute__((target("avx2,avx512f,avx512vl")))

namespace zg {
namespace avx512 {
namespace {

struct Lane {
  using V = __m512i;
  static constexpr size_t kCount = 8;
  static constexpr bool kThreeInputs = true;

  ZG_TARGET static inline V xor2(V a, V b) noexcept { return _mm512_xor_si512(a, b); }
  ZG_TARGET static inline V xor3(V a, V b, V c) noexcept { return _mm512_ternarylogic_epi64(a, b, c, 0x96); }
  // a ^ (~b & c)
  ZG_TARGET static inline V chi(V a, V b, V c) noexcept { return _mm512_ternarylogic_epi64(a, b, c, 0xd2); }
  ZG_TARGET static inline V all(uint64_t x) noexcept { return _mm512_set1_epi64(static_cast<long long>(x)); }

  template <int N>
  ZG_TARGET static inline V rol(V a) noexcept {
    return _mm512_rol_epi64(a, N);
  }

  // Eight words of eight messages a step: loads, then pairs within 128 bits, then two levels of 128-bit blocks.
  ZG_TARGET static inline void load(const uint8_t* p, size_t stride, V* w, size_t words) noexcept {
    for (size_t i = 0; i < words; i += 8) {
      const uint8_t* at = p + 8 * i;
      V r[8];
      for (size_t m = 0; m < 8; m++) r[m] = _mm512_loadu_si512(at + m * stride);
      V even[4];  // words 0, 2, 4, 6 of messages 2k and 2k + 1
      V odd[4];
      for (size_t k = 0; k < 4; k++) {
        even[k] = _mm512_unpacklo_epi64(r[2 * k], r[2 * k + 1]);
        odd[k] = _mm512_unpackhi_epi64(r[2 * k], r[2 * k + 1]);
      }
      blocks(even, w + i);
      blocks(odd, w + i + 1);
    }
  }

  // q[k] has 128-bit blocks (words 0, 2, 4, 6) of message pair k; out[0], out[2], out[4], out[6] get one block of every pair.
  ZG_TARGET static inline void blocks(const V (&q)[4], V* out) noexcept {
    const V low01 = _mm512_shuffle_i64x2(q[0], q[1], 0x88);   // blocks 0 and 2 of pairs 0, 1
    const V high01 = _mm512_shuffle_i64x2(q[0], q[1], 0xdd);  // blocks 1 and 3
    const V low23 = _mm512_shuffle_i64x2(q[2], q[3], 0x88);
    const V high23 = _mm512_shuffle_i64x2(q[2], q[3], 0xdd);
    out[0] = _mm512_shuffle_i64x2(low01, low23, 0x88);
    out[2] = _mm512_shuffle_i64x2(high01, high23, 0x88);
    out[4] = _mm512_shuffle_i64x2(low01, low23, 0xdd);
    out[6] = _mm512_shuffle_i64x2(high01, high23, 0xdd);
  }

  // Eight messages of four words. There is one such load a permutation, so four gathers do.
  ZG_TARGET static inline void load_hashes(const uint8_t* p, V* w) noexcept {
    const V index = _mm512_setr_epi64(0, 4, 8, 12, 16, 20, 24, 28);
    for (size_t i = 0; i < 4; i++) w[i] = _mm512_i64gather_epi64(index, p + 8 * i, 8);
  }

  // Four words of eight messages as eight times 32 bytes: pairs of words, then the 128-bit blocks of each message side by side.
  ZG_TARGET static inline void store4(const V* s, uint8_t* out) noexcept {
    const V even01 = _mm512_unpacklo_epi64(s[0], s[1]);  // words 0, 1 of messages 0, 2, 4, 6
    const V odd01 = _mm512_unpackhi_epi64(s[0], s[1]);   // of messages 1, 3, 5, 7
    const V even23 = _mm512_unpacklo_epi64(s[2], s[3]);
    const V odd23 = _mm512_unpackhi_epi64(s[2], s[3]);
    // Block b of even01, even23, odd01, odd23 belongs to messages 2b and 2b + 1.
    const V a = _mm512_shuffle_i64x2(even01, even23, 0x44);  // e01[0] e01[1] e23[0] e23[1]
    const V b = _mm512_shuffle_i64x2(odd01, odd23, 0x44);
    const V c = _mm512_shuffle_i64x2(even01, even23, 0xee);
    const V d = _mm512_shuffle_i64x2(odd01, odd23, 0xee);
    _mm512_storeu_si512(out, _mm512_shuffle_i64x2(a, b, 0x88));  // e01[0] e23[0] o01[0] o23[0]: messages 0 and 1
    _mm512_storeu_si512(out + 64, _mm512_shuffle_i64x2(a, b, 0xdd));
    _mm512_storeu_si512(out + 128, _mm512_shuffle_i64x2(c, d, 0x88));
    _mm512_storeu_si512(out + 192, _mm512_shuffle_i64x2(c, d, 0xdd));
  }
};

#include "keccak_round.inc"

#include "keccak_lanes.inc"

}  // namespace
}  // namespace avx512

const Kernels kAvx512 = {"avx512", keccak256_avx512vl, 8, avx512::leaves, avx512::nodes, avx512::words, avx512::stream};

}  // namespace zg
#endif
