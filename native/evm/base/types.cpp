#include "base/types.h"

#include <random>

#include "cpu.h"
#include "keccak.h"

namespace zg {

uint64_t detail::draw_seed() noexcept {
  std::random_device device;
  return (static_cast<uint64_t>(device()) << 32) | device() | 1;
}

Hash keccak(ByteView data) noexcept {
  static const auto one = kernels_by_name(nullptr)->one;
  Hash out;
  one(data.data(), data.size(), out.b);
  return out;
}

std::string to_hex(ByteView v) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string s = "0x";
  s.reserve(2 + 2 * v.size());
  for (const uint8_t x : v) {
    s.push_back(kDigits[x >> 4]);
    s.push_back(kDigits[x & 15]);
  }
  return s;
}

}  // namespace zg
