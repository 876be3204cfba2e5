// Round constants of Keccak-f[1600] (FIPS 202, 3.2.5), made by its linear feedback register so that no digit can be mistyped.
#pragma once

#include <array>
#include <cstdint>

namespace zg {

constexpr std::array<uint64_t, 24> make_round_constants() {
  std::array<uint64_t, 24> out{};
  uint8_t lfsr = 1;
  for (auto& constant : out) {
    constant = 0;
    for (int j = 0; j < 7; j++) {
      if (lfsr & 1) constant |= uint64_t{1} << ((1 << j) - 1);
      lfsr = static_cast<uint8_t>((lfsr << 1) ^ ((lfsr & 0x80) ? 0x71 : 0));
    }
  }
  return out;
}

inline constexpr std::array<uint64_t, 24> kRoundConstants = make_round_constants();
static_assert(kRoundConstants[0] == 1 && kRoundConstants[23] == 0x8000000080008008);

}  // namespace zg
