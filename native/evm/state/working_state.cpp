#include "state/working_state_impl.h"

namespace zg {

using namespace detail;

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
      if (a->touched_tx == tx_ && a->exists && a->empty()) Impl::remove(*a);
  if (lists_) gather_changes();
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
        e.account->now_.balance = e.value;
        e.account->exists = e.existed;
        break;
      case Undo::nonce:
        e.account->now_.nonce = e.value.low();
        e.account->exists = e.existed;
        break;
      case Undo::code:
      case Undo::create: {
        Saved& s = m.saved.back();
        e.account->now_ = s.now;
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
  a.tracked = tracks_;
  a.existed = a.exists = base_.account(address, a.base);
  if (!a.existed) a.base = {};
  a.now_ = a.base;
  return a;
}

bool WorkingState::warm(Account& account) {
  if (account.warm_tx == tx_ || account.always_warm) return false;
  impl_->log(Undo::warm_account, &account).number = account.warm_tx;
  account.warm_tx = tx_;
  return true;
}

// They are not loaded: few are ever called.
void WorkingState::always_warm(std::vector<Address> addresses) {
  has_always_warm_ = true;
  impl_->warm_list = std::move(addresses);
  for (const Address& a : impl_->warm_list) {
    impl_->warm_list_low = impl_->warm_list_low && load64(a.b) == 0;
    if (Account* known = *impl_->place(a)) known->always_warm = true;
  }
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
    account.code = account.now_.code_hash == empty_code_hash() ? Code::empty() : base_.code(account.now_.code_hash);
  return *account.code;
}

void WorkingState::put_balance(Account& account, const U256& balance) {
  touch(account);
  Entry& e = impl_->log(Undo::balance, &account);
  e.existed = account.exists;
  e.value = account.now_.balance;
  account.now_.balance = balance;
  account.exists = true;
}

void WorkingState::set_balance(Account& account, const U256& balance) {
  account.seen_ |= Account::kBalance;
  put_balance(account, balance);
}

void WorkingState::add_balance(Account& account, const U256& amount) {
  U256 sum;
  // Beyond 2^256 (states of tests) it matters what it was.
  if (!add_checked(account.now_.balance, amount, sum)) account.seen_ |= Account::kBalance;
  put_balance(account, sum);
  if (account.tracked && account.base.balance < sum && account.peak_ < sum - account.base.balance) account.peak_ = sum - account.base.balance;
}

bool WorkingState::sub_balance(Account& account, const U256& amount) {
  if (!account.covers(amount)) return false;
  if (amount.is_zero()) return true;
  account.spent_ = true;
  put_balance(account, account.now_.balance - amount);
  return true;
}

void WorkingState::set_nonce(Account& account, uint64_t nonce) {
  touch(account);
  Entry& e = impl_->log(Undo::nonce, &account);
  e.existed = account.exists;
  e.value = account.nonce();
  account.now_.nonce = nonce;
  account.exists = true;
}

void WorkingState::set_code(Account& account, std::shared_ptr<const Code> code) {
  touch(account);
  impl_->save(Undo::code, account);
  account.now_.code_hash = code->hash();
  account.code = std::move(code);
  account.exists = true;
}

void WorkingState::create(Account& account) {
  touch(account);
  impl_->save(Undo::create, account);
  account.now_.nonce = 0;
  account.now_.code_hash = empty_code_hash();
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
  if (account.nonce() != 0 || account.now_.code_hash != empty_code_hash()) return true;
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
    if (a->existed == a->exists && a->now_ == a->base && change.slots.empty() && !cleared) continue;
    if (!a->existed && !a->exists) continue;
    std::sort(change.slots.begin(), change.slots.end(), [](const SlotChange& x, const SlotChange& y) { return x.slot < y.slot; });
    change.address = a->address;
    change.existed = a->existed;
    change.before = a->base;
    change.exists = a->exists;
    change.after = a->now_;
    change.storage_cleared = cleared;
    if (a->exists && a->now_.code_hash != a->base.code_hash && a->now_.code_hash != empty_code_hash()) {
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
