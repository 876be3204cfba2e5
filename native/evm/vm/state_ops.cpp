// Instructions that read or write accounts, slots and logs, with their prices in every revision.
#include "vm/machine.h"

namespace zg {
namespace {

// The fixed price before Berlin, warm or cold from then on (EIP-2929).
inline bool pay_account(Machine& m, Account& account, uint64_t before_berlin, uint64_t& gas) {
  uint64_t price = before_berlin;
  if (m.from(Revision::berlin)) price = m.state.warm(account) ? gas::kColdAccount : gas::kWarm;
  return !__builtin_sub_overflow(gas, price, &gas);
}

}  // namespace

Done op_balance(Machine& m, U256* sp, uint64_t gas) {
  Account& account = m.state.account(sp[-1].address());
  if (!pay_account(m, account, m.schedule.balance, gas)) return {gas, Status::out_of_gas};
  sp[-1] = account.balance();
  return {gas, Status::success};
}

Done op_extcodesize(Machine& m, U256* sp, uint64_t gas) {
  Account& account = m.state.account(sp[-1].address());
  if (!pay_account(m, account, m.schedule.extcode, gas)) return {gas, Status::out_of_gas};
  sp[-1] = m.state.code(account).size();
  return {gas, Status::success};
}

Done op_extcodehash(Machine& m, U256* sp, uint64_t gas) {
  Account& account = m.state.account(sp[-1].address());
  if (!pay_account(m, account, m.schedule.extcode_hash, gas)) return {gas, Status::out_of_gas};
  sp[-1] = m.state.dead(account) ? U256{} : U256::from(account.code_hash());
  return {gas, Status::success};
}

Done op_extcodecopy(Machine& m, Frame& f, U256* sp, uint64_t gas) {
  Account& account = m.state.account(sp[-1].address());
  if (!pay_account(m, account, m.schedule.extcode, gas)) return {gas, Status::out_of_gas};
  // op_copy has the base price of the other copies in it.
  return op_copy(m, f, sp - 1, m.state.code(account).bytes(), gas + 3);
}

Done op_sload(Machine& m, Frame& f, U256* sp, uint64_t gas) {
  Slot& slot = m.state.slot(*f.self, sp[-1]);
  uint64_t price = m.schedule.sload;
  if (m.from(Revision::berlin)) price = m.state.warm(*f.self, slot) ? gas::kColdSlot : gas::kWarm;
  if (gas < price) return {gas - price, Status::out_of_gas};
  sp[-1] = slot.current;
  return {gas - price, Status::success};
}

Done op_sstore(Machine& m, Frame& f, U256* sp, uint64_t gas) {
  if (f.is_static) return {gas, Status::write_protection};
  // EIP-2200: the stipend of a call must not be enough.
  if (m.from(Revision::istanbul) && gas <= gas::kCallStipend) return {gas, Status::out_of_gas};
  Slot& slot = m.state.slot(*f.self, sp[-1]);
  const U256 value = sp[-2];
  const U256& current = slot.current;
  uint64_t price = 0;
  int64_t refund = 0;
  if (m.rev < Revision::constantinople || m.rev == Revision::petersburg) {
    price = current.is_zero() && !value.is_zero() ? 20000 : 5000;
    if (!current.is_zero() && value.is_zero()) refund = 15000;
  } else {
    // Net metering: EIP-1283, 2200, 2929, 3529 differ in these numbers only.
    const bool berlin = m.from(Revision::berlin);
    const int64_t load = berlin ? 100 : m.from(Revision::istanbul) ? 800 : 200;
    const int64_t set = 20000, reset = berlin ? 2900 : 5000;
    const int64_t clear = m.from(Revision::london) ? 4800 : 15000;
    const U256& original = slot.original;
    if (berlin && m.state.warm(*f.self, slot)) price = gas::kColdSlot;
    if (current == value) {
      price += static_cast<uint64_t>(load);
    } else if (current == original) {
      price += static_cast<uint64_t>(original.is_zero() ? set : reset);
      if (!original.is_zero() && value.is_zero()) refund = clear;
    } else {
      price += static_cast<uint64_t>(load);
      if (!original.is_zero()) {
        if (current.is_zero()) refund -= clear;
        else if (value.is_zero()) refund += clear;
      }
      if (original == value) refund += (original.is_zero() ? set : reset) - load;
    }
  }
  if (gas < price) return {gas - price, Status::out_of_gas};
  if (refund != 0) m.state.add_refund(refund);
  if (!(current == value)) m.state.set_slot(*f.self, slot, value);
  return {gas - price, Status::success};
}

Done op_log(Machine& m, Frame& f, U256* sp, unsigned topics, uint64_t gas) {
  if (f.is_static) return {gas, Status::write_protection};
  const U256 &at = sp[-1], &size = sp[-2];
  const uint64_t fixed = gas::kLog + gas::kLogTopic * topics;
  if (gas < fixed) return {gas - fixed, Status::out_of_gas};
  gas -= fixed;
  Log log;
  if (!size.is_zero()) {
    const Done d = expand(m, f, at, size, gas);
    if (d.status != Status::success) return d;
    const uint64_t price = gas::kLogByte * size.w[0];
    if (d.gas < price) return {d.gas - price, Status::out_of_gas};
    gas = d.gas - price;
    log.data.assign(f.mem + at.w[0], f.mem + at.w[0] + size.w[0]);
  }
  log.address = f.recipient;
  log.topics.reserve(topics);
  for (unsigned i = 0; i < topics; ++i) log.topics.push_back(sp[-3 - static_cast<int>(i)].be());
  if (m.tracer != nullptr) m.tracer->on_log(log);
  m.state.add_log(std::move(log));
  return {gas, Status::success};
}

Done op_selfdestruct(Machine& m, Frame& f, U256* sp, uint64_t gas) {
  if (f.is_static) return {gas, Status::write_protection};
  Account& self = *f.self;
  Account& heir = m.state.account(sp[-1].address());
  const U256 balance = self.balance();
  uint64_t price = m.schedule.selfdestruct;
  if (m.from(Revision::berlin) && m.state.warm(heir)) price += gas::kColdAccount;
  if (m.from(Revision::spurious_dragon)) {
    if (!balance.is_zero() && m.state.dead(heir)) price += gas::kNewAccount;
  } else if (m.from(Revision::tangerine_whistle) && !heir.exists) {
    price += gas::kNewAccount;
  }
  if (gas < price) return {gas - price, Status::out_of_gas};
  gas -= price;
  // EIP-6780: from Cancun on only a contract of this transaction goes; another one just gives its balance away.
  const bool goes = !m.from(Revision::cancun) || m.state.created_here(self);
  if (!m.from(Revision::london) && !m.state.destroyed_here(self)) m.state.add_refund(24000);
  if (&heir != &self) {
    m.state.set_balance(self, {});
    m.state.add_balance(heir, balance);
  } else if (goes) {
    m.state.set_balance(self, {});
  }
  if (goes) m.state.destroy(self);
  if (m.tracer != nullptr) {
    Message message;
    message.kind = CallKind::selfdestruct;
    message.depth = f.depth + 1;
    message.sender = f.recipient;
    message.recipient = heir.address;
    message.code_address = heir.address;
    message.value = balance;
    m.tracer->on_enter(message, {});
    m.tracer->on_exit(message, Result{}, 0);
  }
  return {gas, Status::success};
}

void op_blockhash(Machine& m, U256* sp) {
  const U256 n = sp[-1];
  const uint64_t head = m.block.number;
  const bool in_window = n.is_u64() && n.w[0] < head && head - n.w[0] <= 256;
  sp[-1] = in_window && m.block.hashes != nullptr ? U256::from(m.block.hashes->block_hash(n.w[0])) : U256{};
}

}  // namespace zg
