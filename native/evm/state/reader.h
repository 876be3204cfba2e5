// State as it stands under a block or a call: what the interpreter starts from. Implementations are immutable and thread safe.
#pragma once

#include <memory>

#include "base/types.h"
#include "base/u256.h"
#include "vm/code.h"

namespace zg {

struct AccountData {
  uint64_t nonce = 0;
  U256 balance;
  Hash code_hash = empty_code_hash();

  [[nodiscard]] bool empty() const noexcept { return nonce == 0 && balance.is_zero() && code_hash == empty_code_hash(); }
  friend bool operator==(const AccountData&, const AccountData&) = default;
};

class StateReader {
 public:
  virtual ~StateReader() = default;
  // False: there is no such account.
  virtual bool account(const Address& address, AccountData& out) const = 0;
  virtual U256 storage(const Address& address, const U256& slot) const = 0;
  // Of a hash that an account of this state has. Never null: a missing code is a corrupt store, and stops the process.
  virtual std::shared_ptr<const Code> code(const Hash& code_hash) const = 0;
  // Whether any slot is not zero (EIP-7610).
  virtual bool has_storage(const Address& address) const = 0;
};

// State in memory: tests, state tests, genesis.
class MemoryState;  // state/memory_state.h

}  // namespace zg
