// The call instructions, and how a message begins.
#include <algorithm>

#include "vm/machine.h"

namespace zg {
namespace {

constexpr uint8_t kCall = 0xf1, kCallcode = 0xf2, kDelegatecall = 0xf4;

Called fail(Frame& f, Status status) noexcept {
  f.status = status;
  return Called::failed;
}

// A call that is over: its success on the stack, its output in memory, its gas back.
void resume(Machine& m, Frame& f, const Result& over, const U256& word) {
  f.gas += over.gas_left;
  *f.sp++ = word;
  const uint64_t n = std::min<uint64_t>(f.ret_size, m.return_data.size());
  if (n > 0) std::memcpy(f.mem + f.ret_at, m.return_data.data(), n);
}

void end_step(Machine& m, Frame& f, uint64_t gas_left) {
  if (!m.steps) return;
  m.tracer->on_step_end(gas_left, Status::success);
  f.step_open = false;
}

// Only these can be precompiles of Ethereum: 18 zeros and a small number.
bool may_be_precompile(const Address& a) noexcept {
  uint16_t rest;
  std::memcpy(&rest, a.b + 16, 2);
  return (load64(a.b) | load64(a.b + 8) | rest) == 0;
}

// Runs the precompile at the message's code address if there is one.
bool run_precompile(Machine& m, const Message& message, PrecompileResult& out) {
  Address at = message.code_address;
  if (m.precompiles.any_moved() && !m.precompiles.resolve(at)) return false;
  if (may_be_precompile(at)) {
    if (const PrecompileFn run = find_precompile(m.rev, at); run != nullptr) {
      out = run(message.input, message.gas);
      return true;
    }
  }
  if (!m.precompiles.any_stateful()) return false;
  const StatefulPrecompile* plugin = m.precompiles.stateful(at);
  if (plugin == nullptr) return false;
  const bool other = message.kind == CallKind::delegatecall || message.kind == CallKind::callcode;
  out = plugin->run({m.rev, m.state, m.block, m.tx, message.code_address, message.sender, message.value, message.input, message.gas,
                     message.is_static, other});
  return true;
}

}  // namespace

const Code& Machine::code_to_run(Account& account, Account*& target) {
  const Code& code = state.code(account);
  Address at;
  if (!from(Revision::prague) || !code.delegation(at)) return code;
  target = &state.account(at);
  return state.code(*target);
}

bool start_call(Machine& m, const Start& start, Result& over) {
  const Message& message = *start.message;
  Account& recipient = *start.recipient;
  const Code& code = m.state.code(start.delegate != nullptr ? *start.delegate : *start.code);
  if (m.tracer != nullptr) m.tracer->on_enter(message, code.bytes());
  const size_t checkpoint = m.state.checkpoint();
  if (message.kind == CallKind::call || message.kind == CallKind::staticcall) {
    if (!message.value.is_zero()) {
      m.state.sub_balance(*start.sender, message.value);
      m.state.add_balance(recipient, message.value);
    } else if (m.from(Revision::spurious_dragon)) {
      if (recipient.exists && recipient.empty()) m.state.touch(recipient);
    } else if (!recipient.exists) {
      m.state.set_balance(recipient, {});
    }
  }
  PrecompileResult done;
  if (start.delegate == nullptr && run_precompile(m, message, done)) {
    const bool ok = done.ok && done.gas_used <= message.gas;
    over.gas_left = ok ? message.gas - done.gas_used : 0;
    over.status = ok ? Status::success : done.ok ? Status::out_of_gas : done.reverts ? Status::revert : Status::precompile_failure;
    m.return_data = std::move(done.output);
    if (!ok) {
      if (done.ok) m.return_data.clear();
      m.state.revert_to(checkpoint);
    }
  } else if (code.size() == 0) {
    over.gas_left = message.gas;
    over.status = Status::success;
    m.return_data.clear();
  } else {
    Frame& f = m.arena->push();
    f.code = &code;
    f.pc = code.padded();
    f.gas = f.gas_given = message.gas;
    f.self = &recipient;
    f.input = message.input;
    f.recipient = message.recipient;
    f.sender = message.sender;
    f.code_address = message.code_address;
    f.value = message.value;
    f.checkpoint = checkpoint;
    f.depth = message.depth;
    f.kind = message.kind;
    f.is_static = message.is_static;
    m.return_data.clear();
    return true;
  }
  if (m.tracer != nullptr) {
    over.output = m.return_data;
    m.tracer->on_exit(message, over, message.gas - over.gas_left);
  }
  return false;
}

Called op_call(Machine& m, Frame& f, uint8_t op) {
  if (--m.polls_left <= 0 && m.stopped()) return fail(f, Status::stopped);
  const bool has_value = op == kCall || op == kCallcode;
  U256* a = f.sp;
  const U256 requested = *--a;
  const Address address = (--a)->address();
  const U256 value = has_value ? *--a : U256{};
  const U256 in_at = *--a, in_size = *--a, out_at = *--a, out_size = *--a;
  if (op == kCall && f.is_static && !value.is_zero()) return fail(f, Status::write_protection);

  uint64_t gas = f.gas;
  const auto pay = [&gas](uint64_t price) {
    if (gas < price) return false;
    gas -= price;
    return true;
  };
  if (!in_size.is_zero()) {
    const Done d = expand(m, f, in_at, in_size, gas);
    if (d.status != Status::success) return fail(f, d.status);
    gas = d.gas;
  }
  if (!out_size.is_zero()) {
    const Done d = expand(m, f, out_at, out_size, gas);
    if (d.status != Status::success) return fail(f, d.status);
    gas = d.gas;
  }
  Account& account = m.state.account(address);
  uint64_t price = m.schedule.call;
  if (m.from(Revision::berlin)) price = m.state.warm(account) ? gas::kColdAccount : gas::kWarm;
  if (!value.is_zero()) price += gas::kCallValue;
  if (op == kCall) {
    const bool is_new = m.from(Revision::spurious_dragon) ? !value.is_zero() && m.state.dead(account) : !account.exists;
    if (is_new) price += gas::kNewAccount;
  }
  if (!pay(price)) return fail(f, Status::out_of_gas);
  Account* delegate = nullptr;
  m.code_to_run(account, delegate);
  if (delegate != nullptr && !pay(m.state.warm(*delegate) ? gas::kColdAccount : gas::kWarm)) return fail(f, Status::out_of_gas);

  uint64_t given = requested.saturated();
  if (m.from(Revision::tangerine_whistle)) {
    given = std::min(given, gas - gas / 64);
  } else if (given > gas) {
    return fail(f, Status::out_of_gas);
  }
  gas -= given;
  end_step(m, f, gas);
  if (!value.is_zero()) given += gas::kCallStipend;

  f.gas = gas;
  f.sp = a;
  f.ret_at = out_at.low();
  f.ret_size = out_size.low();
  Message message;
  message.depth = f.depth + 1;
  message.gas = given;
  message.is_static = f.is_static;
  message.code_address = address;
  message.input = {in_size.is_zero() ? nullptr : f.mem + in_at.low(), in_size.low()};
  Start start{&message, f.self, f.self, &account, delegate};
  if (op == kDelegatecall) {
    message.kind = CallKind::delegatecall;
    message.sender = f.sender;
    message.recipient = f.recipient;
    message.value = f.value;
  } else {
    message.sender = f.recipient;
    message.value = value;
    if (op == kCallcode) {
      message.kind = CallKind::callcode;
      message.recipient = f.recipient;
    } else {
      message.kind = op == kCall ? CallKind::call : CallKind::staticcall;
      if (op != kCall) message.is_static = true;
      message.recipient = address;
      start.recipient = &account;
    }
  }
  Result over;
  const bool too_deep = f.depth >= kMaxDepth;
  if (too_deep || (has_value && !f.self->covers(value))) {
    over.status = too_deep ? Status::call_depth : Status::insufficient_balance;
    over.gas_left = given;
    m.return_data.clear();
    if (m.tracer != nullptr) {
      m.tracer->on_enter(message, {});
      m.tracer->on_exit(message, over, 0);
    }
  } else if (start_call(m, start, over)) {
    return Called::entered;
  }
  resume(m, f, over, over.status == Status::success ? 1 : 0);
  return Called::went_on;
}

void finish_frame(Machine& m, Result& last) {
  Frame& f = *m.arena->top();
  const bool creates = f.kind == CallKind::create || f.kind == CallKind::create2;
  ByteView output{f.mem + f.out_at, f.out_size};
  Result over;
  over.status = f.status;
  over.gas_left = f.gas;
  if (creates && over.status == Status::success) {
    if (m.from(Revision::spurious_dragon) && output.size() > kMaxCode) {
      over.status = Status::code_too_large;
    } else if (m.from(Revision::london) && !output.empty() && output[0] == 0xef) {
      over.status = Status::invalid_code;
    } else if (const uint64_t price = gas::kCodeByte * output.size(); over.gas_left >= price) {
      over.gas_left -= price;
      if (!output.empty()) m.state.set_code(*f.self, Code::make({output.begin(), output.end()}));
    } else if (m.from(Revision::homestead)) {
      over.status = Status::code_store_out_of_gas;
    } else {
      output = {};  // Frontier: an account without code, and the gas stays
    }
  }
  if (over.status != Status::success) {
    m.state.revert_to(f.checkpoint);
    if (over.status != Status::revert) {
      over.gas_left = 0;
      output = {};
    }
  }
  const bool good = over.status == Status::success;
  if (good && creates) over.created = f.recipient;
  const bool outermost = f.depth == 0;
  if (m.tracer != nullptr || outermost) over.output.assign(output.begin(), output.end());
  if (m.tracer != nullptr) {
    Message message;
    message.kind = f.kind;
    message.is_static = f.is_static;
    message.depth = f.depth;
    message.gas = f.gas_given;
    message.sender = f.sender;
    message.recipient = f.recipient;
    message.code_address = f.code_address;
    message.value = f.value;
    message.input = creates ? f.code->bytes() : f.input;
    m.tracer->on_exit(message, over, f.gas_given - over.gas_left);
  }
  if (outermost) {
    m.arena->pop();
    last = std::move(over);
    return;
  }
  if (creates && good) m.return_data.clear();
  else m.return_data.assign(output.begin(), output.end());
  const U256 word = !good ? U256{} : creates ? U256::from(f.recipient) : U256{1};
  m.arena->pop();
  resume(m, *m.arena->top(), over, word);
}

}  // namespace zg
