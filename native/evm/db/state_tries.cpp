// The tries of a view: layers on memory on disk, and states of the past by undoing.
#include <algorithm>

#include "db/state_core.h"

namespace zg::db {
namespace {

// Keys between `prefix` followed by zeros and by ones.
void bounds(const trie::Path& prefix, Hash& lo, Hash& hi) {
  lo = Hash{};
  std::memset(hi.b, 0xff, 32);
  for (size_t i = 0; i < prefix.len; i++) {
    const uint8_t x = prefix.n[i];
    uint8_t& l = lo.b[i / 2];
    uint8_t& h = hi.b[i / 2];
    if ((i & 1) == 0) {
      l = static_cast<uint8_t>(x << 4);
      h = static_cast<uint8_t>(x << 4 | 15);
    } else {
      l = static_cast<uint8_t>((l & 0xf0) | x);
      h = l;
    }
  }
}

Bytes slot_value(const U256& x) {
  Bytes out;
  rlp_number(x, out);
  return out;
}

}  // namespace

bool TrieReader::node(const Hash* owner, const trie::Path& path, std::string& record) const {
  const std::string key = trie::node_key(owner, path);
  for (const StateLayer* layer : layers) {
    const auto at = layer->nodes.find(key);
    if (at != layer->nodes.end()) {
      record = at->second;
      return !record.empty();
    }
    uint32_t i = 0;
    if (owner != nullptr && layer->find_hash(*owner, i) != nullptr && layer->cleared(i)) return false;
  }
  if (undo != nullptr) {
    const auto at = undo->nodes.find(key);
    if (at != undo->nodes.end()) {
      record = at->second;
      return !record.empty();
    }
  }
  const auto at = core_.dirty.find(key);
  if (at != core_.dirty.end()) {
    record = at->second;
    return !record.empty();
  }
  // Nodes change only when the lock is held alone: any version will do.
  if (core_.nodes.get(key, ~uint64_t{0}, record)) return !record.empty();
  if (!core_.kv.get(key, record, head_.snapshot.get())) record.clear();
  core_.nodes.add(key, 0, record);
  return !record.empty();
}

bool TrieReader::record_by_hash(const Hash& account, Record& out) const {
  for (const StateLayer* layer : layers) {
    uint32_t i = 0;
    const AccountChange* c = layer->find_hash(account, i);
    if (c == nullptr) continue;
    if (!c->exists) return false;
    out.data = c->after;
    out.storage_root = layer->roots[i];
    return true;
  }
  if (undo != nullptr) {
    const auto at = undo->accounts.find(account);
    if (at != undo->accounts.end()) {
      if (at->second) out = *at->second;
      return at->second.has_value();
    }
  }
  return head_.record_by_hash(account, out);
}

U256 TrieReader::slot_by_hash(const Hash& account, const Hash& slot) const {
  for (const StateLayer* layer : layers) {
    uint32_t i = 0;
    const AccountChange* c = layer->find_hash(account, i);
    if (c == nullptr) continue;
    if (!c->exists) return {};
    const auto& s = layer->slots[i];
    const auto at = std::lower_bound(s.begin(), s.end(), slot, [](const StateLayer::SlotAt& x, const Hash& h) { return x.hash < h; });
    if (at != s.end() && at->hash == slot) return c->slots[at->index].after;
    if (layer->cleared(i)) return {};
  }
  if (undo != nullptr) {
    const auto a = undo->slots.find(account);
    if (a != undo->slots.end()) {
      const auto at = a->second.find(slot);
      if (at != a->second.end()) return at->second;
    }
  }
  return head_.slot_by_hash(account, slot);
}

bool TrieReader::leaf(const Hash* owner, const trie::Path& prefix, Hash& key, Bytes& value) const {
  Hash lo, hi;
  bounds(prefix, lo, hi);
  // Exactly one key with the prefix is present: whatever any level knows of, asked from the top.
  const auto present = [&](const Hash& h) {
    if (owner == nullptr) {
      Record r;
      if (!record_by_hash(h, r)) return false;
      value.clear();
      rlp_account(r, value);
    } else {
      const U256 x = slot_by_hash(*owner, h);
      if (x.is_zero()) return false;
      value = slot_value(x);
    }
    key = h;
    return true;
  };
  for (const StateLayer* layer : layers) {
    if (owner == nullptr) {
      auto at = std::lower_bound(layer->by_hash.begin(), layer->by_hash.end(), lo, [layer](uint32_t i, const Hash& h) { return layer->hashes[i] < h; });
      for (; at != layer->by_hash.end() && layer->hashes[*at] <= hi; ++at)
        if (present(layer->hashes[*at])) return true;
    } else {
      uint32_t i = 0;
      if (layer->find_hash(*owner, i) == nullptr) continue;
      const auto& s = layer->slots[i];
      auto at = std::lower_bound(s.begin(), s.end(), lo, [](const StateLayer::SlotAt& x, const Hash& h) { return x.hash < h; });
      for (; at != s.end() && at->hash <= hi; ++at)
        if (present(at->hash)) return true;
    }
  }
  if (undo != nullptr) {
    if (owner == nullptr) {
      for (auto at = undo->accounts.lower_bound(lo); at != undo->accounts.end() && at->first <= hi; ++at)
        if (present(at->first)) return true;
    } else if (const auto a = undo->slots.find(*owner); a != undo->slots.end()) {
      for (auto at = a->second.lower_bound(lo); at != a->second.end() && at->first <= hi; ++at)
        if (present(at->first)) return true;
    }
  }
  const auto it = core_.kv.iterator(head_.snapshot.get());
  const std::string space = owner == nullptr ? std::string("a") : key1('s', *owner);
  std::string from = space;
  append(from, lo);
  for (it->seek(from); it->valid() && it->key().size() == from.size() && it->key().starts_with(space); it->next()) {
    const Hash h = hash_at(it->key(), space.size());
    if (h > hi) break;
    if (present(h)) return true;
  }
  return false;
}

bool gather_undo(const Core& core, const HeadView& head, uint64_t version, size_t max_keys, Undo& out, std::string& message) {
  out.version = version;
  out.from = head.version();
  std::string list, value;
  const auto add_account = [&](const Hash& h, uint64_t v) {
    if (!core.kv.get(history_key(account_key(h), v), value, head.snapshot.get())) return false;
    Record r;
    if (value.empty())
      out.accounts[h] = std::nullopt;
    else if (decode_account(value, r))
      out.accounts[h] = r;
    else
      return false;
    return true;
  };
  for (uint64_t v = head.version(); v > version; v--) {
    if (!core.kv.get(version_key(v), list, head.snapshot.get()) || list.size() < 32) {
      message = "the history of version " + std::to_string(v) + " is not kept";
      return false;
    }
    std::string_view in(list);
    in.remove_prefix(32);
    while (!in.empty()) {
      uint64_t count = 0;
      if (in.size() < 32) break;
      const Hash account = hash_at(in, 0);
      in.remove_prefix(32);
      if (!read_varint(in, count) || in.size() / 32 < count || !add_account(account, v)) {
        message = "the history of version " + std::to_string(v) + " is damaged";
        return false;
      }
      for (uint64_t i = 0; i < count; i++) {
        const Hash slot = hash_at(in, 32 * i);
        U256 x;
        if (!core.kv.get(history_key(slot_key(account, slot), v), value, head.snapshot.get()) || !decode_slot(value, x)) {
          message = "the history of version " + std::to_string(v) + " is damaged";
          return false;
        }
        out.slots[account][slot] = x;
      }
      in.remove_prefix(32 * count);
      out.keys += 1 + count;
      if (out.keys > max_keys) {
        message = "too much has changed since version " + std::to_string(version);
        return false;
      }
    }
  }
  if (version == 0) {
    out.root = empty_trie_root();
  } else if (!core.kv.get(version_key(version), list, head.snapshot.get()) || list.size() < 32) {
    message = "version " + std::to_string(version) + " is not kept";
    return false;
  } else {
    out.root = hash_at(list, 0);
  }
  return true;
}

bool undo_tries(Core& core, const HeadView& head, Undo& undo, std::string& message) {
  const TrieReader base(core, head);
  std::deque<Bytes> values;
  std::deque<std::vector<trie::Change>> lists;
  std::vector<trie::Update> updates;
  for (auto& [account, slots] : undo.slots) {
    lists.emplace_back();
    for (const auto& [slot, x] : slots) {
      const U256 now = head.slot_by_hash(account, slot);
      if (now == x) continue;
      trie::Change c{slot, !now.is_zero(), {}};
      if (!x.is_zero()) {
        values.push_back(slot_value(x));
        c.value = values.back();
      }
      lists.back().push_back(c);
    }
    if (lists.back().empty()) continue;
    trie::Update u;
    u.owner = &account;
    u.changes = lists.back();
    updates.push_back(u);
  }
  if (!trie::update_tries(base, updates, 1, undo.nodes)) {
    message = "a trie node is missing";
    return false;
  }
  for (const trie::Update& u : updates) {
    const auto at = undo.accounts.find(*u.owner);
    const Hash want = at != undo.accounts.end() && at->second ? at->second->storage_root : empty_trie_root();
    if (u.root != want) {
      message = "an undone storage trie has another root than its account says";
      return false;
    }
  }
  std::vector<trie::Change> changes;
  for (const auto& [account, record] : undo.accounts) {
    Record now;
    trie::Change c{account, head.record_by_hash(account, now), {}};
    if (record) {
      values.emplace_back();
      rlp_account(*record, values.back());
      c.value = values.back();
    } else if (!c.existed) {
      continue;
    }
    changes.push_back(c);
  }
  trie::Update accounts;
  accounts.changes = changes;
  accounts.root = head.root();
  if (!trie::update_tries(base, {&accounts, 1}, 1, undo.nodes)) {
    message = "a trie node is missing";
    return false;
  }
  if (accounts.root != undo.root) {
    message = "the undone state has another root than its version";
    return false;
  }
  return true;
}

bool bind_reader(Core& core, const HeadView& head, const View& view, TrieReader& reader, std::unique_ptr<Undo>& undo, std::string& message) {
  const View* at = &view;
  while (at->kind == ViewKind::layer) {
    const auto& layer = static_cast<const StateLayer&>(*at);
    // Once durable, its parent is the same state.
    if (!layer.durable()) reader.layers.push_back(&layer);
    reader.holds.push_back(layer.parent());
    at = static_cast<const View*>(reader.holds.back().get());
  }
  const uint64_t epoch = at->kind == ViewKind::head ? static_cast<const HeadView*>(at)->epoch : static_cast<const HistoryView*>(at)->epoch();
  if (epoch != head.epoch) {
    message = "the state was undone meanwhile";
    return false;
  }
  if (at->version() == head.version()) return true;
  if (head.version() < at->version() || head.version() - at->version() > core.options.proof_window) {
    message = "version " + std::to_string(at->version()) + " is farther back than the " + std::to_string(core.options.proof_window) + " for which proofs are made";
    return false;
  }
  constexpr size_t kMaxUndoKeys = 1'000'000;
  undo = std::make_unique<Undo>();
  if (!gather_undo(core, head, at->version(), kMaxUndoKeys, *undo, message) || !undo_tries(core, head, *undo, message)) return false;
  reader.undo = undo.get();
  return true;
}

bool View::proof(const Address& address, std::span<const U256> slots, AccountProof& out, std::string& message) const {
  const std::shared_lock lock(core_->tries);
  const auto head = core_->head();
  TrieReader reader(*core_, *head);
  std::unique_ptr<Undo> undo;
  if (!bind_reader(*core_, *head, *this, reader, undo, message)) return false;
  const Hash owner = keccak(address);
  Record r;
  out = AccountProof{};
  out.exists = reader.record_by_hash(owner, r);
  out.account = r.data;
  out.storage_root = r.storage_root;
  bool ok = trie::prove(reader, nullptr, owner, out.nodes);
  for (const U256& slot : slots) {
    AccountProof::SlotProof p;
    p.key = slot;
    const Hash be = slot.be();
    const Hash h = keccak(be);
    if (out.exists && r.storage_root != empty_trie_root()) {
      p.value = reader.slot_by_hash(owner, h);
      ok &= trie::prove(reader, &owner, h, p.nodes);
    }
    out.slots.push_back(std::move(p));
  }
  if (!ok) message = "a trie node is missing";
  return ok;
}

}  // namespace zg::db
