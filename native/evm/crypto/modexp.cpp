#include "crypto/modexp.h"

#include <algorithm>
#include <bit>

#include "crypto/field256.h"
#include "crypto/modexp_lanes.h"

namespace zg {
namespace {

using u128 = unsigned __int128;
using Words = std::vector<uint64_t>;  // least significant first

Words words_of(ByteView v) {
  Words w((v.size() + 7) / 8);
  for (size_t i = 0; i < v.size(); ++i) w[i / 8] |= static_cast<uint64_t>(v[v.size() - 1 - i]) << (8 * (i % 8));
  return w;
}

void trim(Words& w) {
  while (!w.empty() && w.back() == 0) w.pop_back();
}

// t[0..n) += a·x; the carry out.
inline uint64_t add_product_plain(uint64_t* t, const uint64_t* a, size_t n, uint64_t x) noexcept {
  uint64_t carry = 0;
#pragma GCC unroll 4
  for (size_t i = 0; i < n; ++i) {
    const u128 c = static_cast<u128>(a[i]) * x + t[i] + carry;
    t[i] = static_cast<uint64_t>(c);
    carry = static_cast<uint64_t>(c >> 64);
  }
  return carry;
}

#ifdef ZG_FIELD_ADX
// Four words a turn: high halves join the next low ones by the carry flag, sums go into t by the overflow flag; nothing in between may touch
// either. Only with has_adx; n is a multiple of 4, not 0.
inline uint64_t add_product_adx(uint64_t* t, const uint64_t* a, size_t n, uint64_t x) noexcept {
  uint64_t carry = 0, low, high;
  size_t turns = n / 4;
  __asm__ volatile(
      "xor %k[low], %k[low]\n"
      "1:\n\t"
      "mulx 0(%[a]), %[low], %[high]\n\tadcx %[carry], %[low]\n\tadox 0(%[t]), %[low]\n\tmov %[low], 0(%[t])\n\t"
      "mulx 8(%[a]), %[low], %[carry]\n\tadcx %[high], %[low]\n\tadox 8(%[t]), %[low]\n\tmov %[low], 8(%[t])\n\t"
      "mulx 16(%[a]), %[low], %[high]\n\tadcx %[carry], %[low]\n\tadox 16(%[t]), %[low]\n\tmov %[low], 16(%[t])\n\t"
      "mulx 24(%[a]), %[low], %[carry]\n\tadcx %[high], %[low]\n\tadox 24(%[t]), %[low]\n\tmov %[low], 24(%[t])\n\t"
      "lea 32(%[a]), %[a]\n\tlea 32(%[t]), %[t]\n\tlea -1(%[turns]), %[turns]\n\t"
      "jrcxz 2f\n\tjmp 1b\n"
      "2:\n\t"
      "mov $0, %k[low]\n\tadcx %[low], %[carry]\n\tadox %[low], %[carry]"
      : [a] "+r"(a), [t] "+r"(t), [turns] "+c"(turns), [carry] "+r"(carry), [low] "=&r"(low), [high] "=&r"(high)
      : "d"(x)
      : "cc", "memory");
  return carry;
}
#endif

inline uint64_t add_product(uint64_t* t, const uint64_t* a, size_t n, uint64_t x, bool wide) noexcept {
#ifdef ZG_FIELD_ADX
  if (wide && n >= 4) {
    const size_t most = n & ~size_t{3};
    uint64_t carry = add_product_adx(t, a, most, x);
    for (size_t i = most; i < n; ++i) {
      const u128 c = static_cast<u128>(a[i]) * x + t[i] + carry;
      t[i] = static_cast<uint64_t>(c);
      carry = static_cast<uint64_t>(c >> 64);
    }
    return carry;
  }
#else
  (void)wide;
#endif
  return add_product_plain(t, a, n, x);
}

bool below(const uint64_t* a, const uint64_t* b, size_t n) noexcept {
  for (size_t i = n; i-- > 0;)
    if (a[i] != b[i]) return a[i] < b[i];
  return false;
}

void subtract(uint64_t* a, const uint64_t* b, size_t n) noexcept {
  uint64_t borrow = 0;
  for (size_t i = 0; i < n; ++i) {
    const u128 d = static_cast<u128>(a[i]) - b[i] - borrow;
    a[i] = static_cast<uint64_t>(d);
    borrow = static_cast<uint64_t>(d >> 64) & 1;
  }
}

// Arithmetic modulo an odd number of n words, numbers as x·2^(64n).
class Montgomery {
 public:
  Montgomery(const Words& m, bool wide) : n_(m.size()), wide_(wide), m_(m), t_(2 * m.size() + 1) {
    uint64_t inverse = 1;
    for (int i = 0; i < 6; ++i) inverse *= 2 - m[0] * inverse;
    minus_inverse_ = ~inverse + 1;
    // 2^(64n) by doubling from the highest power of two below m, then its square by doubling exponents.
    one_.assign(n_, 0);
    const unsigned top = 63u - static_cast<unsigned>(std::countl_zero(m[n_ - 1]));
    one_[n_ - 1] = uint64_t{1} << top;
    if (!below(one_.data(), m_.data(), n_)) subtract(one_.data(), m_.data(), n_);
    for (unsigned i = top; i < 64; ++i) twice(one_);
    r2_ = one_;
    const uint64_t bits = 64 * n_;
    for (int i = 63 - std::countl_zero(bits); i >= 0; --i) {
      if (r2_ != one_) square(r2_, r2_);
      if ((bits >> i & 1) != 0) twice(r2_);
    }
  }

  [[nodiscard]] const Words& one() const noexcept { return one_; }
  [[nodiscard]] size_t size() const noexcept { return n_; }

  void multiply(Words& out, const Words& a, const Words& b) noexcept {
    std::fill(t_.begin(), t_.end(), 0);
    for (size_t i = 0; i < n_; ++i) t_[n_ + i] = add_product(&t_[i], a.data(), n_, b[i], wide_);
    reduce(out);
  }

  void square(Words& out, const Words& a) noexcept {
    std::fill(t_.begin(), t_.end(), 0);
    for (size_t i = 0; i + 1 < n_; ++i) t_[n_ + i] = add_product(&t_[2 * i + 1], &a[i + 1], n_ - i - 1, a[i], wide_);
    uint64_t high = 0, carry = 0;
    for (size_t i = 0; i < n_; ++i) {
      const u128 s = static_cast<u128>(a[i]) * a[i];
      const uint64_t x = t_[2 * i], y = t_[2 * i + 1];
      u128 c = static_cast<u128>(x << 1 | high) + static_cast<uint64_t>(s) + carry;
      t_[2 * i] = static_cast<uint64_t>(c);
      c = static_cast<u128>(y << 1 | x >> 63) + static_cast<uint64_t>(s >> 64) + static_cast<uint64_t>(c >> 64);
      t_[2 * i + 1] = static_cast<uint64_t>(c);
      carry = static_cast<uint64_t>(c >> 64);
      high = y >> 63;
    }
    reduce(out);
  }

  // Any number, as x·2^(64n) mod m.
  Words enter(const Words& x) {
    Words r(n_), chunk(n_);
    for (size_t i = (x.size() + n_ - 1) / n_; i-- > 0;) {
      multiply(r, r, r2_);
      const size_t from = i * n_, count = std::min(n_, x.size() - from);
      std::fill(std::copy_n(x.begin() + static_cast<ptrdiff_t>(from), count, chunk.begin()), chunk.end(), 0);
      multiply(chunk, chunk, r2_);
      add(r, chunk);
    }
    return r;
  }
  void leave(Words& x) noexcept {
    Words plain(n_);
    plain[0] = 1;
    multiply(x, x, plain);
  }

 private:
  void reduce(Words& out) noexcept {
    uint64_t over = 0;
    for (size_t i = 0; i < n_; ++i) {
      const uint64_t carry = add_product(&t_[i], m_.data(), n_, t_[i] * minus_inverse_, wide_);
      const u128 c = static_cast<u128>(t_[n_ + i]) + carry + over;
      t_[n_ + i] = static_cast<uint64_t>(c);
      over = static_cast<uint64_t>(c >> 64);
    }
    if (over != 0 || !below(&t_[n_], m_.data(), n_)) subtract(&t_[n_], m_.data(), n_);
    std::copy_n(&t_[n_], n_, out.begin());
  }
  void add(Words& a, const Words& b) noexcept {
    uint64_t carry = 0;
    for (size_t i = 0; i < n_; ++i) {
      const u128 c = static_cast<u128>(a[i]) + b[i] + carry;
      a[i] = static_cast<uint64_t>(c);
      carry = static_cast<uint64_t>(c >> 64);
    }
    if (carry != 0 || !below(a.data(), m_.data(), n_)) subtract(a.data(), m_.data(), n_);
  }
  void twice(Words& a) noexcept { add(a, a); }

  size_t n_;
  bool wide_;
  Words m_, t_, one_, r2_;
  uint64_t minus_inverse_;
};

// The exponent's bits [at, at + count), from the lowest.
unsigned bits_of(const Words& e, size_t at, unsigned count) noexcept {
  uint64_t x = e[at / 64] >> (at % 64);
  if (at % 64 + count > 64 && at / 64 + 1 < e.size()) x |= e[at / 64 + 1] << (64 - at % 64);
  return static_cast<unsigned>(x & ((uint64_t{1} << count) - 1));
}

size_t bit_length(const Words& w) noexcept {
  return w.empty() ? 0 : 64 * w.size() - static_cast<size_t>(std::countl_zero(w.back()));
}

// base^e with fixed windows; `multiply(out, a, b)` and `square(out, a)` may work in place.
template <class Multiply, class Square>
Words power(const Words& base, const Words& one, const Words& e, Multiply multiply, Square square) {
  const size_t bits = bit_length(e);
  const unsigned window = bits <= 8 ? 1 : bits <= 96 ? 3 : bits <= 512 ? 4 : 5;
  std::vector<Words> table(size_t{1} << window, Words(one.size()));
  table[0] = one;
  table[1] = base;
  for (size_t i = 2; i < table.size(); ++i) multiply(table[i], table[i - 1], base);
  Words r = one;
  bool started = false;
  for (size_t at = (bits + window - 1) / window * window; at > 0;) {
    at -= window;
    if (started)
      for (unsigned i = 0; i < window; ++i) square(r, r);
    const unsigned digit = bits_of(e, at, window);
    if (digit == 0) continue;
    if (started) multiply(r, r, table[digit]);
    else r = table[digit];
    started = true;
  }
  return r;
}

// Where a product by lanes is worth its conversions.
constexpr size_t kLaneWords = 12, kLaneExponentBits = 128;

// base^e by lanes, with the help of products of words for what is done once.
Words power_in_lanes(Montgomery& m, const Words& modulus, const Words& base, const Words& e) {
  const LaneModulus lanes(modulus);
  // R² modulo m, which takes numbers in.
  Words r2 = power(m.enter({2}), m.one(), {2 * lanes.r_bits()}, [&m](Words& o, const Words& a, const Words& b) { m.multiply(o, a, b); },
                   [&m](Words& o, const Words& a) { m.square(o, a); });
  m.leave(r2);
  Words rest = m.enter(base);
  m.leave(rest);
  const Words in = lanes.limbs_of(r2);
  const auto multiply = [&lanes](Words& o, const Words& a, const Words& b) { lanes.multiply(o.data(), a.data(), b.data()); };
  Words plain_one(lanes.size()), one(lanes.size()), x = lanes.limbs_of(rest);
  plain_one[0] = 1;
  multiply(one, plain_one, in);
  multiply(x, x, in);
  x = power(x, one, e, multiply, [&](Words& o, const Words& a) { multiply(o, a, a); });
  multiply(x, x, plain_one);
  Words out = lanes.words_of(x, modulus.size());
  if (!below(out.data(), modulus.data(), modulus.size())) subtract(out.data(), modulus.data(), modulus.size());
  return out;
}

// a·b modulo 2^(64·size); `out` may be a or b.
void multiply_low(Words& out, const Words& a, const Words& b, bool wide) {
  Words t(a.size());
  for (size_t i = 0; i < t.size(); ++i) add_product(&t[i], a.data(), t.size() - i, b[i], wide);
  out = std::move(t);
}

void mask_bits(Words& w, size_t bits) noexcept {
  if (bits % 64 != 0) w.back() &= (uint64_t{1} << (bits % 64)) - 1;
}

Bytes power_modulo(ByteView base_bytes, ByteView exponent_bytes, ByteView modulus_bytes, bool wide) {
  Bytes out(modulus_bytes.size());
  Words base = words_of(base_bytes), e = words_of(exponent_bytes), modulus = words_of(modulus_bytes);
  trim(base);
  trim(e);
  trim(modulus);
  if (modulus.empty() || (modulus.size() == 1 && modulus[0] == 1)) return out;

  // modulus = odd · 2^twos
  size_t twos = 0;
  while (modulus[twos / 64] == 0) twos += 64;
  twos += static_cast<size_t>(std::countr_zero(modulus[twos / 64]));
  Words odd(modulus.size() - twos / 64);
  for (size_t i = 0; i < odd.size(); ++i) {
    odd[i] = modulus[i + twos / 64] >> (twos % 64);
    if (twos % 64 != 0 && i + twos / 64 + 1 < modulus.size()) odd[i] |= modulus[i + twos / 64 + 1] << (64 - twos % 64);
  }
  trim(odd);

  Words result(modulus.size());
  const bool has_odd = !(odd.size() == 1 && odd[0] == 1);
  if (has_odd) {
    Montgomery m(odd, wide);
    Words r;
    if (wide && odd.size() >= kLaneWords && odd.size() <= LaneModulus::kWordsMax && bit_length(e) >= kLaneExponentBits && LaneModulus::available()) {
      r = power_in_lanes(m, odd, base, e);
    } else {
      r = power(m.enter(base), m.one(), e, [&m](Words& o, const Words& a, const Words& b) { m.multiply(o, a, b); },
                [&m](Words& o, const Words& a) { m.square(o, a); });
      m.leave(r);
    }
    std::copy(r.begin(), r.end(), result.begin());
  }
  if (twos != 0) {
    const size_t n = (twos + 63) / 64;
    const auto resized = [n](const Words& w) {
      Words r(w);
      r.resize(n);
      return r;
    };
    Words one(n);
    one[0] = 1;
    Words r = power(resized(base), one, e, [wide](Words& o, const Words& a, const Words& b) { multiply_low(o, a, b, wide); },
                    [wide](Words& o, const Words& a) { multiply_low(o, a, a, wide); });
    // result + odd·((r − result)/odd mod 2^twos); the inverse by Newton's iteration, which doubles the right bits.
    const Words odd_low = resized(odd);
    Words inverse(n), t(n);
    inverse[0] = 1;
    for (size_t right = 1; right < twos; right *= 2) {
      multiply_low(t, odd_low, inverse, wide);
      uint64_t borrow = 0;
      for (size_t i = 0; i < n; ++i) {
        const u128 d = static_cast<u128>(i == 0 ? 2 : 0) - t[i] - borrow;
        t[i] = static_cast<uint64_t>(d);
        borrow = static_cast<uint64_t>(d >> 64) & 1;
      }
      multiply_low(inverse, inverse, t, wide);
    }
    subtract(r.data(), resized(result).data(), n);
    multiply_low(r, r, inverse, wide);
    mask_bits(r, twos);
    Words sum(odd.size() + n + 1);
    for (size_t i = 0; i < n; ++i) sum[i + odd.size()] = add_product(&sum[i], odd.data(), odd.size(), r[i], wide);
    uint64_t carry = 0;
    for (size_t i = 0; i < result.size(); ++i) {
      const u128 c = static_cast<u128>(result[i]) + (i < sum.size() ? sum[i] : 0) + carry;
      result[i] = static_cast<uint64_t>(c);
      carry = static_cast<uint64_t>(c >> 64);
    }
  }
  for (size_t i = 0; i < out.size() && i / 8 < result.size(); ++i) out[out.size() - 1 - i] = static_cast<uint8_t>(result[i / 8] >> (8 * (i % 8)));
  return out;
}

}  // namespace

Bytes modexp(ByteView base, ByteView exponent, ByteView modulus) {
#ifdef ZG_FIELD_ADX
  return power_modulo(base, exponent, modulus, field_detail::has_adx);
#else
  return power_modulo(base, exponent, modulus, false);
#endif
}

Bytes modexp_plain(ByteView base, ByteView exponent, ByteView modulus) { return power_modulo(base, exponent, modulus, false); }

}  // namespace zg
