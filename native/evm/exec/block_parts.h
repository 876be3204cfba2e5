// What executing a block is made of; for the files of this folder.
#pragma once

#include <string>

#include "exec/block.h"
#include "state/working_state.h"

namespace zg {

// ---- header_rules.cpp
// Rules that need no execution: links to the parent, limits, fees, which fields there are, roots over the body. Empty: all is well.
std::string check_header(const Header& parent, const Header& header, const ChainConfig& config, Revision rev, bool parent_has_ommers);
std::string check_body(const Block& block, const ChainConfig& config, Revision rev);
std::string check_ommers(const Block& block, const ChainConfig& config, const Ancestry* ancestry);
U256 next_difficulty(const Header& parent, const ChainConfig& config, uint64_t timestamp, bool parent_has_ommers) noexcept;
Hash ommers_hash_of(const std::vector<Header>& ommers);
const Hash& empty_ommers_hash() noexcept;

// ---- system.cpp
BlockEnv env_of(const Header& header, const ChainConfig& config, Revision rev, const BlockHashes& hashes);
// Beacon root (EIP-4788) and parent hash (EIP-2935).
void before_block(WorkingState& state, const Header& header, Revision rev, const BlockEnv& env, const Precompiles& precompiles);
// Withdrawals, or the rewards of old forks.
void credit_withdrawals(WorkingState& state, std::span<const Withdrawal> withdrawals, Revision rev);
void pay_rewards(WorkingState& state, const Block& block, Revision rev);
// EIP-6110, 7002, 7251. Empty text: all is well.
std::string collect_requests(WorkingState& state, const ChainConfig& config, Revision rev, const BlockEnv& env, const Precompiles& precompiles,
                             std::span<const Receipt> receipts, std::vector<Bytes>& out);
// EIP-7685.
Hash requests_hash(std::span<const Bytes> requests);

// ---- dao.cpp
void apply_dao_fork(WorkingState& state);

}  // namespace zg
