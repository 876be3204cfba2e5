// One state stands in for another: whether a transaction that ran on a state of its own would have done the same here, and its changes taken over.
#include "state/working_state_impl.h"

namespace zg {

using namespace detail;

void WorkingState::restart() {
  Impl& m = *impl_;
  tx_ = 0;
  mark_ = 0;
  refund_ = 0;
  logs_.clear();
  m.forget_journal();
  m.transient.clear();
  if (m.blocks.size() > 1) {
    // One heavy transaction must not make all later ones pay.
    m.blocks.resize(1);
    m.table = std::vector<Account*>(32, nullptr);
  } else {
    std::fill(m.table.begin(), m.table.end(), nullptr);
  }
  if (!m.blocks.empty())
    for (size_t i = 0; i < std::min(m.all.size(), m.blocks[0].capacity); ++i) m.blocks[0].accounts[i] = Account{};
  m.all.clear();
  m.used = 0;
}

bool WorkingState::agrees(const WorkingState& other) const {
  for (const Account* theirs : other.impl_->all) {
    const Account* ours = *impl_->place(theirs->address);
    if (ours == nullptr) continue;
    const Account& f = *theirs;
    if (ours->exists != f.existed || ours->now_.code_hash != f.base.code_hash) return false;
    if ((f.seen_ & Account::kNonce) != 0 && ours->now_.nonce != f.base.nonce) return false;
    const U256& balance = ours->now_.balance;
    U256 most;
    if ((f.seen_ & Account::kBalance) != 0) {
      if (balance != f.base.balance) return false;
    } else if (balance < f.need_ || !add_checked(balance, f.peak_, most) ||
               ((f.seen_ & Account::kZero) != 0 && balance.is_zero() != f.base.balance.is_zero())) {
      return false;
    }
    bool same = true;
    f.slots.each([&](const Slot& read) {
      if (!same) return;
      if (const Slot* known = ours->slots.find(read.key)) same = known->current == read.base;
      // Else nobody wrote it in this block, unless all slots went.
      else if (ours->cleared || !ours->existed) same = read.base.is_zero();
    });
    if (!same) return false;
  }
  return true;
}

void WorkingState::absorb(WorkingState& other) {
  begin_transaction();
  changes_.accounts.clear();
  changes_.slots.clear();
  for (Account* theirs : other.impl_->all) {
    const Account& f = *theirs;
    bool writes = f.exists != f.existed || f.cleared || f.now_ != f.base;
    if (!writes)
      f.slots.each([&](const Slot& s) { writes = writes || s.current != s.base; });
    if (!writes) continue;
    Account* ours = *impl_->place(f.address);
    if (ours == nullptr) {
      ours = &impl_->add(f.address);
      ours->existed = ours->exists = f.existed;
      ours->base = ours->now_ = f.base;
      if (f.now_.code_hash == f.base.code_hash) ours->code = f.code;
    }
    if (lists_) changes_.accounts.push_back(ours);
    if (f.cleared) {
      Impl::remove(*ours);
      continue;
    }
    ours->exists = f.exists;
    if (f.now_.nonce != f.base.nonce) ours->now_.nonce = f.now_.nonce;
    if ((f.seen_ & Account::kBalance) != 0) ours->now_.balance = f.now_.balance;
    else ours->now_.balance = ours->now_.balance + (f.now_.balance - f.base.balance);
    if (f.now_.code_hash != f.base.code_hash) {
      ours->now_.code_hash = f.now_.code_hash;
      ours->code = f.code;
    }
    f.slots.each([&](const Slot& s) {
      if (s.current == s.base) return;
      Slot* mine = ours->slots.find(s.key);
      if (mine == nullptr && !ours->cleared) {
        mine = &ours->slots.add(s.key);
        mine->base = s.base;
      } else if (mine == nullptr) {
        mine = &slot(*ours, s.key);
      }
      mine->current = s.current;
      if (lists_) changes_.slots.emplace_back(ours, mine);
    });
  }
}

void WorkingState::gather_changes() {
  changes_.accounts.clear();
  changes_.slots.clear();
  for (const Entry& e : impl_->journal) {
    if (e.kind == Undo::slot) changes_.slots.emplace_back(e.account, e.slot);
    else if (e.kind == Undo::balance || e.kind == Undo::nonce || e.kind == Undo::code || e.kind == Undo::create)
      if (changes_.accounts.empty() || changes_.accounts.back() != e.account) changes_.accounts.push_back(e.account);
  }
  for (Account* a : impl_->destroyed) changes_.accounts.push_back(a);
  // A touch of one that was empty already: its removal is a change without an entry.
  for (Account* a : impl_->touched)
    if (!a->exists) changes_.accounts.push_back(a);
}

void WorkingState::list_all(Changes& out) const {
  for (Account* a : impl_->all) {
    if (a->exists != a->existed || a->cleared || a->now_ != a->base) out.accounts.push_back(a);
    a->slots.each([&](Slot& s) {
      if (s.current != s.base) out.slots.emplace_back(a, &s);
    });
  }
}

}  // namespace zg
