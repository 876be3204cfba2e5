// The inside of WorkingState, for the files of this folder: journal, transient storage, accounts in memory.
#pragma once

#include <algorithm>
#include <vector>

#include "state/working_state.h"

namespace zg {

namespace detail {

// The one account whose touch outlives a revert (EIP-161 as clients applied it from mainnet block 2 675 119 on).
constexpr bool touch_survives(const Address& a) noexcept {
  for (int i = 0; i < 19; ++i)
    if (a.b[i] != 0) return false;
  return a.b[19] == 3;
}

enum class Undo : uint8_t { balance, nonce, code, create, destroy, touch, warm_account, warm_slot, slot, transient, log, refund };

struct Entry {
  Undo kind;
  bool existed = false;
  uint32_t number = 0;  // a transaction number, or an index into a side list
  Account* account = nullptr;
  Slot* slot = nullptr;
  U256 value;
};

// Transient storage of one transaction: entries in the order they came, found over open addressing whose places carry part of the hash. A transaction
// can make a million of them: a look-up costs one or two misses, and growing touches no entry.
class TransientMap {
 public:
  struct Entry {
    Address address;
    U256 key, value;
  };
  // Null: never set.
  [[nodiscard]] const Entry* find(const Address& address, const U256& key) const noexcept {
    if (entries_.empty()) return nullptr;
    const uint64_t place = places_[place_of(hash(address, key), address, key)];
    return place == 0 ? nullptr : &entries_[index_of(place)];
  }
  // The index of an entry, made with value 0 when it was not there. Indexes hold until clear().
  uint32_t index(const Address& address, const U256& key) {
    if ((entries_.size() + 1) * 2 > places_.size()) grow();
    const uint64_t h = hash(address, key);
    uint64_t& place = places_[place_of(h, address, key)];
    if (place == 0) {
      entries_.push_back({address, key, {}});
      place = (h & kTag) | entries_.size();
    }
    return static_cast<uint32_t>(index_of(place));
  }
  U256& value(uint32_t index) noexcept { return entries_[index].value; }
  void clear() noexcept {
    if (entries_.empty()) return;
    // One heavy transaction must not make all later ones pay.
    if (places_.size() > kKept) *this = {};
    else std::fill(places_.begin(), places_.end(), 0);
    entries_.clear();
  }

 private:
  static constexpr uint64_t kTag = ~uint64_t{0} << 32;  // upper half of the hash; below it: index + 1, 0 is free
  static constexpr size_t kKept = 1024;
  static size_t index_of(uint64_t place) noexcept { return static_cast<uint32_t>(place) - 1; }
  static uint64_t hash(const Address& address, const U256& key) noexcept { return mix64(AddressHasher{}(address) ^ U256Hasher{}(key)); }
  // Places go by the tag, so that they can be found again without the entry.
  static size_t start_of(uint64_t tagged, size_t mask) noexcept { return (tagged >> 32) & mask; }
  [[nodiscard]] size_t place_of(uint64_t h, const Address& address, const U256& key) const noexcept {
    const size_t mask = places_.size() - 1;
    for (size_t i = start_of(h, mask);; i = (i + 1) & mask) {
      if (places_[i] == 0) return i;
      if (((places_[i] ^ h) & kTag) != 0) continue;
      const Entry& e = entries_[index_of(places_[i])];
      if (e.key == key && e.address == address) return i;
    }
  }
  void grow() {
    std::vector<uint64_t> wider(places_.empty() ? 16 : places_.size() * 2);
    const size_t mask = wider.size() - 1;
    for (const uint64_t place : places_) {
      if (place == 0) continue;
      size_t i = start_of(place, mask);
      while (wider[i] != 0) i = (i + 1) & mask;
      wider[i] = place;
    }
    places_ = std::move(wider);
  }
  std::vector<Entry> entries_;
  std::vector<uint64_t> places_;
};

// An account before something rare happened to it.
struct Saved {
  AccountData now;
  std::shared_ptr<const Code> code;
  uint32_t created_tx = 0;
};

}  // namespace detail

struct WorkingState::Impl {
  using Entry = detail::Entry;
  using Saved = detail::Saved;
  using Undo = detail::Undo;

  struct Block {
    std::unique_ptr<Account[]> accounts;
    size_t capacity;
  };
  std::vector<Block> blocks;
  size_t used = 0;  // of the last block
  std::vector<Account*> table = std::vector<Account*>(32, nullptr);
  std::vector<Account*> all;
  std::vector<Address> warm_list;  // see always_warm
  bool warm_list_low = true;       // all of them begin with eight zeros

  std::vector<Entry> journal;
  std::vector<Saved> saved;
  std::vector<Account*> touched, destroyed;  // of this transaction; may hold one twice, and reverted ones
  detail::TransientMap transient;

  Account** place(const Address& address) {
    const size_t mask = table.size() - 1;
    size_t i = AddressHasher{}(address)&mask;
    while (table[i] != nullptr && table[i]->address != address) i = (i + 1) & mask;
    return &table[i];
  }

  [[nodiscard]] bool is_listed_warm(const Address& address) const noexcept {
    if (warm_list_low && load64(address.b) != 0) return false;
    return std::find(warm_list.begin(), warm_list.end(), address) != warm_list.end();
  }

  Account& add(const Address& address) {
    if ((all.size() + 1) * 2 > table.size()) {
      table.assign(table.size() * 2, nullptr);
      for (Account* a : all) *place(a->address) = a;
    }
    if (blocks.empty() || used == blocks.back().capacity) {
      const size_t capacity = blocks.empty() ? 8 : std::min<size_t>(blocks.back().capacity * 2, 1024);
      blocks.push_back({std::make_unique<Account[]>(capacity), capacity});
      used = 0;
    }
    Account* fresh = &blocks.back().accounts[used++];
    fresh->address = address;
    fresh->always_warm = is_listed_warm(address);
    *place(address) = fresh;
    all.push_back(fresh);
    return *fresh;
  }

  Entry& log(Undo kind, Account* account) {
    Entry& e = journal.emplace_back();
    e.kind = kind;
    e.account = account;
    return e;
  }

  void save(Undo kind, Account& account) {
    Entry& e = log(kind, &account);
    e.existed = account.exists;
    e.number = static_cast<uint32_t>(saved.size());
    saved.push_back({account.now_, account.code, account.created_tx});
  }

  void forget_journal() {
    journal.clear();
    saved.clear();
    touched.clear();
    destroyed.clear();
  }

  // The account is gone, and its storage with it.
  static void remove(Account& a) {
    a.exists = false;
    a.now_ = {};
    a.code = nullptr;
    a.cleared = true;
    a.slots.each([](Slot& s) { s.original = s.current = U256{}; });
  }
};

}  // namespace zg
