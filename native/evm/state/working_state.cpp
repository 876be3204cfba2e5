#include "state/working_state.h"

#include <algorithm>
#include <vector>

namespace zg {

namespace {

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

}  // namespace

Slot& SlotMap::add(const U256& key) {
  if ((size_ + 1) * 2 > table_.size()) {
    std::vector<Slot*> wider(table_.empty() ? 8 : table_.size() * 2, nullptr);
    const size_t mask = wider.size() - 1;
    for (Slot* s : table_) {
      if (s == nullptr) continue;
      size_t i = U256Hasher{}(s->key) & mask;
      while (wider[i] != nullptr) i = (i + 1) & mask;
      wider[i] = s;
    }
    table_ = std::move(wider);
  }
  if (blocks_.empty() || used_ == blocks_.back().capacity) {
    const size_t capacity = blocks_.empty() ? 4 : std::min<size_t>(blocks_.back().capacity * 2, 1024);
    blocks_.push_back({std::make_unique<Slot[]>(capacity), capacity});
    used_ = 0;
  }
  Slot* fresh = &blocks_.back().slots[used_++];
  fresh->key = key;
  ++size_;
  const size_t mask = table_.size() - 1;
  size_t i = U256Hasher{}(key) & mask;
  while (table_[i] != nullptr) i = (i + 1) & mask;
  table_[i] = fresh;
  return *fresh;
}

struct WorkingState::Impl {
  struct Block {
    std::unique_ptr<Account[]> accounts;
    size_t capacity;
  };
  std::vector<Block> blocks;
  size_t used = 0;  // of the last block
  std::vector<Account*> table = std::vector<Account*>(32, nullptr);
  std::vector<Account*> all;

  std::vector<Entry> journal;
  std::vector<Saved> saved;
  std::vector<Account*> touched, destroyed;  // of this transaction; may hold one twice, and reverted ones
  TransientMap transient;

  Account** place(const Address& address) {
    const size_t mask = table.size() - 1;
    size_t i = AddressHasher{}(address)&mask;
    while (table[i] != nullptr && table[i]->address != address) i = (i + 1) & mask;
    return &table[i];
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
    saved.push_back({account.now, account.code, account.created_tx});
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
    a.now = {};
    a.code = nullptr;
    a.cleared = true;
    a.slots.each([](Slot& s) { s.original = s.current = U256{}; });
  }
};

WorkingState::WorkingState(const StateReader& base) : base_(base), impl_(std::make_unique<Impl>()) {}
WorkingState::~WorkingState() = default;

void WorkingState::begin_transaction() {
  ++tx_;
  ++mark_;
  refund_ = 0;
  logs_.clear();
  impl_->forget_journal();
  impl_->transient.clear();
}

void WorkingState::finish_transaction(Revision rev) {
  for (Account* a : impl_->destroyed)
    if (a->destroyed_tx == tx_) Impl::remove(*a);
  if (rev >= Revision::spurious_dragon)
    for (Account* a : impl_->touched)
      if (a->touched_tx == tx_ && a->exists && a->now.empty()) Impl::remove(*a);
  impl_->forget_journal();
}

void WorkingState::abort_transaction() {
  revert_to(0);
  impl_->forget_journal();
  logs_.clear();
}

size_t WorkingState::checkpoint() noexcept {
  ++mark_;
  return impl_->journal.size();
}

void WorkingState::revert_to(size_t checkpoint) {
  ++mark_;
  Impl& m = *impl_;
  while (m.journal.size() > checkpoint) {
    Entry& e = m.journal.back();
    switch (e.kind) {
      case Undo::balance:
        e.account->now.balance = e.value;
        e.account->exists = e.existed;
        break;
      case Undo::nonce:
        e.account->now.nonce = e.value.low();
        e.account->exists = e.existed;
        break;
      case Undo::code:
      case Undo::create: {
        Saved& s = m.saved.back();
        e.account->now = s.now;
        e.account->code = std::move(s.code);
        e.account->created_tx = s.created_tx;
        e.account->exists = e.existed;
        m.saved.pop_back();
        break;
      }
      case Undo::destroy:
        e.account->destroyed_tx = e.number;
        break;
      case Undo::touch:
        if (!touch_survives(e.account->address)) e.account->touched_tx = e.number;
        break;
      case Undo::warm_account:
        e.account->warm_tx = e.number;
        break;
      case Undo::warm_slot:
        e.slot->warm_tx = e.number;
        break;
      case Undo::slot:
        e.slot->current = e.value;
        break;
      case Undo::transient:
        m.transient.value(e.number) = e.value;
        break;
      case Undo::log:
        logs_.pop_back();
        break;
      case Undo::refund:
        refund_ = static_cast<int64_t>(e.value.low());
        break;
    }
    m.journal.pop_back();
  }
}

Account& WorkingState::account(const Address& address) {
  if (Account* known = *impl_->place(address)) return *known;
  Account& a = impl_->add(address);
  a.existed = a.exists = base_.account(address, a.base);
  if (!a.existed) a.base = {};
  a.now = a.base;
  return a;
}

bool WorkingState::warm(Account& account) {
  if (account.warm_tx == tx_ || account.always_warm) return false;
  impl_->log(Undo::warm_account, &account).number = account.warm_tx;
  account.warm_tx = tx_;
  return true;
}

void WorkingState::always_warm(std::span<const Address> addresses) {
  has_always_warm_ = true;
  for (const Address& a : addresses) account(a).always_warm = true;
}

bool WorkingState::warm(Account& account, Slot& slot) {
  if (slot.warm_tx == tx_) return false;
  Entry& e = impl_->log(Undo::warm_slot, &account);
  e.slot = &slot;
  e.number = slot.warm_tx;
  slot.warm_tx = tx_;
  return true;
}

void WorkingState::touch(Account& account) {
  if (account.touched_tx == tx_) return;
  impl_->log(Undo::touch, &account).number = account.touched_tx;
  account.touched_tx = tx_;
  impl_->touched.push_back(&account);
}

const Code& WorkingState::code(Account& account) {
  if (account.code == nullptr)
    account.code = account.now.code_hash == empty_code_hash() ? Code::empty() : base_.code(account.now.code_hash);
  return *account.code;
}

void WorkingState::set_balance(Account& account, const U256& balance) {
  touch(account);
  Entry& e = impl_->log(Undo::balance, &account);
  e.existed = account.exists;
  e.value = account.now.balance;
  account.now.balance = balance;
  account.exists = true;
}

void WorkingState::add_balance(Account& account, const U256& amount) { set_balance(account, account.now.balance + amount); }

bool WorkingState::sub_balance(Account& account, const U256& amount) {
  if (account.now.balance < amount) return false;
  if (!amount.is_zero()) set_balance(account, account.now.balance - amount);
  return true;
}

void WorkingState::set_nonce(Account& account, uint64_t nonce) {
  touch(account);
  Entry& e = impl_->log(Undo::nonce, &account);
  e.existed = account.exists;
  e.value = account.now.nonce;
  account.now.nonce = nonce;
  account.exists = true;
}

void WorkingState::set_code(Account& account, std::shared_ptr<const Code> code) {
  touch(account);
  impl_->save(Undo::code, account);
  account.now.code_hash = code->hash();
  account.code = std::move(code);
  account.exists = true;
}

void WorkingState::create(Account& account) {
  touch(account);
  impl_->save(Undo::create, account);
  account.now.nonce = 0;
  account.now.code_hash = empty_code_hash();
  account.code = Code::empty();
  account.created_tx = tx_;
  account.exists = true;
}

void WorkingState::destroy(Account& account) {
  if (account.destroyed_tx == tx_) return;
  impl_->log(Undo::destroy, &account).number = account.destroyed_tx;
  account.destroyed_tx = tx_;
  impl_->destroyed.push_back(&account);
}

bool WorkingState::collides(Account& account) {
  if (account.now.nonce != 0 || account.now.code_hash != empty_code_hash()) return true;
  bool any = false;
  account.slots.each([&](const Slot& s) { any = any || !s.current.is_zero(); });
  return any || (account.existed && !account.cleared && base_.has_storage(account.address));
}

Slot& WorkingState::slot(Account& account, const U256& key) {
  Slot* s = account.slots.find(key);
  if (s == nullptr) {
    s = &account.slots.add(key);
    if (account.existed) s->base = base_.storage(account.address, key);
    s->current = account.cleared ? U256{} : s->base;
  }
  if (s->tx != tx_) {
    s->tx = tx_;
    s->original = s->current;
  }
  return *s;
}

void WorkingState::set_slot(Account& account, Slot& slot, const U256& value) {
  // A second write since the last checkpoint would be undone to a value that nobody can come back to.
  if (slot.saved_at != mark_) {
    Entry& e = impl_->log(Undo::slot, &account);
    e.slot = &slot;
    e.value = slot.current;
    slot.saved_at = mark_;
  }
  slot.current = value;
}

U256 WorkingState::transient(const Address& address, const U256& key) const {
  const TransientMap::Entry* const e = impl_->transient.find(address, key);
  return e == nullptr ? U256{} : e->value;
}

void WorkingState::set_transient(const Address& address, const U256& key, const U256& value) {
  const uint32_t index = impl_->transient.index(address, key);
  U256& place = impl_->transient.value(index);
  Entry& undo = impl_->log(Undo::transient, nullptr);
  undo.number = index;
  undo.value = place;
  place = value;
}

void WorkingState::add_log(Log&& log) {
  impl_->log(Undo::log, nullptr);
  logs_.push_back(std::move(log));
}

void WorkingState::add_refund(int64_t delta) {
  impl_->log(Undo::refund, nullptr).value = U256(static_cast<uint64_t>(refund_));
  refund_ += delta;
}

StateDiff WorkingState::take_diff() {
  StateDiff diff;
  std::vector<Account*> order = impl_->all;
  std::sort(order.begin(), order.end(), [](const Account* a, const Account* b) { return a->address < b->address; });
  for (Account* a : order) {
    AccountChange change;
    const bool cleared = a->cleared && a->existed;
    if (a->exists) {
      a->slots.each([&](const Slot& s) {
        // On cleared storage a zero says nothing, and an old value must be written again.
        if (cleared ? !s.current.is_zero() : s.current != s.base) change.slots.push_back({s.key, s.base, s.current});
      });
    }
    if (a->existed == a->exists && a->now == a->base && change.slots.empty() && !cleared) continue;
    if (!a->existed && !a->exists) continue;
    std::sort(change.slots.begin(), change.slots.end(), [](const SlotChange& x, const SlotChange& y) { return x.slot < y.slot; });
    change.address = a->address;
    change.existed = a->existed;
    change.before = a->base;
    change.exists = a->exists;
    change.after = a->now;
    change.storage_cleared = cleared;
    if (a->exists && a->now.code_hash != a->base.code_hash && a->now.code_hash != empty_code_hash()) {
      (void)code(*a);
      diff.codes.push_back(a->code);
    }
    diff.accounts.push_back(std::move(change));
  }
  return diff;
}

std::vector<WorkingState::Warm> WorkingState::warm_set() const {
  std::vector<Warm> out;
  for (const Account* a : impl_->all) {
    Warm w{a->address, {}};
    a->slots.each([&](const Slot& s) {
      if (s.warm_tx == tx_) w.slots.push_back(s.key);
    });
    if (a->warm_tx == tx_ || !w.slots.empty()) out.push_back(std::move(w));
  }
  return out;
}

}  // namespace zg
