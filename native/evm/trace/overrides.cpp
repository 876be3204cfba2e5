#include "trace/overrides.h"

#include <algorithm>

namespace zg {

bool read_overrides(rlp::Reader list, std::vector<AccountOverride>& out) {
  constexpr size_t kMost = 10'000;
  while (list.ok() && !list.empty()) {
    if (out.size() == kMost) return false;
    rlp::Reader r = list.list();
    AccountOverride& o = out.emplace_back();
    o.address = r.address();
    if (rlp::Reader x = r.list(); !x.empty()) {
      o.balance = x.u256();
      if (!x.done()) return false;
    }
    if (rlp::Reader x = r.list(); !x.empty()) {
      o.nonce = x.u64();
      if (!x.done()) return false;
    }
    if (rlp::Reader x = r.list(); !x.empty()) {
      const ByteView code = x.bytes();
      o.code.emplace(code.begin(), code.end());
      if (!x.done()) return false;
    }
    const uint64_t mode = r.u64();
    if (mode > 2) return false;
    o.storage = static_cast<AccountOverride::Storage>(mode);
    rlp::Reader slots = r.list();
    while (slots.ok() && !slots.empty()) {
      rlp::Reader pair = slots.list();
      const Hash slot = pair.hash();
      const Hash value = pair.hash();
      if (!pair.done()) return false;
      o.slots.emplace_back(U256::from(slot), U256::from(value));
    }
    o.move_precompile_to = r.maybe_address();
    if (!slots.done() || !r.done()) return false;
  }
  return list.done();
}

std::string apply_overrides(WorkingState& state, std::span<const AccountOverride> overrides, Revision rev, Precompiles& precompiles) {
  const Precompiles before = precompiles;
  for (const AccountOverride& o : overrides) {
    const bool is_precompile = before.acts_at(rev, o.address);
    if (is_precompile) precompiles.put(o.address, std::nullopt);
    if (!o.move_precompile_to) continue;
    const Address& to = *o.move_precompile_to;
    if (!is_precompile) return "account " + to_hex(o.address) + " is not a precompile";
    if (to == o.address) return "MovePrecompileToAddress referenced itself in replacement: account " + to_hex(to);
    const auto same = [&](const AccountOverride& x) { return x.address == to || (&x != &o && x.move_precompile_to == o.move_precompile_to); };
    if (std::any_of(overrides.begin(), overrides.end(), same)) return "account " + to_hex(to) + " is already overridden";
    Address from = o.address;
    (void)before.resolve(from);
    precompiles.put(to, from);
  }
  state.begin_transaction();
  for (const AccountOverride& o : overrides) {
    Account& account = state.account(o.address);
    if (o.nonce) state.set_nonce(account, *o.nonce);
    if (o.code) state.set_code(account, o.code->empty() ? Code::empty() : Code::make(*o.code));
    if (o.balance) state.set_balance(account, *o.balance);
    if (o.storage == AccountOverride::Storage::replace) {
      account.cleared = true;
      account.slots.each([](Slot& s) { s.original = s.current = U256{}; });
    }
    for (const auto& [key, value] : o.slots) state.set_slot(account, state.slot(account, key), value);
    if (!o.slots.empty() && !account.exists) state.set_nonce(account, account.now.nonce);
  }
  // Under rules that leave empty accounts alone: what was asked for stays.
  state.finish_transaction(Revision::homestead);
  return {};
}

}  // namespace zg
