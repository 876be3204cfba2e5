// Division and what stands on it. Words are divided by multiplication with a reciprocal that is computed once a divisor
// (Möller and Granlund, "Improved division by invariant integers", 2011): a 64-bit division instruction is needed only for that.
#include "base/u256.h"

#include <algorithm>

namespace zg {
namespace {

using Wide = unsigned __int128;

constexpr uint64_t hi(Wide x) noexcept { return static_cast<uint64_t>(x >> 64); }
constexpr uint64_t lo(Wide x) noexcept { return static_cast<uint64_t>(x); }
constexpr Wide wide(uint64_t h, uint64_t l) noexcept { return static_cast<Wide>(h) << 64 | l; }

// floor((2^128 − 1) / d) − 2^64, d with its top bit set.
inline uint64_t reciprocal1(uint64_t d) noexcept {
#if defined(__x86_64__)
  uint64_t q, r;
  __asm__("divq %4" : "=a"(q), "=d"(r) : "a"(~uint64_t{0}), "d"(~d), "rm"(d) : "cc");
  return q;
#else
  return lo(wide(~d, ~uint64_t{0}) / d);
#endif
}

// (u1:u0) / d with u1 < d, v = reciprocal1(d).
inline uint64_t divide_2by1(uint64_t u1, uint64_t u0, uint64_t d, uint64_t v, uint64_t& rest) noexcept {
  const Wide q = static_cast<Wide>(v) * u1 + wide(u1, u0);
  uint64_t q1 = hi(q) + 1;
  uint64_t r = u0 - q1 * d;
  if (r > lo(q)) {
    --q1;
    r += d;
  }
  if (r >= d) [[unlikely]] {
    ++q1;
    r -= d;
  }
  rest = r;
  return q1;
}

inline uint64_t reciprocal2(uint64_t d1, uint64_t d0) noexcept {
  uint64_t v = reciprocal1(d1);
  uint64_t p = d1 * v + d0;
  if (p < d0) {
    --v;
    if (p >= d1) {
      --v;
      p -= d1;
    }
    p -= d1;
  }
  const Wide t = static_cast<Wide>(v) * d0;
  p += hi(t);
  if (p < hi(t)) {
    --v;
    if (wide(p, lo(t)) >= wide(d1, d0)) --v;
  }
  return v;
}

// (u2:u1:u0) / (d1:d0) with (u2:u1) < (d1:d0), v = reciprocal2(d1, d0).
inline uint64_t divide_3by2(uint64_t u2, uint64_t u1, uint64_t u0, uint64_t d1, uint64_t d0, uint64_t v, Wide& rest) noexcept {
  const Wide q = static_cast<Wide>(v) * u2 + wide(u2, u1);
  uint64_t q1 = hi(q);
  const uint64_t r1 = u1 - q1 * d1;
  const Wide d = wide(d1, d0);
  Wide r = wide(r1, u0) - static_cast<Wide>(d0) * q1 - d;
  ++q1;
  if (hi(r) >= lo(q)) {
    --q1;
    r += d;
  }
  if (r >= d) [[unlikely]] {
    ++q1;
    r -= d;
  }
  rest = r;
  return q1;
}

inline int words_of(const uint64_t* x, int n) noexcept {
  while (n > 0 && x[n - 1] == 0) --n;
  return n;
}

// u (m words) / d (n words, the top one not zero); quotient to q (m words, zeroed by the caller), remainder to r.
template <int kMax>
void divide(const uint64_t* u_in, int m, const uint64_t* d_in, int n, uint64_t* q, U256& r) noexcept {
  uint64_t u[kMax + 1], d[4];
  const unsigned shift = static_cast<unsigned>(std::countl_zero(d_in[n - 1]));
  for (int i = n - 1; i > 0; --i) d[i] = detail::shl2(d_in[i], d_in[i - 1], shift);
  d[0] = d_in[0] << shift;
  u[m] = u_in[m - 1] >> 1 >> (63 - shift);
  for (int i = m - 1; i > 0; --i) u[i] = detail::shl2(u_in[i], u_in[i - 1], shift);
  u[0] = u_in[0] << shift;
  r = {};
  if (n == 1) {
    const uint64_t v = reciprocal1(d[0]);
    uint64_t rest = u[m];
    for (int i = m - 1; i >= 0; --i) q[i] = divide_2by1(rest, u[i], d[0], v, rest);
    r.w[0] = rest >> shift;
    return;
  }
  const uint64_t d1 = d[n - 1], d0 = d[n - 2];
  const uint64_t v = reciprocal2(d1, d0);
  if (n == 2) {
    Wide rest = wide(u[m], u[m - 1]);
    for (int i = m - 2; i >= 0; --i) q[i] = divide_3by2(hi(rest), lo(rest), u[i], d1, d0, v, rest);
    r.w[0] = detail::shr2(hi(rest), lo(rest), shift);
    r.w[1] = hi(rest) >> shift;
    return;
  }
  for (int j = m - n; j >= 0; --j) {
    uint64_t guess;
    if (wide(u[j + n], u[j + n - 1]) >= wide(d1, d0)) [[unlikely]] {
      guess = ~uint64_t{0};
    } else {
      Wide rest;
      guess = divide_3by2(u[j + n], u[j + n - 1], u[j + n - 2], d1, d0, v, rest);
    }
    uint64_t borrow = 0, carry = 0;
    for (int i = 0; i < n; ++i) {
      const Wide t = static_cast<Wide>(guess) * d[i] + carry;
      carry = hi(t);
      u[j + i] = subb(u[j + i], lo(t), borrow);
    }
    u[j + n] = subb(u[j + n], carry, borrow);
    while (borrow != 0) {  // at most twice
      --guess;
      uint64_t c = 0;
      for (int i = 0; i < n; ++i) u[j + i] = addc(u[j + i], d[i], c);
      u[j + n] = addc(u[j + n], 0, c);
      borrow = c ^ 1;
    }
    q[j] = guess;
  }
  for (int i = 0; i < n; ++i) r.w[i] = detail::shr2(i + 1 < n ? u[i + 1] : 0, u[i], shift);
}

}  // namespace

bool mul_checked(const U256& a, const U256& b, U256& r) noexcept {
  r = a * b;
  const unsigned bits = a.bit_width() + b.bit_width();
  if (bits <= 256) return true;
  if (bits > 257) return false;
  // One bit in doubt: r is right exactly when it divides back.
  return divmod(r, b).quotient == a;
}

DivResult divmod(const U256& a, const U256& b) noexcept {
  if ((a.w[1] | a.w[2] | a.w[3] | b.w[1] | b.w[2] | b.w[3]) == 0) {
    if (b.w[0] == 0) return {};
    return {a.w[0] / b.w[0], a.w[0] % b.w[0]};
  }
  const int n = words_of(b.w, 4);
  if (n == 0) return {};
  if (less(a, b)) return {{}, a};
  DivResult r;
  divide<4>(a.w, words_of(a.w, 4), b.w, n, r.quotient.w, r.remainder);
  return r;
}

DivResult sdivmod(const U256& a, const U256& b) noexcept {
  const bool na = a.negative(), nb = b.negative();
  DivResult r = divmod(na ? -a : a, nb ? -b : b);
  if (na != nb) r.quotient = -r.quotient;
  if (na) r.remainder = -r.remainder;
  return r;
}

U256 addmod(const U256& a, const U256& b, const U256& m) noexcept {
  if (m.is_zero()) return {};
  if (less(a, m) && less(b, m)) {
    U256 s;
    const bool fits = add_checked(a, b, s);
    return !fits || !less(s, m) ? s - m : s;
  }
  uint64_t sum[5], q[5] = {}, c = 0;
  for (int i = 0; i < 4; ++i) sum[i] = addc(a.w[i], b.w[i], c);
  sum[4] = c;
  const int words = words_of(sum, 5), n = words_of(m.w, 4);
  if (words < n) return {sum[0], sum[1], sum[2], sum[3]};
  U256 r;
  divide<5>(sum, words, m.w, n, q, r);
  return r;
}

U256 mulmod(const U256& a, const U256& b, const U256& m) noexcept {
  uint64_t p[8] = {}, q[8] = {};
  for (int i = 0; i < 4; ++i) {
    uint64_t carry = 0;
    for (int j = 0; j < 4; ++j) {
      const Wide t = static_cast<Wide>(a.w[i]) * b.w[j] + p[i + j] + carry;
      p[i + j] = lo(t);
      carry = hi(t);
    }
    p[i + 4] = carry;
  }
  const int n = words_of(m.w, 4);
  if (n == 0) return {};
  const int words = words_of(p, 8);
  if (words < n) return {p[0], p[1], p[2], p[3]};
  U256 r;
  divide<8>(p, words, m.w, n, q, r);
  return r;
}

U256 exp(const U256& base, const U256& exponent) noexcept {
  U256 r = 1;
  if (base == U256{2}) return exponent.is_u64() && exponent.w[0] < 256 ? r << static_cast<unsigned>(exponent.w[0]) : U256{};
  for (unsigned bit = exponent.bit_width(); bit-- > 0;) {
    r = r * r;
    if ((exponent.w[bit / 64] >> (bit % 64) & 1) != 0) r = r * base;
  }
  return r;
}

std::string to_decimal(const U256& x) {
  std::string s;
  U256 rest = x;
  do {
    // Nineteen digits a division.
    const DivResult d = divmod(rest, U256{10'000'000'000'000'000'000u});
    uint64_t part = d.remainder.w[0];
    rest = d.quotient;
    for (int i = 0; i < 19 && (part != 0 || !rest.is_zero() || i == 0); ++i, part /= 10) s.push_back(static_cast<char>('0' + part % 10));
  } while (!rest.is_zero());
  std::reverse(s.begin(), s.end());
  return s;
}

}  // namespace zg
