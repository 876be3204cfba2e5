// The contracts that are part of the machine. Ethereum's are pure functions with a price; 0G's (chain.md 4) read and write state of
// their own address and come in as plug-ins.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "base/types.h"
#include "state/working_state.h"
#include "vm/revision.h"

namespace zg {

struct BlockEnv;
struct TxEnv;

struct PrecompileResult {
  bool ok = false;        // false: all gas given is gone
  uint64_t gas_used = 0;  // above the gas given: out of gas
  Bytes output;
  bool reverts = false;   // with !ok: `output` goes back as the reason of a revert
};

// Ethereum's precompile at `address` under a revision, null when there is none.
// `gas` is what the caller gives: a function may refuse before the work when the price is above it.
using PrecompileFn = PrecompileResult (*)(ByteView input, uint64_t gas);
PrecompileFn find_precompile(Revision revision, const Address& address) noexcept;

// A contract of the machine with state.
struct StatefulCall {
  Revision revision;
  WorkingState& state;
  const BlockEnv& block;
  const TxEnv& tx;
  Address self;    // the precompile's own address
  Address caller;
  U256 value;
  ByteView input;
  uint64_t gas;
  bool is_static;
  bool is_delegate;  // DELEGATECALL or CALLCODE: to be refused
};
class StatefulPrecompile {
 public:
  virtual ~StatefulPrecompile() = default;
  [[nodiscard]] virtual Address address() const = 0;
  // On failure all gas given is gone and the frame's changes are undone by the caller. `revert_data` of a failure goes back as output when
  // `reverts` is set there.
  virtual PrecompileResult run(const StatefulCall& call) const = 0;
};

// The set of a chain: Ethereum's for the revision, and plug-ins.
class Precompiles {
 public:
  Precompiles() = default;
  void add(std::shared_ptr<const StatefulPrecompile> plugin) { plugins_.push_back(std::move(plugin)); }
  [[nodiscard]] const StatefulPrecompile* stateful(const Address& address) const noexcept {
    for (const auto& p : plugins_)
      if (p->address() == address) return p.get();
    return nullptr;
  }
  [[nodiscard]] bool any_stateful() const noexcept { return !plugins_.empty(); }
  // Overrides of eth_call and its like: at `at` acts what is at `as`, or nothing. Only set on a copy, before execution.
  void put(const Address& at, const std::optional<Address>& as) { moves_.push_back({at, as}); }
  [[nodiscard]] bool any_moved() const noexcept { return !moves_.empty(); }
  // Follows the moves: false when nothing acts at the address any more.
  [[nodiscard]] bool resolve(Address& address) const noexcept {
    for (size_t i = moves_.size(); i-- > 0;) {
      if (moves_[i].at != address) continue;
      if (!moves_[i].as) return false;
      address = *moves_[i].as;
      return true;
    }
    return true;
  }
  // Whether a precompile of either kind acts at the address.
  [[nodiscard]] bool acts_at(Revision revision, Address address) const noexcept {
    return resolve(address) && (find_precompile(revision, address) != nullptr || stateful(address) != nullptr);
  }
  // All addresses that are warm from the start of a transaction (EIP-2929).
  [[nodiscard]] std::vector<Address> addresses(Revision revision) const;

 private:
  struct Move {
    Address at;
    std::optional<Address> as;
  };
  std::vector<std::shared_ptr<const StatefulPrecompile>> plugins_;
  std::vector<Move> moves_;
};

}  // namespace zg
