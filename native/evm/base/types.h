// The plain values that every part of native/evm speaks: addresses, hashes, byte strings.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace zg {

using Bytes = std::vector<uint8_t>;
using ByteView = std::span<const uint8_t>;

// N bytes, compared as big-endian numbers.
template <size_t N>
struct Fixed {
  uint8_t b[N];

  friend bool operator==(const Fixed& x, const Fixed& y) noexcept { return std::memcmp(x.b, y.b, N) == 0; }
  friend std::strong_ordering operator<=>(const Fixed& x, const Fixed& y) noexcept {
    return std::memcmp(x.b, y.b, N) <=> 0;
  }
  [[nodiscard]] bool is_zero() const noexcept { return *this == Fixed{}; }
  [[nodiscard]] ByteView view() const noexcept { return {b, N}; }
  operator ByteView() const noexcept { return {b, N}; }  // NOLINT: the value is its bytes.

  // Of exactly N bytes; the caller has checked the size.
  static Fixed from(const uint8_t* p) noexcept {
    Fixed x;
    std::memcpy(x.b, p, N);
    return x;
  }
};

struct Address : Fixed<20> {
  static Address from(const uint8_t* p) noexcept { return Address{Fixed<20>::from(p)}; }
};
struct Hash : Fixed<32> {
  static Hash from(const uint8_t* p) noexcept { return Hash{Fixed<32>::from(p)}; }
};

inline ByteView as_bytes(std::string_view s) noexcept { return {reinterpret_cast<const uint8_t*>(s.data()), s.size()}; }
inline std::string_view as_chars(ByteView v) noexcept { return {reinterpret_cast<const char*>(v.data()), v.size()}; }

// Mixes 8 bytes with a seed drawn once a process: keys of maps come from outside and must not be made to collide.
// Two seeds, so that the words of a key can be mixed side by side and still not be swapped.
namespace detail {
uint64_t draw_seed() noexcept;
inline const uint64_t kSeed = draw_seed(), kSeedToo = draw_seed();
}  // namespace detail
inline uint64_t fold64(uint64_t x, uint64_t y) noexcept {
  const unsigned __int128 m = static_cast<unsigned __int128>(x) * y;
  return static_cast<uint64_t>(m) ^ static_cast<uint64_t>(m >> 64);
}
inline uint64_t mix64(uint64_t x) noexcept { return fold64(x ^ detail::kSeed, 0x9e3779b97f4a7c15ULL); }
inline uint64_t load64(const uint8_t* p) noexcept {
  uint64_t x;
  std::memcpy(&x, p, 8);
  return x;
}
// Four words in two multiplications that do not wait for each other, and one that joins them.
inline uint64_t mix256(uint64_t a, uint64_t b, uint64_t c, uint64_t d) noexcept {
  const uint64_t low = fold64(a ^ detail::kSeed, b ^ detail::kSeedToo), high = fold64(c ^ detail::kSeedToo, d ^ detail::kSeed);
  return fold64(low ^ 0x9e3779b97f4a7c15ULL, (high << 32 | high >> 32) ^ detail::kSeed);
}
struct AddressHasher {
  size_t operator()(const Address& a) const noexcept {
    uint32_t tail;
    std::memcpy(&tail, a.b + 16, 4);
    return mix64(mix64(load64(a.b) ^ tail) ^ load64(a.b + 8));
  }
};
struct HashHasher {
  size_t operator()(const Hash& h) const noexcept {
    return mix256(load64(h.b), load64(h.b + 8), load64(h.b + 16), load64(h.b + 24));
  }
};

// keccak-256 of one message, on the widest path of this CPU (native/codec).
Hash keccak(ByteView data) noexcept;
inline const Hash& empty_code_hash() noexcept;  // keccak of nothing
inline const Hash& empty_trie_root() noexcept;  // keccak(rlp(""))

std::string to_hex(ByteView v);  // with 0x, lower case

namespace detail {
constexpr Hash kEmptyCode{{{0xc5, 0xd2, 0x46, 0x01, 0x86, 0xf7, 0x23, 0x3c, 0x92, 0x7e, 0x7d, 0xb2, 0xdc, 0xc7, 0x03, 0xc0,
                            0xe5, 0x00, 0xb6, 0x53, 0xca, 0x82, 0x27, 0x3b, 0x7b, 0xfa, 0xd8, 0x04, 0x5d, 0x85, 0xa4, 0x70}}};
constexpr Hash kEmptyRoot{{{0x56, 0xe8, 0x1f, 0x17, 0x1b, 0xcc, 0x55, 0xa6, 0xff, 0x83, 0x45, 0xe6, 0x92, 0xc0, 0xf8, 0x6e,
                            0x5b, 0x48, 0xe0, 0x1b, 0x99, 0x6c, 0xad, 0xc0, 0x01, 0x62, 0x2f, 0xb5, 0xe3, 0x63, 0xb4, 0x21}}};
}  // namespace detail
inline const Hash& empty_code_hash() noexcept { return detail::kEmptyCode; }
inline const Hash& empty_trie_root() noexcept { return detail::kEmptyRoot; }

}  // namespace zg
