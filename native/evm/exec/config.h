// Which rules hold at which block, and the chain's own parameters.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/types.h"
#include "base/u256.h"
#include "vm/revision.h"

namespace zg {

struct BlobSchedule {
  uint64_t target = 6, max = 9, update_fraction = 5007716;
};

inline constexpr uint64_t kNever = ~uint64_t{0};

struct ChainConfig {
  U256 chain_id{1};
  // First block (up to London and Paris) or first second (from Shanghai on) of each revision; kNever: not scheduled.
  std::array<uint64_t, kRevisions> block_of{};  // frontier … paris; index by Revision
  std::array<uint64_t, kRevisions> time_of{};   // shanghai … osaka
  std::array<BlobSchedule, kRevisions> blobs{}; // cancun … osaka
  // Blob-parameter-only forks (EIP-7892), sorted by time.
  struct BlobFork {
    uint64_t time;
    BlobSchedule schedule;
  };
  std::vector<BlobFork> blob_forks;
  // Paris by total difficulty in tests of old chains: set block_of[paris] instead where the block is known.
  std::optional<U256> terminal_total_difficulty;
  bool dao_fork = false;
  uint64_t dao_block = kNever;
  Address deposit_contract{};  // EIP-6110 logs come from here

  // 0G (chain.md 1)
  uint64_t min_gas_charge_bps = 0;      // charged gas is at least gasLimit × this / 10 000
  bool non_decreasing_time = true;      // timestamp == parent's is valid; plain Ethereum: false
  uint64_t gas_limit_floor = 5000;

  [[nodiscard]] Revision revision_at(uint64_t number, uint64_t timestamp) const noexcept;
  [[nodiscard]] BlobSchedule blobs_at(uint64_t timestamp, Revision rev) const noexcept;
  // Everything up to and including `rev` from genesis on.
  static ChainConfig all_at(Revision rev, const U256& chain_id);
};

// Of a unit of blob gas (EIP-4844): e to the power excess / fraction, by its series. The largest number when it does not fit.
U256 blob_base_fee(uint64_t excess, uint64_t update_fraction) noexcept;

}  // namespace zg
