// keccak-256 of many messages of any lengths at once: lanes of the machine's widest path take messages of the same number of blocks
// (136 bytes each) together. For trie nodes, hashed addresses and slots.
#pragma once

#include <span>

#include "base/types.h"

namespace zg {

struct HashJob {
  const uint8_t* data;
  size_t size;
  uint8_t* out;  // 32 bytes; may lie in no job's data
};

// Thread safe, never fails; the order of `jobs` does not matter to the result or much to the speed.
void keccak_batch(std::span<const HashJob> jobs) noexcept;

// One path: exactly `lanes` messages, each of `blocks` blocks with its padding. For tests and the dispatcher.
struct KeccakLanes {
  const char* name;
  size_t lanes;
  void (*run)(const HashJob* const* jobs, size_t blocks) noexcept;
};
// Wide paths of this machine, widest first; ends with nullptr.
const KeccakLanes* const* keccak_lane_paths() noexcept;

}  // namespace zg
