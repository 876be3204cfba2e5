// The state that transactions of a block work on: a journal over a StateReader.
//
//   block      WorkingState(reader)  ─ begin_transaction ─ … ─ finish_transaction ─ begin_transaction … ─ take_diff
//   frame      size_t c = checkpoint()  …  revert_to(c) when the frame failed; nothing when it succeeded
//
// Accounts and slots are read once, stay at a fixed address in memory until the block ends, and remember per transaction (by
// comparing a stored transaction number with the current one, so that nothing is cleared between transactions): the value at the start
// of the transaction ("original", EIP-2200), whether they are warm (EIP-2929), whether the account was created here (EIP-6780).
//
// Not thread safe: one a thread.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/types.h"
#include "base/u256.h"
#include "state/diff.h"
#include "state/reader.h"
#include "vm/revision.h"

namespace zg {

struct Log {
  Address address;
  std::vector<Hash> topics;  // at most 4
  Bytes data;
};

struct Slot {
  U256 key;
  U256 base;      // in the reader
  U256 original;  // at the start of transaction `tx`
  U256 current;
  uint32_t tx = 0;       // transaction that saw it last; another one: original is stale
  uint32_t warm_tx = 0;  // transaction in which it is warm
  uint64_t saved_at = 0;  // the mark under which the journal already holds its value: a checkpoint makes a new one
};

// The slots of one account by key: open addressing over slots that never move (blocks of growing size).
class SlotMap {
 public:
  // Null: not seen yet.
  [[nodiscard]] Slot* find(const U256& key) const noexcept {
    if (table_.empty()) return nullptr;
    const size_t mask = table_.size() - 1;
    for (size_t i = U256Hasher{}(key) & mask;; i = (i + 1) & mask) {
      Slot* s = table_[i];
      if (s == nullptr || s->key == key) return s;
    }
  }
  // The key is not in it yet.
  Slot& add(const U256& key);
  [[nodiscard]] size_t size() const noexcept { return size_; }
  template <typename Fn>
  void each(Fn&& fn) const {
    size_t left = size_;
    for (const auto& block : blocks_)
      for (size_t i = 0; i < block.capacity && left != 0; ++i, --left) fn(block.slots[i]);
  }

 private:
  struct Block {
    std::unique_ptr<Slot[]> slots;
    size_t capacity;
  };
  std::vector<Slot*> table_;  // a power of two, at most half full
  std::vector<Block> blocks_;
  size_t size_ = 0;
  size_t used_ = 0;  // of the last block
};

// What of an account's values execution has looked at: another state may stand in when it agrees in so much (agrees, below).
//
// A balance that was only added to and taken from is known by a bound, not by its value: fees and deposits of many transactions to one account, and
// the costs of many from one, do not depend on each other's order.
struct Account {
  Address address;
  bool existed = false;  // in the reader
  bool exists = false;
  bool tracked = false;  // the bounds below are kept: the state will be compared with another
  bool always_warm = false;    // a precompile
  bool cleared = false;        // slots of the reader are gone
  uint32_t warm_tx = 0;
  uint32_t created_tx = 0;     // transaction in which a CREATE made it
  uint32_t touched_tx = 0;     // EIP-161: to be removed when empty at the end of the transaction
  uint32_t destroyed_tx = 0;   // SELFDESTRUCT in this transaction takes effect at its end
  AccountData base;
  std::shared_ptr<const Code> code;  // null until asked for
  SlotMap slots;

  [[nodiscard]] const Hash& code_hash() const noexcept { return now_.code_hash; }
  [[nodiscard]] uint64_t nonce() const noexcept {
    seen_ |= kNonce;
    return now_.nonce;
  }
  [[nodiscard]] const U256& balance() const noexcept {
    seen_ |= kBalance;
    return now_.balance;
  }
  // Whether the balance is at least `amount`: the question to ask before it is taken away.
  [[nodiscard]] bool covers(const U256& amount) const noexcept {
    if (now_.balance < amount) {
      seen_ |= kBalance;
      return false;
    }
    if (tracked) note_need(amount);
    return true;
  }
  // EIP-161. Looks at as little as will do.
  [[nodiscard]] bool empty() const noexcept {
    if (now_.code_hash != empty_code_hash()) return false;
    if ((spent_ || (seen_ & kNonce) != 0) && nonce() != 0) return false;
    seen_ |= spent_ ? kBalance : kZero;
    return now_.balance.is_zero() && nonce() == 0;
  }

 private:
  friend class WorkingState;
  enum Seen : uint8_t { kNonce = 1, kBalance = 2, kZero = 4 };  // kZero: whether the balance is 0
  void note_need(const U256& amount) const noexcept {
    const U256 need = now_.balance < base.balance ? amount + (base.balance - now_.balance)
                      : now_.balance - base.balance < amount ? amount - (now_.balance - base.balance)
                                                             : U256{};
    if (need_ < need) need_ = need;
  }
  AccountData now_;
  mutable U256 need_;  // the least balance at the start with which every answer of covers() is the same
  U256 peak_;          // the most that the balance was above the one at the start
  mutable uint8_t seen_ = 0;
  bool spent_ = false;
};

class WorkingState {
 public:
  explicit WorkingState(const StateReader& base);
  ~WorkingState();
  WorkingState(const WorkingState&) = delete;
  WorkingState& operator=(const WorkingState&) = delete;

  // ---- transactions
  // Nothing warm, nothing transient, no logs, no refund. Coinbase, precompiles, access list: the caller warms.
  void begin_transaction();
  // Destroys what was to be destroyed, removes touched empty accounts (from Spurious Dragon on), forgets the journal.
  void finish_transaction(Revision rev);
  // Undoes everything since begin_transaction.
  void abort_transaction();

  // ---- frames
  [[nodiscard]] size_t checkpoint() noexcept;
  void revert_to(size_t checkpoint);

  // ---- accounts. References live as long as the state.
  Account& account(const Address& address);
  // True when it was cold until now; it is warm then.
  bool warm(Account& account);
  // Precompiles are warm in every transaction (EIP-2929): marked once for the whole life of this state.
  void always_warm(std::vector<Address> addresses);
  [[nodiscard]] bool has_always_warm() const noexcept { return has_always_warm_; }
  bool warm(Account& account, Slot& slot);
  void touch(Account& account);
  const Code& code(Account& account);
  void set_balance(Account& account, const U256& balance);  // touches; makes the account exist
  void add_balance(Account& account, const U256& amount);
  // False when it is short; then nothing happened.
  bool sub_balance(Account& account, const U256& amount);
  void set_nonce(Account& account, uint64_t nonce);
  void set_code(Account& account, std::shared_ptr<const Code> code);
  // A CREATE's new account: nonce 0, no code; its balance stays. Marks it created here.
  void create(Account& account);
  void destroy(Account& account);
  [[nodiscard]] bool created_here(const Account& account) const noexcept { return account.created_tx == tx_; }
  [[nodiscard]] bool destroyed_here(const Account& account) const noexcept { return account.destroyed_tx == tx_; }
  // Not existing, or empty in the sense of EIP-161.
  [[nodiscard]] bool dead(const Account& account) const noexcept { return !account.exists || account.empty(); }
  // Nonce, code or storage (EIP-684, EIP-7610): no contract may be created there.
  bool collides(Account& account);

  // ---- storage. `original` of the slot is right for this transaction.
  Slot& slot(Account& account, const U256& key);
  void set_slot(Account& account, Slot& slot, const U256& value);
  U256 transient(const Address& address, const U256& key) const;
  void set_transient(const Address& address, const U256& key, const U256& value);

  // ---- logs and refund of the transaction; reverted with the frame
  void add_log(Log&& log);
  [[nodiscard]] std::vector<Log>& logs() noexcept { return logs_; }
  [[nodiscard]] int64_t refund() const noexcept { return refund_; }
  void add_refund(int64_t delta);  // may be negative

  // ---- the end of a block
  // The whole change against the reader. Between transactions only; the state is as it was and may go on.
  StateDiff take_diff();

  // ---- speculation (exec/parallel.h): a transaction runs on a state of its own over values that others read, and is taken over when they still hold
  // Before the first account: what execution looks at is remembered.
  void track() noexcept { tracks_ = true; }
  // As it was made, over the same reader.
  void restart();
  // Whether the one transaction that ran on `other` would have done the same here: all that it looked at is as it saw it. What is not loaded here was never
  // written here: `other` must then have read it from this state's own reader.
  [[nodiscard]] bool agrees(const WorkingState& other) const;
  // Makes the changes of that transaction, which agrees.
  void absorb(WorkingState& other);
  // What the last transaction changed, when asked for before it; may name one twice.
  struct Changes {
    std::vector<Account*> accounts;
    std::vector<std::pair<Account*, Slot*>> slots;
  };
  void list_changes(bool wanted) noexcept { lists_ = wanted; }
  [[nodiscard]] const Changes& changes() const noexcept { return changes_; }
  // Everything that differs from the reader.
  void list_all(Changes& out) const;
  // Values of an account as they stand.
  [[nodiscard]] static const AccountData& data(const Account& account) noexcept { return account.now_; }

  // ---- for tracers and access lists: everything warm in this transaction
  struct Warm {
    Address address;
    std::vector<U256> slots;
  };
  std::vector<Warm> warm_set() const;

 private:
  void put_balance(Account& account, const U256& balance);
  void gather_changes();

  const StateReader& base_;
  uint32_t tx_ = 0;
  uint64_t mark_ = 0;
  int64_t refund_ = 0;
  bool has_always_warm_ = false;
  bool tracks_ = false;
  bool lists_ = false;
  Changes changes_;
  std::vector<Log> logs_;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace zg
