// DASigners at 0x…1000 (chain.md 4.1): who may sign for data availability, epoch by epoch.
#pragma once

#include <memory>

#include "precompiles/precompiles.h"

namespace zg {

struct DaSignersParams {
  U256 tokens_per_vote{30};
  uint64_t max_votes_per_signer = 102'400;
  uint64_t max_quorums = 10;
  uint64_t epoch_blocks = 28'800;  // where the genesis names no other number
  uint64_t encoded_slices = 3'072; // places of a quorum, a multiple of 8, below 65 536
  Address registry{};              // the only caller that may register
};

std::shared_ptr<const StatefulPrecompile> make_da_signers(const DaSignersParams& params);

}  // namespace zg
