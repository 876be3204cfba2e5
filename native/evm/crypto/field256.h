// Prime fields of up to 256 bits in Montgomery form, four 64-bit words: the modulus is a template argument. Values are always below it.
// Variable time: for public values only (verification, precompiles).
#pragma once

#include <bit>

#include "base/u256.h"

namespace zg {
namespace field_detail {

using u128 = unsigned __int128;
using i128 = __int128;

constexpr uint64_t minus_inverse64(uint64_t m) noexcept {
  uint64_t x = 1;
  for (int i = 0; i < 6; ++i) x *= 2 - m * x;
  return ~x + 1;
}

// 2^bits modulo m, which is above 2^253.
constexpr U256 power_of_two(const U256& m, int bits) noexcept {
  U256 x{1};
  for (int i = 0; i < bits; ++i) {
    const bool top = x.negative();
    x = x + x;
    if (top || x >= m) x = x - m;
  }
  return x;
}

// The inverse of x modulo an odd m, 0 for 0: Bernstein and Yang, "Fast constant-time gcd computation and modular inversion" (2019), 62 division steps
// at a time on the low words, here without constant time.
U256 inverse_modulo(const U256& x, const U256& m, uint64_t minus_inverse) noexcept;

}  // namespace field_detail

template <U256 M>
struct Prime {
  U256 v;  // x·2^256 mod M

  static constexpr U256 kModulus = M;
  static constexpr uint64_t kMinusInverse = field_detail::minus_inverse64(M.w[0]);
  static constexpr U256 kOne = field_detail::power_of_two(M, 256);
  static constexpr U256 kR2 = field_detail::power_of_two(M, 512);
  static constexpr U256 kR3 = field_detail::power_of_two(M, 768);
  static constexpr bool kSpare = (M.w[3] >> 62) == 0;  // sums of two values fit into 255 bits

  constexpr Prime() noexcept = default;
  static constexpr Prime raw(const U256& x) noexcept {
    Prime r;
    r.v = x;
    return r;
  }
  static constexpr Prime one() noexcept { return raw(kOne); }
  // Of any x: as the second factor it may be above the modulus, as the first one the product's upper word would overflow.
  static Prime from(const U256& x) noexcept { return raw(kR2) * raw(x); }
  [[nodiscard]] U256 number() const noexcept { return (*this * raw(U256{1})).v; }
  [[nodiscard]] bool is_zero() const noexcept { return v.is_zero(); }
  friend bool operator==(const Prime& a, const Prime& b) noexcept { return a.v == b.v; }

  friend Prime operator+(const Prime& a, const Prime& b) noexcept {
    U256 s, d;
    uint64_t carry = 0, borrow = 0;
    for (int i = 0; i < 4; ++i) s.w[i] = addc(a.v.w[i], b.v.w[i], carry);
    for (int i = 0; i < 4; ++i) d.w[i] = subb(s.w[i], M.w[i], borrow);
    return raw(pick(carry == 0 && borrow != 0, s, d));
  }
  friend Prime operator-(const Prime& a, const Prime& b) noexcept {
    U256 d, s;
    uint64_t borrow = 0, carry = 0;
    for (int i = 0; i < 4; ++i) d.w[i] = subb(a.v.w[i], b.v.w[i], borrow);
    const uint64_t mask = ~borrow + 1;
    for (int i = 0; i < 4; ++i) s.w[i] = addc(d.w[i], M.w[i] & mask, carry);
    return raw(s);
  }
  [[nodiscard]] Prime negated() const noexcept { return Prime{} - *this; }
  [[nodiscard]] Prime doubled() const noexcept { return *this + *this; }

  friend Prime operator*(const Prime& a, const Prime& b) noexcept {
    using field_detail::u128;
    uint64_t t0 = 0, t1 = 0, t2 = 0, t3 = 0, t4 = 0;
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const uint64_t x = b.v.w[i];
      u128 c = static_cast<u128>(a.v.w[0]) * x + t0;
      t0 = static_cast<uint64_t>(c);
      c = static_cast<u128>(a.v.w[1]) * x + t1 + static_cast<uint64_t>(c >> 64);
      t1 = static_cast<uint64_t>(c);
      c = static_cast<u128>(a.v.w[2]) * x + t2 + static_cast<uint64_t>(c >> 64);
      t2 = static_cast<uint64_t>(c);
      c = static_cast<u128>(a.v.w[3]) * x + t3 + static_cast<uint64_t>(c >> 64);
      t3 = static_cast<uint64_t>(c);
      const u128 top = static_cast<u128>(t4) + static_cast<uint64_t>(c >> 64);
      const uint64_t m = t0 * kMinusInverse;
      c = static_cast<u128>(m) * M.w[0] + t0;
      c = static_cast<u128>(m) * M.w[1] + t1 + static_cast<uint64_t>(c >> 64);
      t0 = static_cast<uint64_t>(c);
      c = static_cast<u128>(m) * M.w[2] + t2 + static_cast<uint64_t>(c >> 64);
      t1 = static_cast<uint64_t>(c);
      c = static_cast<u128>(m) * M.w[3] + t3 + static_cast<uint64_t>(c >> 64);
      t2 = static_cast<uint64_t>(c);
      const u128 sum = top + static_cast<uint64_t>(c >> 64);
      t3 = static_cast<uint64_t>(sum);
      t4 = kSpare ? 0 : static_cast<uint64_t>(sum >> 64);
    }
    const U256 s{t0, t1, t2, t3};
    U256 d;
    uint64_t borrow = 0;
    for (int i = 0; i < 4; ++i) d.w[i] = subb(s.w[i], M.w[i], borrow);
    return raw(pick(t4 == 0 && borrow != 0, s, d));
  }
  [[nodiscard]] Prime squared() const noexcept { return *this * *this; }

  [[nodiscard]] Prime power(const U256& e) const noexcept {
    Prime r = one();
    for (unsigned i = e.bit_width(); i-- > 0;) {
      r = r.squared();
      if (((e.w[i / 64] >> (i % 64)) & 1) != 0) r = r * *this;
    }
    return r;
  }
  [[nodiscard]] Prime inverse() const noexcept {
    return raw(field_detail::inverse_modulo(v, M, kMinusInverse)) * raw(kR3);
  }

 private:
  static U256 pick(bool first, const U256& a, const U256& b) noexcept {
    const uint64_t mask = first ? ~uint64_t{0} : 0;
    return {(a.w[0] & mask) | (b.w[0] & ~mask), (a.w[1] & mask) | (b.w[1] & ~mask), (a.w[2] & mask) | (b.w[2] & ~mask),
            (a.w[3] & mask) | (b.w[3] & ~mask)};
  }
};

}  // namespace zg
