// What the transactions of a block have changed so far, for threads that speculate on later ones, and the view that they read through.
//
// A view is no snapshot: values that are read at different moments may belong to different transactions. That is found out when the transaction's turn
// comes and all that it read is compared with the state (WorkingState::agrees), so here speed counts, not order.
#pragma once

#include <atomic>
#include <mutex>
#include <unordered_map>

#include "state/working_state.h"

namespace zg {

// Written by the thread that commits, read by all.
class Overlay {
 public:
  void put(const WorkingState::Changes& changes);

  // False: nobody changed the account. Else `exists` and its data.
  bool account(const Address& address, bool& exists, AccountData& out) const;
  // False: nobody changed the slot, nor its account in a way that it would matter for.
  bool slot(const Address& address, const U256& key, U256& out) const;
  // Null: not a code of this block.
  std::shared_ptr<const Code> code(const Hash& hash) const;

 private:
  struct Entry {
    bool is_set = false;   // data and exists are; else there are slots alone
    bool exists = false;
    bool cleared = false;  // slots of the block's start are gone
    AccountData data;
    std::unordered_map<U256, U256, U256Hasher> slots;
  };
  struct alignas(64) Shard {
    mutable std::mutex mutex;
    std::unordered_map<Address, Entry, AddressHasher> entries;
  };
  static constexpr size_t kShards = 64;
  Shard& shard(const Address& a) { return shards_[AddressHasher{}(a) >> 58]; }
  const Shard& shard(const Address& a) const { return shards_[AddressHasher{}(a) >> 58]; }

  Shard shards_[kShards];
  mutable std::mutex codes_mutex_;
  std::atomic<bool> has_codes_{false};
  std::unordered_map<Hash, std::shared_ptr<const Code>, HashHasher> codes_;
};

// For one speculation after the other; one thread at a time.
class SpeculativeView final : public StateReader {
 public:
  SpeculativeView(const Overlay& overlay, const StateReader& base) : overlay_(overlay), base_(base) {}
  // The next transaction's sender, and the nonce that it will have when all before it are done.
  void begin(const Address& sender, uint64_t nonce) {
    sender_ = sender;
    nonce_ = nonce;
    guessed_ = unsure_ = false;
  }
  // Something was asked that cannot be compared afterwards.
  [[nodiscard]] bool unsure() const noexcept { return unsure_; }
  // The sender's nonce is not the one that the view found.
  [[nodiscard]] bool guessed() const noexcept { return guessed_; }

  bool account(const Address& address, AccountData& out) const override;
  U256 storage(const Address& address, const U256& slot) const override;
  std::shared_ptr<const Code> code(const Hash& code_hash) const override;
  bool has_storage(const Address& address) const override;

 private:
  const Overlay& overlay_;
  const StateReader& base_;
  Address sender_{};
  uint64_t nonce_ = 0;
  mutable bool guessed_ = false, unsure_ = false;
};

}  // namespace zg
