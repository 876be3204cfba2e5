// Execution without a block: eth_call, eth_estimateGas, eth_createAccessList, and what a tracer watches (chain.md 9.4). Any thread.
#pragma once

#include <atomic>
#include <optional>
#include <string>

#include "chain/chain.h"
#include "exec/transition.h"

namespace zg {

// One account that stands otherwise for a call.
struct AccountOverride {
  std::optional<U256> balance;
  std::optional<uint64_t> nonce;
  std::optional<std::shared_ptr<const Code>> code;
  enum class Mode : uint8_t { none, state, diff } mode = Mode::none;  // `state`: all other slots are zero
  std::unordered_map<U256, U256, U256Hasher> slots;
  std::optional<Address> move_precompile_to;
};
using Overrides = std::unordered_map<Address, AccountOverride, AddressHasher>;

// State with some accounts otherwise. The base must outlive it.
class OverriddenState final : public StateReader {
 public:
  OverriddenState(const StateReader& base, const Overrides& over) : base_(base), over_(over) {}
  bool account(const Address& address, AccountData& out) const override;
  U256 storage(const Address& address, const U256& slot) const override;
  std::shared_ptr<const Code> code(const Hash& code_hash) const override;
  bool has_storage(const Address& address) const override;

 private:
  const StateReader& base_;
  const Overrides& over_;
};

// Moves precompiles as the overrides say; one whose own address is overridden is gone. Empty: done; else why not, in geth's words.
std::string move_precompiles(Precompiles& precompiles, const Overrides& over, Revision rev);
// The overrides as changes of a running state, as if a transaction before had made them.
void apply_overrides(WorkingState& state, const Overrides& over);

// [from, to, gas, gasPrice, value, data, accessList, authorizations, nonce, maxFeePerBlobGas, blobHashes] of lib/evm/types.ts. Null: read.
const char* decode_call(ByteView in, const U256& chain_id, Transaction& out);
const char* decode_overrides(ByteView in, Overrides& out);
// [number, timestamp, gasLimit, beneficiary, prevRandao, baseFee, blobBaseFee]
const char* decode_env(ByteView in, const ChainConfig& config, BlockEnv& out);

// As the block of a header, or as the one after it.
BlockEnv env_at(const Chain& chain, const Header& header);
BlockEnv env_after(const Chain& chain, const Header& header);

// Watches one call from its working state to its outcome (tracers).
class CallWatch {
 public:
  virtual ~CallWatch() = default;
  virtual Tracer* tracer() = 0;
  virtual void begin(WorkingState& state, const Transaction& tx, const BlockEnv& env, Revision rev, const Precompiles& precompiles) = 0;
  virtual void end(const TxOutcome& outcome) = 0;
};

struct CallContext {
  const StateReader* state = nullptr;  // not overridden yet
  Overrides overrides;
  BlockEnv env;
  const std::atomic<bool>* stop = nullptr;
  CallWatch* watch = nullptr;
  bool wants_access_list = false;
};

struct CallOutcome {
  TxOutcome tx;
  std::vector<AccessEntry> access_list;  // when wanted: everything warm but the sender, precompiles and the coinbase; a target without slots left out
};

CallOutcome run_call(const Chain& chain, const CallContext& context, const Transaction& tx);

enum class CallKindOf : uint8_t { none, revert, out_of_gas, other, refused, stopped };
CallKindOf kind_of(const TxOutcome& outcome) noexcept;
// geth's words for people.
std::string words_of(const TxOutcome& outcome);

// geth's binary search. The outcome of the last run that decided: on success `tx.gas_used` is the estimate. `gas_cap` 0: none.
// `error`: words where no outcome has them ("gas required exceeds allowance (N)").
CallOutcome estimate_gas(const Chain& chain, const CallContext& context, Transaction tx, uint64_t gas_cap, std::string& error);

}  // namespace zg
