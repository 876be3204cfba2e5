// The inside of the EVM, shared by its parts: interpreter (instructions), instructions that need the state, calls and creations.
#pragma once

#include "precompiles/precompiles.h"
#include "vm/arena.h"
#include "vm/code.h"
#include "vm/evm.h"
#include "vm/schedule.h"

namespace zg {

struct Machine {
  Machine(Revision revision, WorkingState& state, const BlockEnv& block, const TxEnv& tx, const Precompiles& precompiles, Tracer* tracer,
          const EvmLimits& limits);
  ~Machine();

  const Revision rev;
  const Schedule& schedule;
  WorkingState& state;
  const BlockEnv& block;
  const TxEnv& tx;
  const Precompiles& precompiles;
  Tracer* const tracer;
  const bool steps;
  const EvmLimits limits;
  std::unique_ptr<Arena> arena;
  // What the last call of the running frame gave back. One is enough: a frame's own is dead as soon as it calls again.
  Bytes return_data;
  int polls_left = kPollEvery;
  static constexpr int kPollEvery = 4096;

  [[nodiscard]] bool from(Revision r) const noexcept { return rev >= r; }
  // Whether the caller gave up.
  [[nodiscard]] bool stopped() noexcept {
    polls_left = kPollEvery;
    return limits.stop != nullptr && limits.stop->load(std::memory_order_relaxed);
  }
  // The code that runs at an account, through a delegation (EIP-7702); `target` is then the account that has it.
  const Code& code_to_run(Account& account, Account*& target);
};

// What an instruction that lives outside of the interpreter's function gives back: the gas that is left, or the fault. Out of gas, the price that could not be
// paid is taken off all the same, modulo 2^64: tracers tell it.
struct Done {
  uint64_t gas;
  Status status;
};

// ---- memory (memory.cpp)
// Grows the memory of the top frame to hold [at, at + size), size above 0, and takes the price off `gas`.
Done expand(Machine& m, Frame& f, const U256& at, const U256& size, uint64_t gas);
inline uint64_t words(uint64_t bytes) noexcept { return (bytes + 31) / 32; }

// ---- instructions on state (state_ops.cpp). `sp` is one above the top; results are written to where they belong, the caller moves sp.
Done op_balance(Machine& m, U256* sp, uint64_t gas);
Done op_extcodesize(Machine& m, U256* sp, uint64_t gas);
Done op_extcodehash(Machine& m, U256* sp, uint64_t gas);
Done op_extcodecopy(Machine& m, Frame& f, U256* sp, uint64_t gas);
Done op_sload(Machine& m, Frame& f, U256* sp, uint64_t gas);
Done op_sstore(Machine& m, Frame& f, U256* sp, uint64_t gas);
Done op_log(Machine& m, Frame& f, U256* sp, unsigned topics, uint64_t gas);
Done op_selfdestruct(Machine& m, Frame& f, U256* sp, uint64_t gas);
void op_blockhash(Machine& m, U256* sp);

// ---- instructions on memory (memory.cpp)
Done op_keccak(Machine& m, Frame& f, U256* sp, uint64_t gas);
// Copies from `source` (zeros behind its end) to memory: to, from, size on the stack from the top.
Done op_copy(Machine& m, Frame& f, U256* sp, ByteView source, uint64_t gas);
Done op_returndatacopy(Machine& m, Frame& f, U256* sp, uint64_t gas);
Done op_mcopy(Machine& m, Frame& f, U256* sp, uint64_t gas);

// ---- calls (calls.cpp). The frame's registers are in the frame; afterwards they are up to date there.
enum class Called : uint8_t { went_on, entered, failed };  // failed: the status is in the frame
Called op_call(Machine& m, Frame& f, uint8_t op);
Called op_create(Machine& m, Frame& f, uint8_t op);

// Starts a message. True: a frame was pushed. False: it is over, with `over` and return_data.
struct Start {
  const Message* message;
  Account* sender;     // of value
  Account* recipient;  // whose storage
  Account* code;       // whose code
  Account* delegate = nullptr;  // where that code was found, when not there
};
bool start_call(Machine& m, const Start& start, Result& over);
bool start_create(Machine& m, Account& creator, Message& message, uint64_t creator_nonce, Result& over);
// Ends the top frame and hands its outcome to the one below; to `last` when there is none.
void finish_frame(Machine& m, Result& last);

// ---- the interpreter. Runs the top frame until it ends (true; status, gas and output are in the frame) or a child was pushed (false).
template <bool kTrace>
bool execute(Machine& m, Frame& f);

}  // namespace zg
