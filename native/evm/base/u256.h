// 256-bit unsigned integers modulo 2^256, four 64-bit words, least significant first. Whatever the interpreter needs in its
// inner loop is inline; division and what is built on it stand in u256.cpp.
#pragma once

#include <array>
#include <bit>
#include <compare>
#include <cstdint>
#include <type_traits>

#include "base/types.h"

namespace zg {

struct U256 {
  uint64_t w[4] = {0, 0, 0, 0};

  constexpr U256() noexcept = default;
  constexpr U256(uint64_t x) noexcept : w{x, 0, 0, 0} {}  // NOLINT: small numbers are numbers.
  constexpr U256(uint64_t w0, uint64_t w1, uint64_t w2, uint64_t w3) noexcept : w{w0, w1, w2, w3} {}

  friend constexpr bool operator==(const U256& a, const U256& b) noexcept {
    return ((a.w[0] ^ b.w[0]) | (a.w[1] ^ b.w[1]) | (a.w[2] ^ b.w[2]) | (a.w[3] ^ b.w[3])) == 0;
  }
  friend constexpr std::strong_ordering operator<=>(const U256& a, const U256& b) noexcept {
    for (int i = 3; i >= 0; --i)
      if (a.w[i] != b.w[i]) return a.w[i] <=> b.w[i];
    return std::strong_ordering::equal;
  }
  [[nodiscard]] constexpr bool is_zero() const noexcept { return (w[0] | w[1] | w[2] | w[3]) == 0; }
  // Fits into 64 bits.
  [[nodiscard]] constexpr bool is_u64() const noexcept { return (w[1] | w[2] | w[3]) == 0; }
  [[nodiscard]] constexpr uint64_t low() const noexcept { return w[0]; }
  // The value, or 2^64 − 1 when it is larger.
  [[nodiscard]] constexpr uint64_t saturated() const noexcept { return is_u64() ? w[0] : ~uint64_t{0}; }
  [[nodiscard]] constexpr unsigned bit_width() const noexcept {
    for (int i = 3; i >= 0; --i)
      if (w[i] != 0) return 64u * static_cast<unsigned>(i) + 64u - static_cast<unsigned>(std::countl_zero(w[i]));
    return 0;
  }
  [[nodiscard]] constexpr unsigned byte_width() const noexcept { return (bit_width() + 7) / 8; }
  [[nodiscard]] constexpr bool negative() const noexcept { return (w[3] >> 63) != 0; }

  // Big-endian, 32 bytes.
  static U256 from_be(const uint8_t* p) noexcept {
    U256 x;
    for (int i = 0; i < 4; ++i) x.w[i] = __builtin_bswap64(load64(p + 8 * (3 - i)));
    return x;
  }
  // Big-endian, at most 32 bytes.
  static U256 from_be(ByteView v) noexcept {
    uint8_t full[32] = {};
    if (!v.empty()) std::memcpy(full + 32 - v.size(), v.data(), v.size());
    return from_be(full);
  }
  void to_be(uint8_t* p) const noexcept {
    for (int i = 0; i < 4; ++i) {
      const uint64_t x = __builtin_bswap64(w[3 - i]);
      std::memcpy(p + 8 * i, &x, 8);
    }
  }
  [[nodiscard]] Hash be() const noexcept {
    Hash h;
    to_be(h.b);
    return h;
  }
  static U256 from(const Address& a) noexcept { return from_be(ByteView{a.b, 20}); }
  static U256 from(const Hash& h) noexcept { return from_be(h.b); }
  // The low 20 bytes.
  [[nodiscard]] Address address() const noexcept {
    uint8_t full[32];
    to_be(full);
    return Address::from(full + 12);
  }
};

constexpr uint64_t addc(uint64_t a, uint64_t b, uint64_t& carry) noexcept {
  const unsigned __int128 s = static_cast<unsigned __int128>(a) + b + carry;
  carry = static_cast<uint64_t>(s >> 64);
  return static_cast<uint64_t>(s);
}
constexpr uint64_t subb(uint64_t a, uint64_t b, uint64_t& borrow) noexcept {
  const unsigned __int128 d = static_cast<unsigned __int128>(a) - b - borrow;
  borrow = static_cast<uint64_t>(d >> 64) & 1;
  return static_cast<uint64_t>(d);
}

// The compilers turn the portable carry chain into compares and branches: on x86-64 the four additions are written out.
constexpr U256 operator+(const U256& a, const U256& b) noexcept {
#if defined(__x86_64__)
  if (!std::is_constant_evaluated()) {
    uint64_t r0 = a.w[0], r1 = a.w[1], r2 = a.w[2], r3 = a.w[3];
    __asm__("addq %4, %0\n\tadcq %5, %1\n\tadcq %6, %2\n\tadcq %7, %3"
            : "+&r"(r0), "+&r"(r1), "+&r"(r2), "+&r"(r3)
            : "rm"(b.w[0]), "rm"(b.w[1]), "rm"(b.w[2]), "rm"(b.w[3])
            : "cc");
    return {r0, r1, r2, r3};
  }
#endif
  U256 r;
  uint64_t c = 0;
  for (int i = 0; i < 4; ++i) r.w[i] = addc(a.w[i], b.w[i], c);
  return r;
}
constexpr U256 operator-(const U256& a, const U256& b) noexcept {
#if defined(__x86_64__)
  if (!std::is_constant_evaluated()) {
    uint64_t r0 = a.w[0], r1 = a.w[1], r2 = a.w[2], r3 = a.w[3];
    __asm__("subq %4, %0\n\tsbbq %5, %1\n\tsbbq %6, %2\n\tsbbq %7, %3"
            : "+&r"(r0), "+&r"(r1), "+&r"(r2), "+&r"(r3)
            : "rm"(b.w[0]), "rm"(b.w[1]), "rm"(b.w[2]), "rm"(b.w[3])
            : "cc");
    return {r0, r1, r2, r3};
  }
#endif
  U256 r;
  uint64_t c = 0;
  for (int i = 0; i < 4; ++i) r.w[i] = subb(a.w[i], b.w[i], c);
  return r;
}
// a < b without branches: the borrow of the difference.
constexpr bool less(const U256& a, const U256& b) noexcept {
#if defined(__x86_64__)
  if (!std::is_constant_evaluated()) {
    uint64_t r1 = a.w[1], r2 = a.w[2], r3 = a.w[3];
    bool below;
    __asm__("cmpq %5, %4\n\tsbbq %6, %0\n\tsbbq %7, %1\n\tsbbq %8, %2"
            : "+&r"(r1), "+&r"(r2), "+&r"(r3), "=@ccb"(below)
            : "r"(a.w[0]), "rm"(b.w[0]), "rm"(b.w[1]), "rm"(b.w[2]), "rm"(b.w[3])
            : "cc");
    return below;
  }
#endif
  uint64_t c = 0;
  for (int i = 0; i < 4; ++i) subb(a.w[i], b.w[i], c);
  return c != 0;
}
constexpr bool less_signed(const U256& a, const U256& b) noexcept {
  constexpr uint64_t kSign = uint64_t{1} << 63;
  return less({a.w[0], a.w[1], a.w[2], a.w[3] ^ kSign}, {b.w[0], b.w[1], b.w[2], b.w[3] ^ kSign});
}
// False when the sum does not fit; r is then the sum modulo 2^256.
constexpr bool add_checked(const U256& a, const U256& b, U256& r) noexcept {
  uint64_t c = 0;
  for (int i = 0; i < 4; ++i) r.w[i] = addc(a.w[i], b.w[i], c);
  return c == 0;
}
constexpr U256 operator~(const U256& a) noexcept { return {~a.w[0], ~a.w[1], ~a.w[2], ~a.w[3]}; }
constexpr U256 operator-(const U256& a) noexcept { return U256{} - a; }
constexpr U256 operator&(const U256& a, const U256& b) noexcept {
  return {a.w[0] & b.w[0], a.w[1] & b.w[1], a.w[2] & b.w[2], a.w[3] & b.w[3]};
}
constexpr U256 operator|(const U256& a, const U256& b) noexcept {
  return {a.w[0] | b.w[0], a.w[1] | b.w[1], a.w[2] | b.w[2], a.w[3] | b.w[3]};
}
constexpr U256 operator^(const U256& a, const U256& b) noexcept {
  return {a.w[0] ^ b.w[0], a.w[1] ^ b.w[1], a.w[2] ^ b.w[2], a.w[3] ^ b.w[3]};
}
namespace detail {
// The upper word of (hi:lo) << bits, the lower word of (hi:lo) >> bits; bits below 64.
constexpr uint64_t shl2(uint64_t hi, uint64_t lo, unsigned bits) noexcept { return hi << bits | lo >> 1 >> (63 - bits); }
constexpr uint64_t shr2(uint64_t hi, uint64_t lo, unsigned bits) noexcept { return lo >> bits | hi << 1 << (63 - bits); }
// (fill, fill, fill, fill, a) >> n for n below 256.
constexpr U256 shr_filled(const U256& a, unsigned n, uint64_t fill) noexcept {
  const unsigned bits = n % 64;
  switch (n / 64) {
    case 0: return {shr2(a.w[1], a.w[0], bits), shr2(a.w[2], a.w[1], bits), shr2(a.w[3], a.w[2], bits), shr2(fill, a.w[3], bits)};
    case 1: return {shr2(a.w[2], a.w[1], bits), shr2(a.w[3], a.w[2], bits), shr2(fill, a.w[3], bits), fill};
    case 2: return {shr2(a.w[3], a.w[2], bits), shr2(fill, a.w[3], bits), fill, fill};
    default: return {shr2(fill, a.w[3], bits), fill, fill, fill};
  }
}
}  // namespace detail
constexpr U256 operator<<(const U256& a, unsigned n) noexcept {
  using detail::shl2;
  const unsigned bits = n % 64;
  switch (n / 64) {
    case 0: return {a.w[0] << bits, shl2(a.w[1], a.w[0], bits), shl2(a.w[2], a.w[1], bits), shl2(a.w[3], a.w[2], bits)};
    case 1: return {0, a.w[0] << bits, shl2(a.w[1], a.w[0], bits), shl2(a.w[2], a.w[1], bits)};
    case 2: return {0, 0, a.w[0] << bits, shl2(a.w[1], a.w[0], bits)};
    case 3: return {0, 0, 0, a.w[0] << bits};
    default: return {};
  }
}
constexpr U256 operator>>(const U256& a, unsigned n) noexcept { return n >= 256 ? U256{} : detail::shr_filled(a, n, 0); }
// Arithmetic shift: the sign comes in from above.
constexpr U256 sar(const U256& a, unsigned n) noexcept {
  const uint64_t fill = a.negative() ? ~uint64_t{0} : 0;
  return n >= 256 ? U256{fill, fill, fill, fill} : detail::shr_filled(a, n, fill);
}
constexpr U256 operator*(const U256& a, const U256& b) noexcept {
  using Wide = unsigned __int128;
  const auto hi = [](Wide x) { return static_cast<uint64_t>(x >> 64); };
  const auto lo = [](Wide x) { return static_cast<uint64_t>(x); };
  const Wide a0b0 = static_cast<Wide>(a.w[0]) * b.w[0];
  Wide t = static_cast<Wide>(a.w[0]) * b.w[1] + hi(a0b0);
  const Wide r1 = static_cast<Wide>(a.w[1]) * b.w[0] + lo(t);
  t = static_cast<Wide>(a.w[0]) * b.w[2] + hi(t);
  Wide s = static_cast<Wide>(a.w[1]) * b.w[1] + lo(t) + hi(r1);
  const Wide r2 = static_cast<Wide>(a.w[2]) * b.w[0] + lo(s);
  const uint64_t r3 = a.w[0] * b.w[3] + a.w[1] * b.w[2] + a.w[2] * b.w[1] + a.w[3] * b.w[0] + hi(t) + hi(s) + hi(r2);
  return {lo(a0b0), lo(r1), lo(r2), r3};
}
// False when the product does not fit into 256 bits.
bool mul_checked(const U256& a, const U256& b, U256& r) noexcept;

struct DivResult {
  U256 quotient, remainder;
};
// Unsigned; by zero: quotient and remainder 0, as the EVM has it.
DivResult divmod(const U256& a, const U256& b) noexcept;
DivResult sdivmod(const U256& a, const U256& b) noexcept;
U256 addmod(const U256& a, const U256& b, const U256& m) noexcept;
U256 mulmod(const U256& a, const U256& b, const U256& m) noexcept;
U256 exp(const U256& base, const U256& exponent) noexcept;
std::string to_decimal(const U256& x);

struct U256Hasher {
  size_t operator()(const U256& x) const noexcept { return mix256(x.w[0], x.w[1], x.w[2], x.w[3]); }
};

}  // namespace zg
