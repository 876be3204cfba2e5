#include "state/memory_state.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "base/rlp.h"
#include "trie/trie.h"

namespace zg {

namespace {

using Pairs = std::vector<std::pair<Bytes, Bytes>>;

Bytes hashed(ByteView key) {
  const Hash h = keccak(key);
  return Bytes(h.b, h.b + 32);
}

Hash root_of(Pairs& pairs) {
  if (pairs.empty()) return empty_trie_root();
  std::sort(pairs.begin(), pairs.end());
  return trie_root(pairs);
}

Hash storage_root(const std::unordered_map<U256, U256, U256Hasher>& storage) {
  Pairs pairs;
  pairs.reserve(storage.size());
  for (const auto& [key, value] : storage) {
    rlp::Writer w;
    w.u256(value);
    pairs.emplace_back(hashed(key.be()), std::move(w.out));
  }
  return root_of(pairs);
}

Bytes encode_account(const MemoryState::Entry& e) {
  rlp::Writer w;
  const size_t at = w.open();
  w.u64(e.data.nonce);
  w.u256(e.data.balance);
  w.hash(storage_root(e.storage));
  w.hash(e.data.code_hash);
  w.close(at);
  return std::move(w.out);
}

void change(MemoryState::Entry& e, const AccountChange& c) {
  e.data = c.after;
  if (c.storage_cleared) e.storage.clear();
  for (const SlotChange& s : c.slots) {
    if (s.after.is_zero()) e.storage.erase(s.slot);
    else e.storage[s.slot] = s.after;
  }
}

}  // namespace

void MemoryState::put(const Address& address, uint64_t nonce, const U256& balance, std::shared_ptr<const Code> code,
                      std::span<const std::pair<U256, U256>> storage) {
  Entry& e = accounts_[address];
  e = {};
  e.data.nonce = nonce;
  e.data.balance = balance;
  e.data.code_hash = code->hash();
  for (const auto& [key, value] : storage)
    if (!value.is_zero()) e.storage[key] = value;
  if (code->size() != 0) codes_[code->hash()] = std::move(code);
}

void MemoryState::apply(const StateDiff& diff) {
  for (const AccountChange& c : diff.accounts) {
    if (c.exists) change(accounts_[c.address], c);
    else accounts_.erase(c.address);
  }
  for (const auto& code : diff.codes) codes_[code->hash()] = code;
}

Hash MemoryState::root() const { return root_with({}); }

Hash MemoryState::root_with(const StateDiff& diff) const {
  Pairs pairs;
  pairs.reserve(accounts_.size() + diff.accounts.size());
  const auto changed = [&](const Address& a) {
    const auto it = std::lower_bound(diff.accounts.begin(), diff.accounts.end(), a,
                                     [](const AccountChange& c, const Address& x) { return c.address < x; });
    return it != diff.accounts.end() && it->address == a;
  };
  for (const auto& [address, entry] : accounts_)
    if (!changed(address)) pairs.emplace_back(hashed(address), encode_account(entry));
  for (const AccountChange& c : diff.accounts) {
    if (!c.exists) continue;
    const auto it = accounts_.find(c.address);
    Entry e = it == accounts_.end() ? Entry{} : it->second;
    change(e, c);
    pairs.emplace_back(hashed(c.address), encode_account(e));
  }
  return root_of(pairs);
}

bool MemoryState::account(const Address& address, AccountData& out) const {
  const auto it = accounts_.find(address);
  if (it == accounts_.end()) return false;
  out = it->second.data;
  return true;
}

U256 MemoryState::storage(const Address& address, const U256& slot) const {
  const auto it = accounts_.find(address);
  if (it == accounts_.end()) return {};
  const auto s = it->second.storage.find(slot);
  return s == it->second.storage.end() ? U256{} : s->second;
}

std::shared_ptr<const Code> MemoryState::code(const Hash& code_hash) const {
  if (code_hash == empty_code_hash()) return Code::empty();
  const auto it = codes_.find(code_hash);
  if (it == codes_.end()) {
    std::fprintf(stderr, "state: code %s is missing\n", to_hex(code_hash).c_str());
    std::abort();
  }
  return it->second;
}

bool MemoryState::has_storage(const Address& address) const {
  const auto it = accounts_.find(address);
  return it != accounts_.end() && !it->second.storage.empty();
}

}  // namespace zg
