// One product is a row for each limb of b: add a·b[i], add the multiple of m that makes the lowest limb 0, move down one limb. Low halves are added
// before the move and high halves after it, so that both stand in their own lane. The lowest limb decides the multiple and so is the chain that
// everything waits for: it is kept beside in one scalar with its carry, and lane 0 of the registers is not looked at.
//
// A limb takes four products below 2^52 a row for at most 160 rows: it stays below 2^62, and carries are settled once at the end.
// Sources: Gueron, Krasnov, Software implementation of modular exponentiation using advanced vector instructions, 2012; R > 4m spares the last
// subtraction (Walter 1999).
#include "crypto/modexp_lanes.h"

#include <array>
#include <bit>
#include <utility>

#if defined(__x86_64__)

// GCC 12 sees the undefined operands of its own intrinsics as mistakes.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

#define LANES __attribute__((target("avx512f,avx512ifma")))

namespace zg {
namespace {

using u128 = unsigned __int128;

constexpr uint64_t kMask52 = (uint64_t{1} << 52) - 1;

// Of V registers.
template <size_t V>
LANES void product(uint64_t* out, const uint64_t* a, const uint64_t* b, const uint64_t* m, size_t limbs, uint64_t minus_inverse) noexcept {
  __m512i t[V + 1];
#pragma GCC unroll 21
  for (size_t v = 0; v <= V; ++v) t[v] = _mm512_setzero_si512();
  uint64_t lowest = 0;
  for (size_t i = 0; i < limbs; ++i) {
    u128 s = static_cast<u128>(a[0]) * b[i] + lowest;
    const uint64_t q = static_cast<uint64_t>(s) * minus_inverse & kMask52;
    s += static_cast<u128>(m[0]) * q;
    const __m512i x = _mm512_set1_epi64(static_cast<long long>(b[i])), y = _mm512_set1_epi64(static_cast<long long>(q));
#pragma GCC unroll 20
    for (size_t v = 0; v < V; ++v) t[v] = _mm512_madd52lo_epu64(t[v], _mm512_loadu_si512(a + 8 * v), x);
#pragma GCC unroll 20
    for (size_t v = 0; v < V; ++v) t[v] = _mm512_madd52lo_epu64(t[v], _mm512_loadu_si512(m + 8 * v), y);
#pragma GCC unroll 20
    for (size_t v = 0; v < V; ++v) t[v] = _mm512_alignr_epi64(t[v + 1], t[v], 1);
    lowest = static_cast<uint64_t>(s >> 52) + static_cast<uint64_t>(_mm_cvtsi128_si64(_mm512_castsi512_si128(t[0])));
#pragma GCC unroll 20
    for (size_t v = 0; v < V; ++v) t[v] = _mm512_madd52hi_epu64(t[v], _mm512_loadu_si512(a + 8 * v), x);
#pragma GCC unroll 20
    for (size_t v = 0; v < V; ++v) t[v] = _mm512_madd52hi_epu64(t[v], _mm512_loadu_si512(m + 8 * v), y);
  }
#pragma GCC unroll 20
  for (size_t v = 0; v < V; ++v) _mm512_storeu_si512(out + 8 * v, t[v]);
  uint64_t carry = 0;
  out[0] = lowest;
  for (size_t i = 0; i < 8 * V; ++i) {
    carry += out[i];
    out[i] = carry & kMask52;
    carry >>= 52;
  }
}

constexpr size_t kRegistersMax = 20;

template <size_t... V>
constexpr auto products_of(std::index_sequence<V...>) {
  return std::array<LaneModulus::Product, sizeof...(V)>{product<V + 1>...};
}
constexpr auto kProducts = products_of(std::make_index_sequence<kRegistersMax>{});

}  // namespace

bool LaneModulus::available() noexcept {
  static const bool yes = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512ifma");
  return yes;
}

LaneModulus::LaneModulus(std::span<const uint64_t> modulus) {
  const size_t bits = 64 * modulus.size() - static_cast<size_t>(std::countl_zero(modulus.back()));
  limbs_ = (bits + 2 + 51) / 52;
  const size_t registers = (limbs_ + 7) / 8;
  product_ = kProducts[registers - 1];
  m_.resize(8 * registers);
  m_ = limbs_of(modulus);
  uint64_t inverse = 1;
  for (int i = 0; i < 6; ++i) inverse *= 2 - m_[0] * inverse;
  minus_inverse_ = (~inverse + 1) & kMask52;
}

}  // namespace zg

#else

namespace zg {

bool LaneModulus::available() noexcept { return false; }
LaneModulus::LaneModulus(std::span<const uint64_t>) : limbs_(0), minus_inverse_(0), product_(nullptr) {}

}  // namespace zg

#endif

namespace zg {

std::vector<uint64_t> LaneModulus::limbs_of(std::span<const uint64_t> words) const {
  std::vector<uint64_t> out(m_.size());
  for (size_t i = 0; i < out.size() && 52 * i < 64 * words.size(); ++i) {
    const size_t at = 52 * i / 64, shift = 52 * i % 64;
    uint64_t x = words[at] >> shift;
    if (shift > 12 && at + 1 < words.size()) x |= words[at + 1] << (64 - shift);
    out[i] = x & ((uint64_t{1} << 52) - 1);
  }
  return out;
}

std::vector<uint64_t> LaneModulus::words_of(const std::vector<uint64_t>& limbs, size_t words) const {
  std::vector<uint64_t> out(words);
  for (size_t i = 0; i < limbs.size(); ++i) {
    const size_t at = 52 * i / 64, shift = 52 * i % 64;
    if (at < words) out[at] |= limbs[i] << shift;
    if (shift > 12 && at + 1 < words) out[at + 1] |= limbs[i] >> (64 - shift);
  }
  return out;
}

}  // namespace zg
