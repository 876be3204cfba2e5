// The store of the state: layers on top of the durable head, commits, undoing, recovery (state_store.h).
#include "db/state_store.h"

#include <algorithm>

#include "base/keccak_batch.h"
#include "db/state_core.h"
#include "trie/trie.h"

namespace zg {

using namespace db;

namespace {

constexpr std::string_view kHeadKey = "S";
constexpr char kFormat = 1;
// Nodes are written when this many bytes of them have changed, or so many versions have passed: recovery redoes at most that much.
constexpr size_t kDirtyBytesMax = 12u << 20;
constexpr uint64_t kTrieLagMax = 1024;
// Bookkeeping of a node in the map, counted with it.
constexpr size_t kNodeOverhead = 112;

struct Head {
  uint64_t version = 0, trie_version = 0, oldest = 0;
  Hash root = empty_trie_root();
};

std::string encode_head(const Head& h) {
  std::string s(1, kFormat);
  append64(s, h.version);
  append64(s, h.trie_version);
  append64(s, h.oldest);
  append(s, h.root);
  return s;
}

bool decode_head(std::string_view v, Head& h) {
  if (v.size() != 57 || v[0] != kFormat) return false;
  h.version = read64(v.substr(1));
  h.trie_version = read64(v.substr(9));
  h.oldest = read64(v.substr(17));
  h.root = hash_at(v, 25);
  return h.trie_version <= h.version && h.oldest <= h.version;
}

size_t bytes_of(const trie::NodeMap& m) {
  size_t n = 0;
  for (const auto& [k, v] : m) n += k.size() + v.size() + kNodeOverhead;
  return n;
}

void put_node(KvBatch& batch, const std::string& key, const std::string& record) {
  if (record.empty())
    batch.del(key);
  else
    batch.put(key, record);
}

class Store final : public StateStore {
 public:
  explicit Store(std::shared_ptr<Core> core) : core_(std::move(core)) {}
  // The head holds the core, which holds the head.
  ~Store() override { core_->publish(nullptr); }
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  std::shared_ptr<const StateView> head() const override { return core_->head(); }

  std::shared_ptr<const StateView> at(uint64_t version) const override {
    auto head = core_->head();
    if (version == head->version()) return head;
    if (version > head->version() || version < core_->oldest.load(std::memory_order_acquire)) return nullptr;
    Hash root = empty_trie_root();
    if (version > 0) {
      std::string list;
      if (!core_->kv.get(version_key(version), list, head->snapshot.get()) || list.size() < 32) return nullptr;
      root = hash_at(list, 0);
    }
    return std::make_shared<HistoryView>(core_, version, root, std::move(head));
  }

  std::shared_ptr<StateLayer> apply(std::shared_ptr<const StateView> parent, StateDiff diff) override;
  void prepare(const StateLayer& layer, KvBatch& batch, uint64_t keep_from) override;
  void committed(const std::shared_ptr<StateLayer>& layer) override;
  bool prepare_revert(uint64_t version, KvBatch& batch, std::string& message) override;
  void reverted() override;
  Hash recompute_root() const override;
  Memory memory() const override {
    const std::shared_lock lock(core_->tries);
    return {core_->accounts.bytes(), core_->slots.bytes(), core_->nodes.bytes(), core_->dirty_bytes};
  }
  bool recover(std::string& message);

 private:
  void hash_keys(StateLayer& layer) const;
  void prune(uint64_t up_to, Head& head, KvBatch& batch);
  void clear_storage(const StateLayer& layer, size_t index, uint64_t version, KvBatch& batch, std::string& list, uint64_t& listed);

  const std::shared_ptr<Core> core_;
  // Between prepare and committed, or prepare_revert and reverted.
  struct Pending {
    bool flush = false;
    Head head;
    std::vector<std::string> gone;  // nodes of cleared storage
    std::unique_ptr<Undo> undo;
  };
  Pending pending_;
};

// ---- a layer

void Store::hash_keys(StateLayer& layer) const {
  const auto& accounts = layer.diff.accounts;
  const size_t n = accounts.size();
  layer.hashes.resize(n);
  layer.slots.resize(n);
  layer.by_hash.resize(n);
  size_t count = 0;
  for (const auto& a : accounts) count += a.slots.size();
  std::vector<Hash> keys(count);
  std::vector<HashJob> jobs;
  jobs.reserve(n + count);
  size_t at = 0;
  for (size_t i = 0; i < n; i++) {
    jobs.push_back({accounts[i].address.b, 20, layer.hashes[i].b});
    layer.slots[i].resize(accounts[i].slots.size());
    for (size_t k = 0; k < accounts[i].slots.size(); k++) {
      keys[at] = accounts[i].slots[k].slot.be();
      layer.slots[i][k].index = static_cast<uint32_t>(k);
      jobs.push_back({keys[at++].b, 32, layer.slots[i][k].hash.b});
    }
    layer.by_hash[i] = static_cast<uint32_t>(i);
  }
  keccak_batch(jobs);
  std::sort(layer.by_hash.begin(), layer.by_hash.end(), [&](uint32_t a, uint32_t b) { return layer.hashes[a] < layer.hashes[b]; });
  for (auto& s : layer.slots) std::sort(s.begin(), s.end(), [](const StateLayer::SlotAt& a, const StateLayer::SlotAt& b) { return a.hash < b.hash; });
}

std::shared_ptr<StateLayer> Store::apply(std::shared_ptr<const StateView> parent, StateDiff diff) {
  const auto& below = static_cast<const View&>(*parent);
  auto layer = std::make_shared<StateLayer>(core_, parent, std::move(diff));
  hash_keys(*layer);
  const auto& accounts = layer->diff.accounts;
  const size_t n = accounts.size();
  layer->roots.resize(n);
  layer->roots_before.resize(n);

  const std::shared_lock lock(core_->tries);
  const auto head = core_->head();
  TrieReader reader(*core_, *head);
  std::unique_ptr<Undo> undo;
  std::string message;
  if (!bind_reader(*core_, *head, below, reader, undo, message)) return nullptr;

  // Storage of each account, then the accounts with its root.
  Bytes values;
  size_t slot_count = 0;
  for (const auto& a : accounts) slot_count += a.slots.size();
  values.reserve(33 * slot_count + 128 * n);  // never moves below
  const auto value_of = [&](size_t begin) { return ByteView{values.data() + begin, values.size() - begin}; };
  std::vector<trie::Change> changes;
  changes.reserve(slot_count + n);
  std::vector<trie::Update> updates;
  std::vector<size_t> owners;
  for (size_t i = 0; i < n; i++) {
    const AccountChange& a = accounts[i];
    layer->roots_before[i] = empty_trie_root();
    if (a.existed) below.storage_root(a.address, layer->roots_before[i]);
    layer->roots[i] = a.exists && !a.storage_cleared ? layer->roots_before[i] : empty_trie_root();
    if (!a.exists || a.slots.empty()) continue;
    const size_t begin = changes.size();
    for (const auto& s : layer->slots[i]) {
      const SlotChange& c = a.slots[s.index];
      trie::Change t{s.hash, !a.storage_cleared && !c.before.is_zero(), {}};
      if (!c.after.is_zero()) {
        const size_t at = values.size();
        rlp_number(c.after, values);
        t.value = value_of(at);
      } else if (!t.existed) {
        continue;
      }
      changes.push_back(t);
    }
    trie::Update u;
    u.owner = &layer->hashes[i];
    u.changes = std::span(changes).subspan(begin);
    u.fresh = a.storage_cleared || layer->roots_before[i] == empty_trie_root();
    if (u.changes.empty()) continue;
    updates.push_back(u);
    owners.push_back(i);
  }
  if (!trie::update_tries(reader, updates, core_->options.threads, layer->nodes)) fatal("a node of a storage trie is missing");
  for (size_t i = 0; i < updates.size(); i++) layer->roots[owners[i]] = updates[i].root;

  const size_t begin = changes.size();
  for (const uint32_t i : layer->by_hash) {
    const AccountChange& a = accounts[i];
    if (!a.exists && !a.existed) continue;
    trie::Change t{layer->hashes[i], a.existed, {}};
    if (a.exists) {
      const size_t at = values.size();
      rlp_account({a.after, layer->roots[i]}, values);
      t.value = value_of(at);
    }
    changes.push_back(t);
  }
  trie::Update all;
  all.changes = std::span(changes).subspan(begin);
  all.root = parent->root();
  if (!trie::update_tries(reader, {&all, 1}, core_->options.threads, layer->nodes)) fatal("a node of the account trie is missing");
  layer->root_ = all.root;
  return layer;
}

// ---- commit

// All slots of the account go, with history; those that the diff sets again are written by the caller.
void Store::clear_storage(const StateLayer& layer, size_t index, uint64_t version, KvBatch& batch, std::string& list, uint64_t& listed) {
  const auto head = core_->head();
  const Hash& owner = layer.hashes[index];
  const auto& set = layer.slots[index];
  const auto it = core_->kv.iterator(head->snapshot.get(), false);
  const std::string prefix = key1('s', owner);
  for (it->seek(prefix); it->valid() && it->key().starts_with(prefix); it->next()) {
    const Hash slot = hash_at(it->key(), 33);
    const auto at = std::lower_bound(set.begin(), set.end(), slot, [](const StateLayer::SlotAt& x, const Hash& h) { return x.hash < h; });
    if (at != set.end() && at->hash == slot) continue;
    batch.put(history_key(it->key(), version), it->value());
    batch.del(it->key());
    append(list, slot);
    listed++;
  }
  const std::string nodes = trie::storage_node_prefix(owner);
  for (it->seek(nodes); it->valid() && it->key().starts_with(nodes); it->next()) {
    batch.del(it->key());
    pending_.gone.emplace_back(it->key());
  }
  for (const auto& [key, record] : core_->dirty)
    if (key.starts_with(nodes)) pending_.gone.push_back(key);
}

void Store::prepare(const StateLayer& layer, KvBatch& batch, uint64_t keep_from) {
  const std::shared_lock lock(core_->tries);
  const auto head = core_->head();
  pending_ = Pending{};
  Head& next = pending_.head;
  next.version = head->version() + 1;
  next.root = layer.root_;
  next.trie_version = core_->trie_version;
  next.oldest = core_->oldest;
  const uint64_t version = next.version;
  const bool preimages = core_->options.preimages;

  std::string list;
  append(list, layer.root_);
  bool cleared = false;
  // In the order of the keys: a sorted batch walks the database's list of recent writes along paths that are still in the cache.
  for (const uint32_t i : layer.by_hash) {
    const AccountChange& a = layer.diff.accounts[i];
    const Hash& owner = layer.hashes[i];
    const std::string key = account_key(owner);
    batch.put(history_key(key, version), a.existed ? encode_account({a.before, layer.roots_before[i]}) : std::string());
    if (a.exists)
      batch.put(key, encode_account({a.after, layer.roots[i]}));
    else if (a.existed)
      batch.del(key);
    if (preimages && !a.existed) batch.put(key1('p', owner), as_chars(a.address));

    std::string slots;
    uint64_t count = 0;
    const bool gone = layer.cleared(i) && layer.roots_before[i] != empty_trie_root();
    if (gone) {
      cleared = true;
      clear_storage(layer, i, version, batch, slots, count);
    }
    for (const auto& s : layer.slots[i]) {
      const SlotChange& c = a.slots[s.index];
      const U256 after = a.exists ? c.after : U256{};
      if (c.before == after && !gone) continue;
      const std::string k = slot_key(owner, s.hash);
      batch.put(history_key(k, version), encode_slot(c.before));
      if (after.is_zero())
        batch.del(k);
      else
        batch.put(k, encode_slot(after));
      append(slots, s.hash);
      count++;
      if (preimages && c.before.is_zero()) {
        const Hash be = c.slot.be();
        batch.put(key1('p', s.hash), as_chars(be));
      }
    }
    append(list, owner);
    append_varint(list, count);
    list += slots;
  }
  for (const auto& code : layer.diff.codes) batch.put(key1('c', code->hash()), as_chars(code->bytes()));
  batch.put(version_key(version), list);

  // Storage that was cleared goes at once, so that no recovery has to redo it.
  pending_.flush = cleared || core_->dirty_bytes + bytes_of(layer.nodes) > kDirtyBytesMax || version - core_->trie_version >= kTrieLagMax;
  if (pending_.flush) {
    next.trie_version = version;
    std::vector<const trie::NodeMap::value_type*> sorted;
    sorted.reserve(core_->dirty.size() + layer.nodes.size());
    for (const auto& node : core_->dirty) {
      const std::string& key = node.first;
      if (layer.nodes.contains(key)) continue;
      bool dropped = false;
      if (cleared && key[0] == 't')
        for (size_t i = 0; i < layer.hashes.size() && !dropped; i++)
          dropped = layer.cleared(static_cast<uint32_t>(i)) && std::memcmp(key.data() + 1, layer.hashes[i].b, 32) == 0;
      if (!dropped) sorted.push_back(&node);
    }
    for (const auto& node : layer.nodes) sorted.push_back(&node);
    std::sort(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) { return a->first < b->first; });
    for (const auto* node : sorted) put_node(batch, node->first, node->second);
  }
  if (!core_->options.archive) {
    // Recovery needs what changed behind the tries on disk.
    const uint64_t history = std::max<uint64_t>(core_->options.history, 1);
    prune(std::min({version > history ? version - history : 0, keep_from, next.trie_version}), next, batch);
  }
  batch.put(kHeadKey, encode_head(next));
}

// The oldest version moves towards `up_to`, two a commit at most: the work of a commit stays bounded and the backlog still shrinks.
void Store::prune(uint64_t up_to, Head& head, KvBatch& batch) {
  const auto view = core_->head();
  std::string list;
  for (int i = 0; i < 2; i++) {
    const uint64_t drop = head.oldest + 1;
    if (drop > up_to) return;
    if (core_->kv.get(version_key(drop), list, view->snapshot.get()) && list.size() >= 32) {
      std::string_view in(list);
      in.remove_prefix(32);
      while (in.size() > 32) {
        const Hash account = hash_at(in, 0);
        in.remove_prefix(32);
        uint64_t count = 0;
        if (!read_varint(in, count) || in.size() / 32 < count) break;
        batch.del(history_key(account_key(account), drop));
        for (uint64_t k = 0; k < count; k++) batch.del(history_key(slot_key(account, hash_at(in, 32 * k)), drop));
        in.remove_prefix(32 * count);
      }
      // The root stays for the oldest version; the one before is of no use any more.
      batch.put(version_key(drop), std::string_view(list).substr(0, 32));
    }
    batch.del(version_key(head.oldest));
    head.oldest = drop;
  }
}

void Store::committed(const std::shared_ptr<StateLayer>& layer) {
  const uint64_t version = pending_.head.version;
  // Flat caches first: nobody reads at the new version before it is published.
  const uint64_t stamp = ++core_->stamp;
  core_->accounts.raise(stamp);
  core_->slots.raise(stamp);
  std::string key;
  for (size_t i = 0; i < layer->diff.accounts.size(); i++) {
    const AccountChange& a = layer->diff.accounts[i];
    core_->accounts.put(as_chars(a.address), stamp, a.exists ? encode_account({a.after, layer->roots[i]}) : std::string());
    if (layer->cleared(static_cast<uint32_t>(i)) && layer->roots_before[i] != empty_trie_root()) core_->slots.clear(stamp);
  }
  for (const AccountChange& a : layer->diff.accounts)
    for (const SlotChange& s : a.slots) {
      key.assign(as_chars(a.address));
      append(key, s.slot.be());
      core_->slots.put(key, stamp, a.exists ? encode_slot(s.after) : std::string());
    }
  auto view = std::make_shared<HeadView>(core_, version, layer->root_);

  const std::unique_lock lock(core_->tries);
  Core& c = *core_;
  for (const auto& k : pending_.gone) {
    c.nodes.erase(k);
    c.dirty.erase(k);
  }
  if (pending_.flush) {
    for (const auto& [k, record] : c.dirty)
      if (!layer->nodes.contains(k)) c.nodes.put(k, 0, record);
    for (const auto& [k, record] : layer->nodes) c.nodes.put(k, 0, record);
    c.dirty.clear();
    c.dirty_bytes = 0;
  } else {
    while (!layer->nodes.empty()) {
      auto handle = layer->nodes.extract(layer->nodes.begin());
      c.dirty_bytes += handle.key().size() + handle.mapped().size() + kNodeOverhead;
      auto done = c.dirty.insert(std::move(handle));
      if (done.inserted) continue;
      c.dirty_bytes -= done.node.key().size() + done.position->second.size() + kNodeOverhead;
      done.position->second = std::move(done.node.mapped());
    }
  }
  layer->nodes = {};
  c.trie_version = pending_.head.trie_version;
  c.oldest = pending_.head.oldest;
  layer->settle(view);
  c.publish(std::move(view));
  pending_ = Pending{};
}

// ---- undoing

bool Store::prepare_revert(uint64_t version, KvBatch& batch, std::string& message) {
  const std::shared_lock lock(core_->tries);
  const auto head = core_->head();
  pending_ = Pending{};
  if (version > head->version() || version < core_->oldest) {
    message = "version " + std::to_string(version) + " is not kept";
    return false;
  }
  auto undo = std::make_unique<Undo>();
  if (!gather_undo(*core_, *head, version, SIZE_MAX, *undo, message) || !undo_tries(*core_, *head, *undo, message)) return false;

  for (const auto& [account, record] : undo->accounts) {
    if (record)
      batch.put(account_key(account), encode_account(*record));
    else
      batch.del(account_key(account));
  }
  for (const auto& [account, slots] : undo->slots)
    for (const auto& [slot, x] : slots) {
      if (x.is_zero())
        batch.del(slot_key(account, slot));
      else
        batch.put(slot_key(account, slot), encode_slot(x));
    }
  // The history of what is undone.
  std::string list;
  for (uint64_t v = head->version(); v > version; v--) {
    if (!core_->kv.get(version_key(v), list, head->snapshot.get())) continue;
    std::string_view in(list);
    in.remove_prefix(32);
    while (in.size() > 32) {
      const Hash account = hash_at(in, 0);
      in.remove_prefix(32);
      uint64_t count = 0;
      if (!read_varint(in, count) || in.size() / 32 < count) break;
      batch.del(history_key(account_key(account), v));
      for (uint64_t k = 0; k < count; k++) batch.del(history_key(slot_key(account, hash_at(in, 32 * k)), v));
      in.remove_prefix(32 * count);
    }
    batch.del(version_key(v));
  }
  for (const auto& [key, record] : core_->dirty)
    if (!undo->nodes.contains(key)) put_node(batch, key, record);
  for (const auto& [key, record] : undo->nodes) put_node(batch, key, record);
  pending_.head = {version, version, core_->oldest, undo->root};
  pending_.undo = std::move(undo);
  batch.put(kHeadKey, encode_head(pending_.head));
  return true;
}

void Store::reverted() {
  if (!pending_.undo) return;
  const std::unique_lock lock(core_->tries);
  Core& c = *core_;
  c.dirty.clear();
  c.dirty_bytes = 0;
  c.nodes.clear(0);
  c.trie_version = pending_.head.version;
  // Views of undone versions may still be read: by their stamp, nothing that they add is taken for the present.
  const uint64_t stamp = ++c.stamp;
  c.epoch++;
  c.accounts.clear(stamp);
  c.slots.clear(stamp);
  c.publish(std::make_shared<HeadView>(core_, pending_.head.version, pending_.head.root));
  pending_ = Pending{};
}

// ---- start

bool Store::recover(std::string& message) {
  Core& c = *core_;
  Head h;
  std::string value;
  if (c.kv.get(kHeadKey, value)) {
    if (!decode_head(value, h)) {
      message = "the head of the state is damaged, or of another format";
      return false;
    }
  }
  c.trie_version = h.trie_version;
  c.oldest = h.oldest;
  auto head = std::make_shared<HeadView>(core_, h.version, h.root);
  c.publish(head);
  if (h.trie_version == h.version) return true;

  // The tries stand at an older version: what has changed since is done to them again.
  Undo undo;
  if (!gather_undo(c, *head, h.trie_version, SIZE_MAX, undo, message)) return false;
  TrieReader reader(c, *head);
  reader.undo = &undo;
  std::deque<Bytes> values;
  std::deque<std::vector<trie::Change>> lists;
  std::vector<trie::Update> updates;
  for (const auto& [account, slots] : undo.slots) {
    auto& list = lists.emplace_back();
    for (const auto& [slot, before] : slots) {
      const U256 now = head->slot_by_hash(account, slot);
      if (now == before) continue;
      trie::Change t{slot, !before.is_zero(), {}};
      if (!now.is_zero()) {
        rlp_number(now, values.emplace_back());
        t.value = values.back();
      }
      list.push_back(t);
    }
    trie::Update u;
    u.owner = &account;
    u.changes = list;
    if (!list.empty()) updates.push_back(u);
  }
  trie::NodeMap nodes;
  bool ok = trie::update_tries(reader, updates, c.options.threads, nodes);
  std::vector<trie::Change> changes;
  for (const auto& [account, before] : undo.accounts) {
    Record now;
    const bool exists = head->record_by_hash(account, now);
    if (!exists && !before) continue;
    trie::Change t{account, before.has_value(), {}};
    if (exists) {
      rlp_account(now, values.emplace_back());
      t.value = values.back();
    }
    changes.push_back(t);
  }
  trie::Update all;
  all.changes = changes;
  all.root = undo.root;
  ok &= trie::update_tries(reader, {&all, 1}, c.options.threads, nodes);
  if (!ok || all.root != h.root) {
    message = "the state's tries do not come to the root of the head";
    return false;
  }
  c.dirty = std::move(nodes);
  c.dirty_bytes = bytes_of(c.dirty);
  return true;
}

Hash Store::recompute_root() const {
  const auto head = core_->head();
  const auto accounts = core_->kv.iterator(head->snapshot.get(), false);
  const auto slots = core_->kv.iterator(head->snapshot.get(), false);
  HashedRoot all;
  Record r;
  for (accounts->seek("a"); accounts->valid() && accounts->key()[0] == 'a'; accounts->next()) {
    if (accounts->key().size() != 33) continue;
    // Damage shows as a wrong root.
    if (!decode_account(accounts->value(), r)) return Hash{};
    const Hash owner = hash_at(accounts->key(), 1);
    if (r.storage_root != empty_trie_root()) {
      HashedRoot storage;
      const std::string prefix = key1('s', owner);
      for (slots->seek(prefix); slots->valid() && slots->key().starts_with(prefix); slots->next()) {
        U256 x;
        if (!decode_slot(slots->value(), x)) return Hash{};
        Bytes v;
        rlp_number(x, v);
        storage.add(hash_at(slots->key(), 33), std::move(v));
      }
      r.storage_root = storage.finish();
    }
    Bytes v;
    rlp_account(r, v);
    all.add(owner, std::move(v));
  }
  return all.finish();
}

}  // namespace

void db::put_first_head(KvBatch& batch, const Hash& root) {
  Head h;
  h.version = h.trie_version = h.oldest = 1;
  h.root = root;
  std::string list;
  append(list, root);
  batch.put(version_key(1), list);
  batch.put(kHeadKey, encode_head(h));
}

bool StateStore::open(KvStore& kv, const Options& options, std::unique_ptr<StateStore>& out, std::string& message) {
  auto store = std::make_unique<Store>(std::make_shared<Core>(kv, options));
  if (!store->recover(message)) return false;
  out = std::move(store);
  return true;
}

}  // namespace zg
