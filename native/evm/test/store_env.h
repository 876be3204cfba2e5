// What the programs of this folder share: a temporary directory, random numbers, a model of the state.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <random>
#include <string>

#include "db/records.h"
#include "db/state_store.h"
#include "trie/trie.h"

namespace zg::test {

#define CHECK(x)                                                            \
  do {                                                                      \
    if (!(x)) {                                                             \
      std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #x); \
      std::exit(1);                                                         \
    }                                                                       \
  } while (false)

struct TempDir {
  std::string path;
  TempDir() {
    std::string t = (std::filesystem::temp_directory_path() / "zg-store-XXXXXX").string();
    CHECK(mkdtemp(t.data()) != nullptr);
    path = t;
  }
  ~TempDir() {
    std::error_code e;
    std::filesystem::remove_all(path, e);
  }
};

inline Address address_of(uint64_t i) {
  const Hash h = keccak({reinterpret_cast<const uint8_t*>(&i), 8});
  return Address::from(h.b);
}

struct ModelAccount {
  AccountData data;
  std::map<U256, U256> slots;
};
using Model = std::map<Address, ModelAccount>;

inline Hash storage_root_of(const ModelAccount& a) {
  std::vector<std::pair<Bytes, Bytes>> pairs;
  for (const auto& [slot, value] : a.slots) {
    const Hash h = keccak(slot.be());
    Bytes v;
    db::rlp_number(value, v);
    pairs.emplace_back(Bytes(h.b, h.b + 32), v);
  }
  std::sort(pairs.begin(), pairs.end());
  return trie_root(pairs);
}

inline Hash root_of(const Model& model) {
  std::vector<std::pair<Bytes, Bytes>> pairs;
  for (const auto& [address, a] : model) {
    const Hash h = keccak(address);
    Bytes v;
    db::rlp_account({a.data, storage_root_of(a)}, v);
    pairs.emplace_back(Bytes(h.b, h.b + 32), v);
  }
  std::sort(pairs.begin(), pairs.end());
  return trie_root(pairs);
}

// A random change of `model`, which it makes. `destroy`: accounts may vanish with their storage, and be made again in the same change.
inline StateDiff random_change(Model& model, std::mt19937_64& rng, uint64_t addresses, size_t touches, bool destroy) {
  std::map<Address, AccountChange> changes;
  const auto pick = [&](uint64_t n) { return rng() % n; };
  for (size_t t = 0; t < touches; t++) {
    const Address address = address_of(pick(addresses));
    if (changes.contains(address)) continue;
    AccountChange c;
    c.address = address;
    auto at = model.find(address);
    c.existed = at != model.end();
    if (c.existed) c.before = at->second.data;
    std::map<U256, U256> before;
    if (c.existed) before = at->second.slots;
    const uint64_t kind = pick(10);
    if (c.existed && destroy && kind == 0) {
      for (const auto& [slot, value] : before)
        if (pick(2) == 0) c.slots.push_back({slot, value, U256{}});
      c.storage_cleared = true;
      model.erase(at);
      changes[address] = c;
      continue;
    }
    ModelAccount& a = model[address];
    c.exists = true;
    if (c.existed && destroy && kind == 1) {
      c.storage_cleared = true;
      a.slots.clear();
    }
    a.data.nonce++;
    a.data.balance = U256(pick(4) == 0 ? rng() : pick(200));
    if (kind > 4) {
      std::map<U256, bool> touched;
      for (uint64_t n = pick(12); n > 0; n--) {
        const U256 slot(pick(40));
        const U256 value(pick(3) == 0 ? 0 : pick(2) == 0 ? pick(256) : rng(), 0, 0, pick(3) == 0 ? rng() : 0);
        touched[slot] = true;
        if (value.is_zero())
          a.slots.erase(slot);
        else
          a.slots[slot] = value;
      }
      for (const auto& [slot, yes] : touched) {
        const auto b = before.find(slot);
        const auto n = a.slots.find(slot);
        const U256 from = b == before.end() ? U256{} : b->second, to = n == a.slots.end() ? U256{} : n->second;
        if (from != to || c.storage_cleared) c.slots.push_back({slot, from, to});
      }
    }
    c.after = a.data;
    changes[address] = c;
  }
  StateDiff d;
  for (auto& [address, c] : changes) d.accounts.push_back(std::move(c));
  return d;
}

inline void check_view(const StateView& view, const Model& model, uint64_t addresses, std::mt19937_64& rng, int samples) {
  for (int i = 0; i < samples; i++) {
    const Address address = address_of(rng() % addresses);
    AccountData data;
    const bool exists = view.account(address, data);
    const auto at = model.find(address);
    CHECK(exists == (at != model.end()));
    if (exists) CHECK(data == at->second.data);
    const U256 slot(rng() % 40);
    U256 want;
    if (exists && at->second.slots.contains(slot)) want = at->second.slots.at(slot);
    CHECK(view.storage(address, slot) == want);
    if (exists) CHECK(view.has_storage(address) == !at->second.slots.empty());
  }
}

inline std::unique_ptr<KvStore> open_kv(const std::string& dir, KvStore::Options options = {}) {
  std::unique_ptr<KvStore> kv;
  std::string message;
  if (KvStore::open(dir, options, kv, message) != KvStore::Error::none) {
    std::fprintf(stderr, "%s\n", message.c_str());
    std::exit(1);
  }
  kv->on_error = [](const std::string& s) {
    std::fprintf(stderr, "database: %s\n", s.c_str());
    std::abort();
  };
  return kv;
}

inline std::unique_ptr<StateStore> open_store(KvStore& kv, const StateStore::Options& options = {}) {
  std::unique_ptr<StateStore> store;
  std::string message;
  if (!StateStore::open(kv, options, store, message)) {
    std::fprintf(stderr, "%s\n", message.c_str());
    std::exit(1);
  }
  return store;
}

inline void commit(KvStore& kv, StateStore& store, const std::shared_ptr<StateLayer>& layer) {
  const auto batch = kv.batch();
  std::string message;
  store.prepare(*layer, *batch);
  CHECK(kv.write(*batch, false, message));
  store.committed(layer);
}

}  // namespace zg::test
