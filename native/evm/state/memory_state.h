// State in memory: state tests, genesis, tools. Written by one thread, and not while others read.
#pragma once

#include <unordered_map>

#include "state/diff.h"
#include "state/reader.h"

namespace zg {

class MemoryState : public StateReader {
 public:
  struct Entry {
    AccountData data;
    std::unordered_map<U256, U256, U256Hasher> storage;  // no zeros
  };

  // Makes or replaces an account; zero values in `storage` are left out.
  void put(const Address& address, uint64_t nonce, const U256& balance, std::shared_ptr<const Code> code,
           std::span<const std::pair<U256, U256>> storage);
  void apply(const StateDiff& diff);
  // Root of the state (Yellow Paper 4.1), from scratch.
  [[nodiscard]] Hash root() const;
  // Root after `diff`, which is not applied.
  [[nodiscard]] Hash root_with(const StateDiff& diff) const;
  [[nodiscard]] const std::unordered_map<Address, Entry, AddressHasher>& accounts() const noexcept { return accounts_; }

  bool account(const Address& address, AccountData& out) const override;
  U256 storage(const Address& address, const U256& slot) const override;
  std::shared_ptr<const Code> code(const Hash& code_hash) const override;
  bool has_storage(const Address& address) const override;

 private:
  std::unordered_map<Address, Entry, AddressHasher> accounts_;
  std::unordered_map<Hash, std::shared_ptr<const Code>, HashHasher> codes_;
};

}  // namespace zg
