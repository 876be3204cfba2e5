// Creations: the instructions, and how init code begins (EIP-2, 150, 158, 170, 684, 1014, 2929, 3541, 3860, 7610).
#include "vm/machine.h"

#include "base/rlp.h"

namespace zg {
namespace {

constexpr uint8_t kCreate2 = 0xf5;

Called fail(Frame& f, Status status) noexcept {
  f.status = status;
  return Called::failed;
}

}  // namespace

Address create_address(const Address& sender, uint64_t nonce) noexcept {
  // A list of 20 bytes and a number of at most 8: always the short form.
  uint8_t rlp[32];
  rlp[1] = 0x80 + 20;
  std::memcpy(rlp + 2, sender.b, 20);
  size_t n = 22;
  if (nonce == 0) {
    rlp[n++] = 0x80;
  } else if (nonce < 0x80) {
    rlp[n++] = static_cast<uint8_t>(nonce);
  } else {
    const unsigned bytes = (64 - static_cast<unsigned>(std::countl_zero(nonce)) + 7) / 8;
    rlp[n++] = static_cast<uint8_t>(0x80 + bytes);
    for (unsigned i = bytes; i-- > 0;) rlp[n++] = static_cast<uint8_t>(nonce >> (8 * i));
  }
  rlp[0] = static_cast<uint8_t>(0xc0 + n - 1);
  return Address::from(keccak({rlp, n}).b + 12);
}

Address create2_address(const Address& sender, const Hash& salt, ByteView init_code) noexcept {
  uint8_t text[85];
  text[0] = 0xff;
  std::memcpy(text + 1, sender.b, 20);
  std::memcpy(text + 21, salt.b, 32);
  std::memcpy(text + 53, keccak(init_code).b, 32);
  return Address::from(keccak({text, 85}).b + 12);
}

bool start_create(Machine& m, Account& creator, Message& message, uint64_t creator_nonce, Result& over) {
  message.recipient = message.kind == CallKind::create2 ? create2_address(message.sender, message.salt, message.input)
                                                        : create_address(message.sender, creator_nonce);
  message.code_address = message.recipient;
  Account& account = m.state.account(message.recipient);
  if (m.from(Revision::berlin)) m.state.warm(account);
  if (m.tracer != nullptr) m.tracer->on_enter(message, message.input);
  m.return_data.clear();
  if (m.state.collides(account)) {
    over.status = Status::address_collision;
    over.gas_left = 0;
    if (m.tracer != nullptr) m.tracer->on_exit(message, over, message.gas);
    return false;
  }
  const size_t checkpoint = m.state.checkpoint();
  m.state.create(account);
  if (m.from(Revision::spurious_dragon)) m.state.set_nonce(account, 1);
  if (!message.value.is_zero()) {
    m.state.sub_balance(creator, message.value);
    m.state.add_balance(account, message.value);
  }
  Frame& f = m.arena->push();
  f.held = Code::make({message.input.begin(), message.input.end()}, Hash{});
  f.code = f.held.get();
  f.pc = f.code->padded();
  f.gas = f.gas_given = message.gas;
  f.self = &account;
  f.input = {};
  f.recipient = message.recipient;
  f.sender = message.sender;
  f.code_address = message.code_address;
  f.value = message.value;
  f.checkpoint = checkpoint;
  f.depth = message.depth;
  f.kind = message.kind;
  f.is_static = false;
  return true;
}

Called op_create(Machine& m, Frame& f, uint8_t op) {
  if (--m.polls_left <= 0 && m.stopped()) return fail(f, Status::stopped);
  if (f.is_static) return fail(f, Status::write_protection);
  U256* a = f.sp;
  const U256 value = *--a, at = *--a, size = *--a;
  const U256 salt = op == kCreate2 ? *--a : U256{};
  uint64_t gas = f.gas;
  if (!size.is_zero()) {
    const Done d = expand(m, f, at, size, gas);
    if (d.status != Status::success) return fail(f, d.status);
    gas = d.gas;
  }
  const bool bounded = m.from(Revision::shanghai);
  if (bounded && size.low() > kMaxInitcode) return fail(f, Status::initcode_too_large);
  const uint64_t price =
      gas::kCreate + words(size.low()) * ((bounded ? gas::kInitcodeWord : 0) + (op == kCreate2 ? gas::kKeccakWord : 0));
  if (gas < price) return fail(f, Status::out_of_gas);
  gas -= price;
  if (m.steps) {
    m.tracer->on_step_end(gas, Status::success);
    f.step_open = false;
  }
  const uint64_t given = m.from(Revision::tangerine_whistle) ? gas - gas / 64 : gas;
  f.gas = gas - given;
  f.sp = a;
  f.ret_at = f.ret_size = 0;
  m.return_data.clear();

  Message message;
  message.kind = op == kCreate2 ? CallKind::create2 : CallKind::create;
  message.depth = f.depth + 1;
  message.gas = given;
  message.sender = f.recipient;
  message.value = value;
  message.input = {size.is_zero() ? nullptr : f.mem + at.low(), size.low()};
  message.salt = salt.be();
  Account& self = *f.self;
  const uint64_t nonce = self.nonce();
  Result over;
  over.gas_left = given;
  if (f.depth >= kMaxDepth) over.status = Status::call_depth;
  else if (!self.covers(value)) over.status = Status::insufficient_balance;
  else if (nonce == ~uint64_t{0}) over.status = Status::nonce_overflow;
  if (over.status == Status::success) {
    m.state.set_nonce(self, nonce + 1);
    if (start_create(m, self, message, nonce, over)) return Called::entered;
  } else if (m.tracer != nullptr) {
    m.tracer->on_enter(message, message.input);
    m.tracer->on_exit(message, over, 0);
  }
  f.gas += over.gas_left;
  *f.sp++ = {};
  return Called::went_on;
}

}  // namespace zg
