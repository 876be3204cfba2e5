// Messages and their execution: the EVM proper (Yellow Paper 8 and 9). Frames live on the heap, not on the machine's stack.
#pragma once

#include <atomic>
#include <optional>
#include <span>

#include "base/types.h"
#include "base/u256.h"
#include "state/working_state.h"
#include "vm/revision.h"

namespace zg {

class BlockHashes {
 public:
  virtual ~BlockHashes() = default;
  // Of a block below the current one and at most 256 back; the interpreter has checked that.
  virtual Hash block_hash(uint64_t number) const = 0;
};

struct BlockEnv {
  uint64_t number = 0;
  uint64_t timestamp = 0;
  uint64_t gas_limit = 0;
  Address coinbase{};
  U256 prev_randao;  // or the difficulty before Paris
  U256 base_fee;
  U256 blob_base_fee;
  U256 chain_id;
  const BlockHashes* hashes = nullptr;
};

struct TxEnv {
  Address origin{};
  U256 gas_price;
  std::span<const Hash> blob_hashes;
};

enum class Status : uint8_t {
  success,
  revert,
  out_of_gas,
  invalid_opcode,      // "invalid opcode: …"; also the designated INVALID
  stack_underflow,
  stack_overflow,
  invalid_jump,
  write_protection,    // state change in a static frame
  return_data_bounds,  // RETURNDATACOPY beyond the buffer
  call_depth,          // depth above 1024
  insufficient_balance,
  nonce_overflow,
  address_collision,
  code_too_large,      // EIP-170
  initcode_too_large,  // EIP-3860
  invalid_code,        // EIP-3541: new code begins with 0xef
  code_store_out_of_gas,
  precompile_failure,
  stopped              // the caller gave up (deadline)
};
// geth's words: "execution reverted", "out of gas", "invalid jump destination", …
std::string_view message_of(Status s) noexcept;

enum class CallKind : uint8_t { call, callcode, delegatecall, staticcall, create, create2, selfdestruct };

struct Message {
  CallKind kind = CallKind::call;
  bool is_static = false;
  int depth = 0;
  uint64_t gas = 0;
  Address sender{};     // CALLER of the frame
  Address recipient{};  // whose storage it works on (for creations: filled in by the EVM)
  Address code_address{};  // whose code runs
  U256 value;
  ByteView input;       // calldata, or init code
  Hash salt{};          // create2
};

struct Result {
  Status status = Status::success;
  uint64_t gas_left = 0;
  Bytes output;         // return data, or revert data
  Address created{};    // of a creation
};

// Watches execution. All calls come in order, on the thread that executes; the views die with the call.
class Tracer {
 public:
  struct Step {
    uint64_t pc;
    uint8_t op;
    uint64_t gas;  // before the instruction
    int depth;     // 1 for the outermost frame, as in geth
    const U256* stack;  // bottom first
    size_t stack_size;
    ByteView memory;
    ByteView return_data;
    uint64_t refund;
    const Address* address;  // whose storage
  };
  virtual ~Tracer() = default;
  // Before each instruction (only when wants_steps).
  virtual void on_step(const Step& step) { (void)step; }
  // After it, or, for calls and creations, before the new frame begins: gas that is left, so that the difference is geth's gasCost.
  // `status` is the fault of an instruction that failed. Out of gas, `gas_left` is below nothing, modulo 2^64: the difference is what was asked for.
  virtual void on_step_end(uint64_t gas_left, Status status) { (void)gas_left, (void)status; }
  virtual void on_enter(const Message& message, ByteView code) { (void)message, (void)code; }
  virtual void on_exit(const Message& message, const Result& result, uint64_t gas_used) { (void)message, (void)result, (void)gas_used; }
  virtual void on_log(const Log& log) { (void)log; }
  [[nodiscard]] virtual bool wants_steps() const { return true; }
};

class Precompiles;  // precompiles/precompiles.h

struct EvmLimits {
  const std::atomic<bool>* stop = nullptr;  // looked at now and then; true ends execution with Status::stopped
};

class Evm {
 public:
  Evm(Revision revision, WorkingState& state, const BlockEnv& block, const TxEnv& tx, const Precompiles& precompiles,
      Tracer* tracer = nullptr, const EvmLimits& limits = {});
  ~Evm();

  // Runs one message at depth 0 to its end: value transfer, precompiles, code, creation rules; all nested frames. On failure the state is as
  // before the message (the nonce of a creator at depth 0 is the transaction's business, not this).
  // For creations `recipient` is ignored: the address follows from sender and its nonce (already raised by the caller: nonce − 1 counts),
  // or from salt and init code.
  Result run(const Message& message);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// keccak(rlp([sender, nonce]))[12:], EIP-1014.
Address create_address(const Address& sender, uint64_t nonce) noexcept;
Address create2_address(const Address& sender, const Hash& salt, ByteView init_code) noexcept;

}  // namespace zg
