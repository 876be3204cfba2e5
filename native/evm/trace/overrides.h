// What a call may pretend about accounts (third parameter of eth_call, stateOverrides of eth_simulateV1).
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/rlp.h"
#include "precompiles/precompiles.h"
#include "state/working_state.h"

namespace zg {

struct AccountOverride {
  Address address{};
  std::optional<U256> balance;
  std::optional<uint64_t> nonce;
  std::optional<Bytes> code;
  enum class Storage : uint8_t { keep, replace, change } storage = Storage::keep;
  std::vector<std::pair<U256, U256>> slots;
  std::optional<Address> move_precompile_to;
};

// rlp [[address, [balance] | [], [nonce] | [], [code] | [], mode, [[slot, value]…], to | '']…]; slots and values of 32 bytes. False: malformed.
bool read_overrides(rlp::Reader list, std::vector<AccountOverride>& out);
// As if a transaction before had done it. An override at a precompile's address switches that precompile off, in `precompiles`.
// Empty: done; else why not, in geth's words.
std::string apply_overrides(WorkingState& state, std::span<const AccountOverride> overrides, Revision rev, Precompiles& precompiles);

}  // namespace zg
