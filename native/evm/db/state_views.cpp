// Reading the state: at the head, in the past, in layers above.
#include <cstdio>
#include <cstdlib>

#include <algorithm>

#include "db/state_core.h"

namespace zg::db {

void fatal(const char* what) {
  std::fprintf(stderr, "zg-chain: state store: %s\n", what);
  std::abort();
}

// ---- what all views share

bool View::account(const Address& address, AccountData& out) const {
  Record r;
  if (!record(address, r)) return false;
  out = r.data;
  return true;
}

bool View::storage_root(const Address& address, Hash& out) const {
  Record r;
  if (!record(address, r)) return false;
  out = r.storage_root;
  return true;
}

bool View::has_storage(const Address& address) const {
  Record r;
  return record(address, r) && r.storage_root != empty_trie_root();
}

std::shared_ptr<const Code> View::code(const Hash& code_hash) const {
  if (code_hash == empty_code_hash()) return Code::empty();
  if (auto found = CodeCache::instance().find(code_hash)) return found;
  std::string bytes;
  if (!core_->kv.get(key1('c', code_hash), bytes)) fatal("an account's code is missing");
  auto code = Code::make(Bytes(bytes.begin(), bytes.end()), code_hash);
  CodeCache::instance().add(code);
  return code;
}

// ---- head

namespace {

std::string slot_cache_key(const Address& address, const U256& slot) {
  std::string k;
  k.reserve(52);
  k.append(as_chars(address));
  append(k, slot.be());
  return k;
}

bool must_decode(std::string_view value, Record& out) {
  if (value.empty()) return false;
  if (!decode_account(value, out)) fatal("an account's record is damaged");
  return true;
}

U256 must_decode_slot(std::string_view value) {
  U256 x;
  if (!decode_slot(value, x)) fatal("a slot's record is damaged");
  return x;
}

}  // namespace

bool HeadView::record(const Address& address, Record& out) const {
  std::string value;
  const std::string_view key = as_chars(address);
  if (!core_->accounts.get(key, stamp_, value)) {
    if (!core_->kv.get(account_key(keccak(address)), value, snapshot.get())) value.clear();
    core_->accounts.add(key, stamp_, value);
  }
  return must_decode(value, out);
}

U256 HeadView::storage(const Address& address, const U256& slot) const {
  std::string value;
  const std::string key = slot_cache_key(address, slot);
  if (!core_->slots.get(key, stamp_, value)) {
    const Hash be = slot.be();
    if (!core_->kv.get(slot_key(keccak(address), keccak(be)), value, snapshot.get())) value.clear();
    core_->slots.add(key, stamp_, value);
  }
  return must_decode_slot(value);
}

bool HeadView::record_by_hash(const Hash& account, Record& out) const {
  std::string value;
  return core_->kv.get(account_key(account), value, snapshot.get()) && must_decode(value, out);
}

U256 HeadView::slot_by_hash(const Hash& account, const Hash& slot) const {
  std::string value;
  if (!core_->kv.get(slot_key(account, slot), value, snapshot.get())) return {};
  return must_decode_slot(value);
}

bool HeadView::each_account(const Hash& start, const std::function<bool(const Hash&, const Bytes&, const AccountData&)>& fn) const {
  const auto it = core_->kv.iterator(snapshot.get(), false);
  Record r;
  std::string preimage;
  for (it->seek(account_key(start)); it->valid() && it->key()[0] == 'a'; it->next()) {
    if (it->key().size() != 33) continue;
    must_decode(it->value(), r);
    const Hash h = hash_at(it->key(), 1);
    if (!core_->kv.get(key1('p', h), preimage, snapshot.get())) preimage.clear();
    if (!fn(h, Bytes(preimage.begin(), preimage.end()), r.data)) return true;
  }
  return true;
}

bool HeadView::each_slot(const Address& address, const Hash& start, const std::function<bool(const Hash&, const Bytes&, const U256&)>& fn) const {
  const auto it = core_->kv.iterator(snapshot.get(), false);
  const Hash owner = keccak(address);
  const std::string prefix = key1('s', owner);
  std::string preimage;
  for (it->seek(slot_key(owner, start)); it->valid() && it->key().starts_with(prefix); it->next()) {
    const Hash h = hash_at(it->key(), 33);
    if (!core_->kv.get(key1('p', h), preimage, snapshot.get())) preimage.clear();
    if (!fn(h, Bytes(preimage.begin(), preimage.end()), must_decode_slot(it->value()))) return true;
  }
  return true;
}

// ---- history

bool HistoryView::before(const std::string& key, std::string& value) const {
  std::unique_ptr<KvIterator> it;
  {
    const std::lock_guard lock(mutex_);
    if (!free_.empty()) {
      it = std::move(free_.back());
      free_.pop_back();
    }
  }
  if (!it) it = core_->kv.iterator(head_->snapshot.get());
  const std::string from = history_key(key, version_ + 1);
  it->seek(from);
  // The same key, whatever version behind it.
  const bool found = it->valid() && it->key().size() == from.size() && it->key().starts_with(std::string_view(from).substr(0, from.size() - 8));
  if (found) value.assign(it->value());
  const std::lock_guard lock(mutex_);
  free_.push_back(std::move(it));
  return found;
}

bool HistoryView::record(const Address& address, Record& out) const {
  std::string value;
  if (before(account_key(keccak(address)), value)) return must_decode(value, out);
  return head_->record(address, out);
}

U256 HistoryView::storage(const Address& address, const U256& slot) const {
  std::string value;
  const Hash be = slot.be();
  if (before(slot_key(keccak(address), keccak(be)), value)) return must_decode_slot(value);
  return head_->storage(address, slot);
}

}  // namespace zg::db

// ---- layers

namespace zg {

StateLayer::StateLayer(std::shared_ptr<db::Core> core, std::shared_ptr<const StateView> parent, StateDiff d)
    : View(std::move(core), db::ViewKind::layer), diff(std::move(d)), parent_(std::move(parent)) {
  size_t size = 16;
  while (size < 2 * diff.accounts.size()) size *= 2;
  table_.assign(size, 0);
  for (size_t i = 0; i < diff.accounts.size(); i++) {
    size_t at = AddressHasher{}(diff.accounts[i].address) & (size - 1);
    while (table_[at] != 0) at = (at + 1) & (size - 1);
    table_[at] = static_cast<uint32_t>(i + 1);
  }
}

const AccountChange* StateLayer::find(const Address& address) const noexcept {
  const size_t mask = table_.size() - 1;
  for (size_t at = AddressHasher{}(address) & mask; table_[at] != 0; at = (at + 1) & mask) {
    const AccountChange& c = diff.accounts[table_[at] - 1];
    if (c.address == address) return &c;
  }
  return nullptr;
}

const AccountChange* StateLayer::find_hash(const Hash& hash, uint32_t& index) const noexcept {
  const auto at = std::lower_bound(by_hash.begin(), by_hash.end(), hash, [this](uint32_t i, const Hash& h) { return hashes[i] < h; });
  if (at == by_hash.end() || hashes[*at] != hash) return nullptr;
  index = *at;
  return &diff.accounts[*at];
}

void StateLayer::settle(std::shared_ptr<const StateView> head) {
  {
    const std::lock_guard lock(mutex_);
    parent_.swap(head);
    durable_.store(true, std::memory_order_release);
  }
  // What was the parent is let go here.
}

bool StateLayer::record(const Address& address, db::Record& out) const {
  if (const AccountChange* c = find(address)) {
    if (!c->exists) return false;
    out.data = c->after;
    out.storage_root = roots[static_cast<size_t>(c - diff.accounts.data())];
    return true;
  }
  return static_cast<const View&>(*parent()).record(address, out);
}

U256 StateLayer::storage(const Address& address, const U256& slot) const {
  if (const AccountChange* c = find(address)) {
    if (!c->exists) return {};
    const auto at = std::lower_bound(c->slots.begin(), c->slots.end(), slot, [](const SlotChange& x, const U256& s) { return x.slot < s; });
    if (at != c->slots.end() && at->slot == slot) return at->after;
    if (c->storage_cleared) return {};
  }
  return parent()->storage(address, slot);
}

std::shared_ptr<const Code> StateLayer::code(const Hash& code_hash) const {
  for (const auto& c : diff.codes)
    if (c->hash() == code_hash) return c;
  return parent()->code(code_hash);
}

const StateView& view_of(const StateLayer& layer) { return layer; }
std::shared_ptr<const StateView> as_view(const std::shared_ptr<StateLayer>& layer) { return layer; }

}  // namespace zg
