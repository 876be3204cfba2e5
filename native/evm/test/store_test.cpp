// Random lives of the state store against a plain model: roots, reads, the past, proofs, undoing, reopening, layers.
// Build: native/evm/test/store_build.sh store_test; run: store_test [seed] [rounds]
#include <thread>

#include <fstream>

#include "base/keccak_batch.h"
#include "db/snapshot.h"
#include "test/store_env.h"

using namespace zg;
using namespace zg::test;

namespace {

void check_keccak(std::mt19937_64& rng) {
  std::vector<Bytes> messages;
  for (size_t size = 0; size < 1200; size += 1 + rng() % 5) {
    Bytes m(size);
    for (auto& b : m) b = static_cast<uint8_t>(rng());
    messages.push_back(m);
  }
  std::shuffle(messages.begin(), messages.end(), rng);
  for (size_t n : {size_t{1}, size_t{2}, size_t{3}, size_t{5}, size_t{7}, size_t{9}, messages.size()}) {
    std::vector<Hash> out(n);
    std::vector<HashJob> jobs;
    for (size_t i = 0; i < n; i++) jobs.push_back({messages[i].data(), messages[i].size(), out[i].b});
    keccak_batch(jobs);
    for (size_t i = 0; i < n; i++) CHECK(out[i] == keccak(messages[i]));
  }
  for (const KeccakLanes* const* p = keccak_lane_paths(); *p != nullptr; p++) {
    for (size_t blocks = 1; blocks <= 5; blocks++) {
      std::vector<Bytes> m((*p)->lanes);
      std::vector<Hash> out(m.size());
      std::vector<HashJob> jobs;
      std::vector<const HashJob*> at;
      for (size_t i = 0; i < m.size(); i++) m[i].assign(136 * (blocks - 1) + rng() % 136, static_cast<uint8_t>(rng()));
      for (size_t i = 0; i < m.size(); i++) jobs.push_back({m[i].data(), m[i].size(), out[i].b});
      for (const auto& j : jobs) at.push_back(&j);
      (*p)->run(at.data(), blocks);
      for (size_t i = 0; i < m.size(); i++) CHECK(out[i] == keccak(m[i]));
    }
  }
}

void check_proof(const StateView& view, const Model& model, const Address& address, const U256& slot) {
  AccountProof p;
  std::string message;
  const U256 slots[] = {slot};
  if (!view.proof(address, slots, p, message)) {
    std::fprintf(stderr, "proof: %s\n", message.c_str());
    std::exit(1);
  }
  const auto at = model.find(address);
  CHECK(p.exists == (at != model.end()));
  if (model.empty()) {
    CHECK(p.nodes.empty());
    return;
  }
  CHECK(!p.nodes.empty() && keccak(p.nodes[0]) == view.root());
  // Each node is referred to by the one above it.
  for (size_t i = 1; i < p.nodes.size(); i++) {
    const Hash h = keccak(p.nodes[i]);
    CHECK(std::search(p.nodes[i - 1].begin(), p.nodes[i - 1].end(), h.b, h.b + 32) != p.nodes[i - 1].end());
  }
  if (!p.exists) return;
  CHECK(p.storage_root == storage_root_of(at->second));
  Bytes value;
  db::rlp_account({p.account, p.storage_root}, value);
  CHECK(std::search(p.nodes.back().begin(), p.nodes.back().end(), value.begin(), value.end()) != p.nodes.back().end());
  if (p.storage_root == empty_trie_root()) {
    CHECK(p.slots[0].nodes.empty());
  } else {
    CHECK(keccak(p.slots[0].nodes[0]) == p.storage_root);
    CHECK(p.slots[0].value == (at->second.slots.contains(slot) ? at->second.slots.at(slot) : U256{}));
  }
}

struct Life {
  uint64_t addresses;
  size_t touches;
  int versions;
  bool archive;
  unsigned threads;
};

void live(uint64_t seed, const Life& life) {
  std::mt19937_64 rng(seed);
  TempDir dir;
  KvStore::Options ko;
  ko.write_buffer = 256 << 10;
  auto kv = open_kv(dir.path + "/kv", ko);
  StateStore::Options o;
  o.archive = life.archive;
  o.history = 20;
  o.cache_bytes = rng() % 2 == 0 ? 8u << 20 : 64u << 10;
  o.threads = life.threads;
  auto store = open_store(*kv, o);
  std::vector<Model> past(1);
  std::vector<Hash> roots = {store->head()->root()};
  Model model;
  uint64_t highest = 0;
  while (static_cast<int>(past.size()) <= life.versions) {
    // One to three layers on each other; then one side branch that is thrown away.
    std::vector<std::shared_ptr<StateLayer>> layers;
    std::shared_ptr<const StateView> on = store->head();
    auto old_head = on;
    const Model old_model = model;
    std::vector<Model> models;
    for (uint64_t n = 1 + rng() % 3; n > 0; n--) {
      auto layer = store->apply(on, random_change(model, rng, life.addresses, 1 + rng() % life.touches, true));
      CHECK(layer != nullptr && view_of(*layer).root() == root_of(model));
      check_view(view_of(*layer), model, life.addresses, rng, 10);
      check_proof(view_of(*layer), model, address_of(rng() % life.addresses), U256(rng() % 40));
      on = as_view(layer);
      layers.push_back(layer);
      models.push_back(model);
    }
    if (rng() % 4 == 0) {
      Model side = models[0];
      auto layer = store->apply(as_view(layers[0]), random_change(side, rng, life.addresses, life.touches, true));
      CHECK(view_of(*layer).root() == root_of(side));
    }
    for (size_t i = 0; i < layers.size(); i++) {
      commit(*kv, *store, layers[i]);
      past.push_back(models[i]);
      roots.push_back(view_of(*layers[i]).root());
      CHECK(store->head()->version() + 1 == past.size() && store->head()->root() == roots.back());
    }
    // Views of before and layers that are durable now still tell the same.
    check_view(*old_head, old_model, life.addresses, rng, 10);
    check_proof(*old_head, old_model, address_of(rng() % life.addresses), U256(rng() % 40));
    check_view(view_of(*layers[0]), models[0], life.addresses, rng, 10);
    check_view(*store->head(), model, life.addresses, rng, 20);
    const uint64_t head = store->head()->version();
    highest = std::max(highest, head);
    const uint64_t v = rng() % (head + 1);
    if (const auto view = store->at(v)) {
      CHECK(view->root() == roots[v]);
      check_view(*view, past[v], life.addresses, rng, 10);
      check_proof(*view, past[v], address_of(rng() % life.addresses), U256(rng() % 40));
      // A block on an old state is possible too, as long as it is not committed.
      Model other = past[v];
      auto layer = store->apply(view, random_change(other, rng, life.addresses, life.touches, true));
      CHECK(layer != nullptr && view_of(*layer).root() == root_of(other));
    } else {
      CHECK(!life.archive && v + 20 < highest);  // what was pruned does not come back by undoing
    }
    if (rng() % 8 == 0) CHECK(store->recompute_root() == roots.back());
    if (rng() % 10 == 0) {
      layers.clear();
      on = old_head = nullptr;  // views hold the database open
      store.reset();
      if (rng() % 2 == 0) {
        kv.reset();
        kv = open_kv(dir.path + "/kv", ko);
      }
      store = open_store(*kv, o);
      CHECK(store->head()->root() == roots.back());
    }
    if (rng() % 10 == 0) {
      const uint64_t back = head - std::min<uint64_t>(head, rng() % 6);
      const auto undone = store->head();
      const auto batch = kv->batch();
      std::string message;
      if (!store->prepare_revert(back, *batch, message)) {
        CHECK(!life.archive && back + 20 < highest);
        continue;
      }
      CHECK(kv->write(*batch, false, message));
      store->reverted();
      check_view(*undone, model, life.addresses, rng, 10);
      past.resize(back + 1);
      roots.resize(back + 1);
      model = past.back();
      CHECK(store->head()->version() == back && store->head()->root() == roots.back());
      CHECK(store->recompute_root() == roots.back());
      check_view(*store->head(), model, life.addresses, rng, 20);
      CHECK(store->at(back + 1) == nullptr);
    }
  }
  size_t count = 0;
  store->head()->each_account(Hash{}, [&](const Hash& h, const Bytes& preimage, const AccountData& data) {
    const Address a = Address::from(preimage.data());
    CHECK(keccak(a) == h && model.at(a).data == data);
    count++;
    size_t slots = 0;
    store->head()->each_slot(a, Hash{}, [&](const Hash&, const Bytes& slot, const U256& value) {
      CHECK(model.at(a).slots.at(U256::from_be(slot.data())) == value);
      slots++;
      return true;
    });
    CHECK(slots == model.at(a).slots.size());
    return true;
  });
  CHECK(count == model.size());
}

// A saved state loads to the same; a flip of any byte, or a cut, is refused.
void snapshots(uint64_t seed) {
  std::mt19937_64 rng(seed);
  TempDir dir;
  auto kv = open_kv(dir.path + "/kv");
  auto store = open_store(*kv);
  Model model;
  for (int i = 0; i < 6; i++) {
    StateDiff d = random_change(model, rng, 60, 20, true);
    if (i == 5) {
      const Bytes bytes(300, static_cast<uint8_t>(rng()));
      const auto code = Code::make(bytes);
      for (auto& c : d.accounts)
        if (c.exists) model[c.address].data.code_hash = c.after.code_hash = code->hash();
      d.codes.push_back(code);
    }
    commit(*kv, *store, store->apply(store->head(), std::move(d)));
  }
  const std::string path = dir.path + "/state";
  std::string message;
  const Bytes header = {1, 2, 3};
  CHECK(save_snapshot(*kv, *store->head(), header, path, message));
  LoadedSnapshot loaded;
  CHECK(!load_snapshot(path, *kv, loaded, message));
  {
    auto fresh = open_kv(dir.path + "/fresh");
    CHECK(load_snapshot(path, *fresh, loaded, message));
    CHECK(loaded.header == header && loaded.root == store->head()->root() && loaded.accounts == model.size());
    auto second = open_store(*fresh);
    CHECK(second->head()->root() == root_of(model) && second->recompute_root() == root_of(model));
    check_view(*second->head(), model, 60, rng, 60);
    commit(*fresh, *second, second->apply(second->head(), random_change(model, rng, 60, 30, true)));
    CHECK(second->head()->root() == root_of(model) && second->head()->version() == 2 && second->at(0) == nullptr);
  }
  std::ifstream in(path, std::ios::binary);
  const std::string good((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  size_t tried = 0;
  for (size_t at = 0; at < good.size(); at += 1 + rng() % 97) {
    for (const bool cut : {false, true}) {
      std::string bad = good;
      if (cut)
        bad.resize(at);
      else
        bad[at] = static_cast<char>(bad[at] ^ (1 << (rng() % 8)));
      const std::string other = dir.path + "/bad";
      std::ofstream(other, std::ios::binary) << bad;
      KvStore::Options small;
      small.write_buffer = 64 << 10;
      std::filesystem::remove_all(dir.path + "/into");
      auto fresh = open_kv(dir.path + "/into", small);
      CHECK(!load_snapshot(other, *fresh, loaded, message));
      std::unique_ptr<StateStore> none = open_store(*fresh);
      CHECK(none->head()->version() == 0);
      tried++;
    }
  }
  std::printf("snapshot of %zu bytes: %zu flips and cuts, all refused\n", good.size(), tried);
}

// Readers at every moment see one version and nothing else while commits go on: balances of a version all equal its number.
void readers(uint64_t seed) {
  TempDir dir;
  auto kv = open_kv(dir.path + "/kv");
  StateStore::Options o;
  o.cache_bytes = 256 << 10;
  auto store = open_store(*kv, o);
  std::atomic<bool> stop = false;
  std::atomic<uint64_t> reads = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; t++)
    threads.emplace_back([&, t] {
      std::mt19937_64 rng(seed + static_cast<uint64_t>(t) + 1);
      while (!stop) {
        const auto view = rng() % 4 == 0 && store->head()->version() > 0 ? store->at(rng() % store->head()->version()) : store->head();
        for (int i = 0; i < 50; i++) {
          const Address a = address_of(rng() % 300);
          AccountData data;
          const bool exists = view->account(a, data);
          CHECK(exists == (view->version() > 0));
          if (exists) CHECK(data.balance == U256(view->version()) && view->storage(a, U256(1)) == U256(view->version()));
          reads++;
        }
      }
    });
  AccountData before;
  for (uint64_t v = 1; v <= 60; v++) {
    StateDiff d;
    for (uint64_t i = 0; i < 300; i++) {
      AccountChange c;
      c.address = address_of(i);
      c.existed = v > 1;
      c.exists = true;
      c.before.balance = U256(v - 1);
      c.after.balance = U256(v);
      c.slots.push_back({U256(1), U256(v - 1), U256(v)});
      d.accounts.push_back(c);
    }
    std::sort(d.accounts.begin(), d.accounts.end(), [](const auto& a, const auto& b) { return a.address < b.address; });
    commit(*kv, *store, store->apply(store->head(), d));
  }
  stop = true;
  for (auto& t : threads) t.join();
  CHECK(store->recompute_root() == store->head()->root());
  std::printf("readers: 60 commits, %llu reads of one version each\n", static_cast<unsigned long long>(reads.load()));
}

}  // namespace

int main(int argc, char** argv) {
  const uint64_t seed = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : std::random_device{}();
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 6;
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  std::mt19937_64 rng(seed);
  check_keccak(rng);
  snapshots(seed);
  readers(seed);
  for (int i = 0; i < rounds; i++) {
    const Life lives[] = {{6, 4, 80, true, 1}, {60, 12, 80, false, 2}, {900, 200, 25, true, 2}, {25, 10, 120, false, 1}};
    const Life& life = lives[static_cast<size_t>(i) % 4];
    std::printf("life %d: %llu addresses, %d versions\n", i, static_cast<unsigned long long>(life.addresses), life.versions);
    std::fflush(stdout);
    live(seed + static_cast<uint64_t>(i), life);
  }
  std::printf("all as it should be\n");
}
