// One message at a time, faster than the scalar truth: hashing of single items (transactions, addresses, trie nodes) cannot use
// lanes.
#if defined(__x86_64__)
#include <immintrin.h>

#include <bit>
#include <cstring>

#include "keccak.h"
#include "keccak_constants.h"

namespace zg {
namespace bmi2 {
namespace {

#define ZG_TARGET __attribute__((target("bmi,bmi2")))

struct Lane {
  using V = uint64_t;
  // The scheduler keeps most of the state of a single message in registers.
  static constexpr bool kThreeInputs = true;
  ZG_TARGET static inline V xor2(V a, V b) noexcept { return a ^ b; }
  ZG_TARGET static inline V xor3(V a, V b, V c) noexcept { return a ^ b ^ c; }
  ZG_TARGET static inline V chi(V a, V b, V c) noexcept { return a ^ (~b & c); }
  ZG_TARGET static inline V all(uint64_t x) noexcept { return x; }
  template <int N>
  ZG_TARGET static inline V rol(V a) noexcept {
    return std::rotl(a, N);
  }
  ZG_TARGET static inline V word(const uint8_t* p) noexcept {
    V w;
    std::memcpy(&w, p, 8);
    return w;
  }
  ZG_TARGET static inline void store4(const V* s, uint8_t* out) noexcept { std::memcpy(out, s, kHashBytes); }
};

#include "keccak_round.inc"

#include "keccak_one.inc"

#undef ZG_TARGET
#undef ZG_INLINE

}  // namespace
}  // namespace bmi2

namespace avx512vl {
namespace {

#define ZG_TARGET __attribute__((target("avx512f,avx512vl")))

struct Lane {
  using V = __m128i;
  static constexpr bool kThreeInputs = true;
  ZG_TARGET static inline V xor2(V a, V b) noexcept { return _mm_xor_si128(a, b); }
  ZG_TARGET static inline V xor3(V a, V b, V c) noexcept { return _mm_ternarylogic_epi64(a, b, c, 0x96); }
  // a ^ (~b & c)
  ZG_TARGET static inline V chi(V a, V b, V c) noexcept { return _mm_ternarylogic_epi64(a, b, c, 0xd2); }
  ZG_TARGET static inline V all(uint64_t x) noexcept { return _mm_cvtsi64_si128(static_cast<long long>(x)); }
  template <int N>
  ZG_TARGET static inline V rol(V a) noexcept {
    return _mm_rol_epi64(a, N);
  }
  ZG_TARGET static inline V word(const uint8_t* p) noexcept { return _mm_loadl_epi64(reinterpret_cast<const V*>(p)); }
  ZG_TARGET static inline void store4(const V* s, uint8_t* out) noexcept {
    for (size_t i = 0; i < 4; i++) _mm_storel_epi64(reinterpret_cast<V*>(out + 8 * i), s[i]);
  }
};

#include "keccak_round.inc"

#include "keccak_one.inc"

}  // namespace
}  // namespace avx512vl

void keccak256_bmi2(const uint8_t* data, size_t size, uint8_t* out) noexcept { bmi2::one(data, size, out); }
void keccak256_avx512vl(const uint8_t* data, size_t size, uint8_t* out) noexcept { avx512vl::one(data, size, out); }

}  // namespace zg
#endif
