#include "exec/overlay.h"

namespace zg {

void Overlay::put(const WorkingState::Changes& changes) {
  for (const Account* a : changes.accounts) {
    const AccountData& data = WorkingState::data(*a);
    // Before anybody can see its hash.
    if (a->exists && a->code != nullptr && data.code_hash != a->base.code_hash && data.code_hash != empty_code_hash()) {
      const std::lock_guard lock(codes_mutex_);
      codes_[data.code_hash] = a->code;
      has_codes_.store(true, std::memory_order_release);
    }
    Shard& s = shard(a->address);
    const std::lock_guard lock(s.mutex);
    Entry& e = s.entries[a->address];
    e.is_set = true;
    e.exists = a->exists;
    e.data = data;
    if (!a->exists) e.slots.clear();
    e.cleared = a->cleared;
  }
  for (const auto& [account, slot] : changes.slots) {
    Shard& s = shard(account->address);
    const std::lock_guard lock(s.mutex);
    if (account->exists) s.entries[account->address].slots[slot->key] = slot->current;
  }
}

bool Overlay::account(const Address& address, bool& exists, AccountData& out) const {
  const Shard& s = shard(address);
  const std::lock_guard lock(s.mutex);
  const auto it = s.entries.find(address);
  if (it == s.entries.end() || !it->second.is_set) return false;
  exists = it->second.exists;
  out = it->second.data;
  return true;
}

bool Overlay::slot(const Address& address, const U256& key, U256& out) const {
  const Shard& s = shard(address);
  const std::lock_guard lock(s.mutex);
  const auto it = s.entries.find(address);
  if (it == s.entries.end()) return false;
  const auto found = it->second.slots.find(key);
  if (found != it->second.slots.end()) out = found->second;
  else if (it->second.cleared) out = {};
  else return false;
  return true;
}

std::shared_ptr<const Code> Overlay::code(const Hash& hash) const {
  if (!has_codes_.load(std::memory_order_acquire)) return nullptr;
  const std::lock_guard lock(codes_mutex_);
  const auto it = codes_.find(hash);
  return it == codes_.end() ? nullptr : it->second;
}

bool SpeculativeView::account(const Address& address, AccountData& out) const {
  bool exists = false;
  if (!overlay_.account(address, exists, out)) exists = base_.account(address, out);
  if (exists && address == sender_ && out.nonce != nonce_) {
    guessed_ = true;
    out.nonce = nonce_;
  }
  return exists;
}

U256 SpeculativeView::storage(const Address& address, const U256& slot) const {
  U256 out;
  return overlay_.slot(address, slot, out) ? out : base_.storage(address, slot);
}

std::shared_ptr<const Code> SpeculativeView::code(const Hash& code_hash) const {
  if (auto found = overlay_.code(code_hash)) return found;
  return base_.code(code_hash);
}

// Of an account that was there before and holds neither code nor nonce (EIP-7610): the next to never.
bool SpeculativeView::has_storage(const Address& address) const {
  unsure_ = true;
  return base_.has_storage(address);
}

}  // namespace zg
