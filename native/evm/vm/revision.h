// The rule sets of the EVM, oldest first: a feature is on when the revision is at least its own.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace zg {

enum class Revision : uint8_t {
  frontier,
  homestead,
  tangerine_whistle,   // EIP-150
  spurious_dragon,     // EIP-158, 155, 160, 170
  byzantium,
  constantinople,
  petersburg,          // "ConstantinopleFix"
  istanbul,
  berlin,
  london,
  paris,               // the merge
  shanghai,
  cancun,
  prague,
  osaka
};

inline constexpr int kRevisions = 15;

// Also the names of the test fixtures: EIP150, EIP158, ConstantinopleFix, Merge, …
std::optional<Revision> revision_named(std::string_view name) noexcept;
std::string_view name_of(Revision r) noexcept;

}  // namespace zg
