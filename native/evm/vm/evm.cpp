// Runs a message to its end: a loop over an explicit stack of frames.
#include "vm/evm.h"

#include "vm/machine.h"

namespace zg {

const Schedule& schedule_of(Revision revision) noexcept {
  //                                       exp sload balance extcode hash call selfdestruct
  static constexpr Schedule kFrontier{10, 50, 20, 20, 0, 40, 0};
  static constexpr Schedule kTangerine{10, 200, 400, 700, 0, 700, 5000};
  static constexpr Schedule kSpurious{50, 200, 400, 700, 400, 700, 5000};
  static constexpr Schedule kIstanbul{50, 800, 700, 700, 700, 700, 5000};
  static constexpr Schedule kBerlin{50, 0, 0, 0, 0, 0, 5000};
  if (revision >= Revision::berlin) return kBerlin;
  if (revision >= Revision::istanbul) return kIstanbul;
  if (revision >= Revision::spurious_dragon) return kSpurious;
  return revision >= Revision::tangerine_whistle ? kTangerine : kFrontier;
}

std::string_view message_of(Status s) noexcept {
  switch (s) {
    case Status::success: return "";
    case Status::revert: return "execution reverted";
    case Status::out_of_gas: return "out of gas";
    case Status::invalid_opcode: return "invalid opcode";
    case Status::stack_underflow: return "stack underflow";
    case Status::stack_overflow: return "stack limit reached 1024";
    case Status::invalid_jump: return "invalid jump destination";
    case Status::write_protection: return "write protection";
    case Status::return_data_bounds: return "return data out of bounds";
    case Status::call_depth: return "max call depth exceeded";
    case Status::insufficient_balance: return "insufficient balance for transfer";
    case Status::nonce_overflow: return "nonce uint64 overflow";
    case Status::address_collision: return "contract address collision";
    case Status::code_too_large: return "max code size exceeded";
    case Status::initcode_too_large: return "max initcode size exceeded";
    case Status::invalid_code: return "invalid code: must not begin with 0xef";
    case Status::code_store_out_of_gas: return "contract creation code storage out of gas";
    case Status::precompile_failure: return "precompile failed";
    case Status::stopped: return "execution aborted";
  }
  return "unknown failure";
}

Machine::Machine(Revision r, WorkingState& s, const BlockEnv& b, const TxEnv& t, const Precompiles& p, Tracer* tr, const EvmLimits& l)
    : rev(r),
      schedule(schedule_of(r)),
      state(s),
      block(b),
      tx(t),
      precompiles(p),
      tracer(tr),
      steps(tr != nullptr && tr->wants_steps()),
      limits(l),
      arena(Arena::acquire()) {}

Machine::~Machine() { Arena::release(std::move(arena)); }

struct Evm::Impl : Machine {
  using Machine::Machine;
};

Evm::Evm(Revision revision, WorkingState& state, const BlockEnv& block, const TxEnv& tx, const Precompiles& precompiles, Tracer* tracer,
         const EvmLimits& limits)
    : impl_(std::make_unique<Impl>(revision, state, block, tx, precompiles, tracer, limits)) {}

Evm::~Evm() = default;

Result Evm::run(const Message& given) {
  Machine& m = *impl_;
  Message message = given;
  message.depth = 0;
  Result result;
  Account& sender = m.state.account(message.sender);
  const bool creates = message.kind == CallKind::create || message.kind == CallKind::create2;
  const bool moves_value = creates || message.kind == CallKind::call || message.kind == CallKind::callcode;
  if (moves_value && !sender.covers(message.value)) {
    result.status = Status::insufficient_balance;
    result.gas_left = message.gas;
    return result;
  }
  m.return_data.clear();
  bool entered;
  if (creates) {
    entered = start_create(m, sender, message, sender.nonce() - 1, result);
  } else {
    if (message.kind == CallKind::staticcall) message.is_static = true;
    Account& code = m.state.account(message.code_address);
    Start start{&message, &sender, &m.state.account(message.recipient), &code};
    m.code_to_run(code, start.delegate);
    if (start.delegate != nullptr) m.state.warm(*start.delegate);
    entered = start_call(m, start, result);
    if (!entered) result.output = std::move(m.return_data);
  }
  if (!entered) return result;
  while (Frame* f = m.arena->top()) {
    const bool over = m.steps ? execute<true>(m, *f) : execute<false>(m, *f);
    if (!over) continue;
    const bool stopped = f->status == Status::stopped;
    finish_frame(m, result);
    if (!stopped) continue;
    // The caller gave up: every frame below ends as well.
    while (Frame* below = m.arena->top()) {
      below->status = Status::stopped;
      finish_frame(m, result);
    }
  }
  return result;
}

}  // namespace zg
