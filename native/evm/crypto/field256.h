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

#if defined(__x86_64__)
#define ZG_FIELD_ADX 1
// Whether this processor has mulx, and adcx and adox with their two carry chains (BMI2, ADX).
extern const bool has_adx;
#endif

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
#ifdef ZG_FIELD_ADX
    if constexpr (kSpare) return sum_x64(a, b);
#endif
    return sum(a, b);
  }
  friend Prime operator-(const Prime& a, const Prime& b) noexcept {
#ifdef ZG_FIELD_ADX
    if constexpr (kSpare) return difference_x64(a, b);
#endif
    return difference(a, b);
  }
  static Prime sum(const Prime& a, const Prime& b) noexcept {
    U256 s, d;
    uint64_t carry = 0, borrow = 0;
    for (int i = 0; i < 4; ++i) s.w[i] = addc(a.v.w[i], b.v.w[i], carry);
    for (int i = 0; i < 4; ++i) d.w[i] = subb(s.w[i], M.w[i], borrow);
    return raw(pick(carry == 0 && borrow != 0, s, d));
  }
  static Prime difference(const Prime& a, const Prime& b) noexcept {
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
#ifdef ZG_FIELD_ADX
    if constexpr (kSpare)
      if (__builtin_expect(field_detail::has_adx, 1)) return product_adx(a, b);
#endif
    return product(a, b);
  }
  // Without special instructions: the reference of the other one.
  static Prime product(const Prime& a, const Prime& b) noexcept {
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
#ifdef ZG_FIELD_ADX
  // For a modulus with a spare bit, whose rows never overflow their upper word; only with has_adx. The carry of low halves goes by one flag, that of
  // high halves by the other.
  static Prime product_adx(const Prime& a, const Prime& b) noexcept {
    static constexpr U256 kM = M;
    static constexpr uint64_t kInverse = kMinusInverse;
    uint64_t t0, t1, t2, t3, t4, low, high;
// t4..t0 += a·b[i]; t += M·(t0·inverse); t >>= 64. The first row has nothing to add to.
#define ZG_FIRST                                                                                                         \
  "mov 0(%[b]), %%rdx\n\tmulx 0(%[a]), %[t0], %[t1]\n\tmulx 8(%[a]), %[low], %[t2]\n\tadd %[low], %[t1]\n\t"            \
  "mulx 16(%[a]), %[low], %[t3]\n\tadc %[low], %[t2]\n\tmulx 24(%[a]), %[low], %[t4]\n\tadc %[low], %[t3]\n\tadc $0, %[t4]\n\t"
#define ZG_ROW(AT)                                                                                                       \
  "mov " AT "(%[b]), %%rdx\n\txor %k[t4], %k[t4]\n\t"                                                                    \
  "mulx 0(%[a]), %[low], %[high]\n\tadox %[low], %[t0]\n\tadcx %[high], %[t1]\n\t"                                      \
  "mulx 8(%[a]), %[low], %[high]\n\tadox %[low], %[t1]\n\tadcx %[high], %[t2]\n\t"                                      \
  "mulx 16(%[a]), %[low], %[high]\n\tadox %[low], %[t2]\n\tadcx %[high], %[t3]\n\t"                                     \
  "mulx 24(%[a]), %[low], %[high]\n\tadox %[low], %[t3]\n\tadcx %[t4], %[high]\n\tadox %[high], %[t4]\n\t"
#define ZG_REDUCE                                                                                                        \
  "mov %[inverse], %%rdx\n\timul %[t0], %%rdx\n\txor %k[low], %k[low]\n\t"                                                \
  "mulx 0(%[m]), %[low], %[high]\n\tadcx %[t0], %[low]\n\tmov %[high], %[t0]\n\tadcx %[t1], %[t0]\n\t"                 \
  "mulx 8(%[m]), %[low], %[t1]\n\tadox %[low], %[t0]\n\tadcx %[t2], %[t1]\n\t"                                          \
  "mulx 16(%[m]), %[low], %[t2]\n\tadox %[low], %[t1]\n\tadcx %[t3], %[t2]\n\t"                                         \
  "mulx 24(%[m]), %[low], %[t3]\n\tadox %[low], %[t2]\n\tmov $0, %k[low]\n\tadcx %[low], %[t3]\n\tadox %[t4], %[t3]\n\t"
    __asm__(ZG_FIRST ZG_REDUCE ZG_ROW("8") ZG_REDUCE ZG_ROW("16") ZG_REDUCE ZG_ROW("24") ZG_REDUCE
            // Once the modulus off, if it goes.
            "mov %[t0], %[t4]\n\tmov %[t1], %[low]\n\tmov %[t2], %[high]\n\tmov %[t3], %%rdx\n\t"
            "sub 0(%[m]), %[t4]\n\tsbb 8(%[m]), %[low]\n\tsbb 16(%[m]), %[high]\n\tsbb 24(%[m]), %%rdx\n\t"
            "cmovnc %[t4], %[t0]\n\tcmovnc %[low], %[t1]\n\tcmovnc %[high], %[t2]\n\tcmovnc %%rdx, %[t3]"
            : [t0] "=&r"(t0), [t1] "=&r"(t1), [t2] "=&r"(t2), [t3] "=&r"(t3), [t4] "=&r"(t4), [low] "=&r"(low), [high] "=&r"(high)
            : [a] "r"(a.v.w), [b] "r"(b.v.w), [m] "r"(kM.w), [inverse] "m"(kInverse), "m"(a.v), "m"(b.v), "m"(kM)
            : "rdx", "cc");
#undef ZG_FIRST
#undef ZG_ROW
#undef ZG_REDUCE
    return raw({t0, t1, t2, t3});
  }
  // Compilers lose the carry between words; these keep it in its flag.
  static Prime sum_x64(const Prime& a, const Prime& b) noexcept {
    static constexpr U256 kM = M;
    uint64_t t0 = a.v.w[0], t1 = a.v.w[1], t2 = a.v.w[2], t3 = a.v.w[3], x0, x1, x2, x3;
    __asm__("add 0(%[b]), %[t0]\n\tadc 8(%[b]), %[t1]\n\tadc 16(%[b]), %[t2]\n\tadc 24(%[b]), %[t3]\n\t"
            "mov %[t0], %[x0]\n\tmov %[t1], %[x1]\n\tmov %[t2], %[x2]\n\tmov %[t3], %[x3]\n\t"
            "sub 0(%[m]), %[x0]\n\tsbb 8(%[m]), %[x1]\n\tsbb 16(%[m]), %[x2]\n\tsbb 24(%[m]), %[x3]\n\t"
            "cmovnc %[x0], %[t0]\n\tcmovnc %[x1], %[t1]\n\tcmovnc %[x2], %[t2]\n\tcmovnc %[x3], %[t3]"
            : [t0] "+&r"(t0), [t1] "+&r"(t1), [t2] "+&r"(t2), [t3] "+&r"(t3), [x0] "=&r"(x0), [x1] "=&r"(x1), [x2] "=&r"(x2), [x3] "=&r"(x3)
            : [b] "r"(b.v.w), [m] "r"(kM.w), "m"(b.v), "m"(kM)
            : "cc");
    return raw({t0, t1, t2, t3});
  }
  static Prime difference_x64(const Prime& a, const Prime& b) noexcept {
    static constexpr U256 kM = M;
    uint64_t t0 = a.v.w[0], t1 = a.v.w[1], t2 = a.v.w[2], t3 = a.v.w[3], x0, x1, x2, x3;
    __asm__("sub 0(%[b]), %[t0]\n\tsbb 8(%[b]), %[t1]\n\tsbb 16(%[b]), %[t2]\n\tsbb 24(%[b]), %[t3]\n\t"
            "sbb %[x0], %[x0]\n\tmov %[x0], %[x1]\n\tmov %[x0], %[x2]\n\tmov %[x0], %[x3]\n\t"
            "and 0(%[m]), %[x0]\n\tand 8(%[m]), %[x1]\n\tand 16(%[m]), %[x2]\n\tand 24(%[m]), %[x3]\n\t"
            "add %[x0], %[t0]\n\tadc %[x1], %[t1]\n\tadc %[x2], %[t2]\n\tadc %[x3], %[t3]"
            : [t0] "+&r"(t0), [t1] "+&r"(t1), [t2] "+&r"(t2), [t3] "+&r"(t3), [x0] "=&r"(x0), [x1] "=&r"(x1), [x2] "=&r"(x2), [x3] "=&r"(x3)
            : [b] "r"(b.v.w), [m] "r"(kM.w), "m"(b.v), "m"(kM)
            : "cc");
    return raw({t0, t1, t2, t3});
  }
#endif
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
