// Tracers that answer JSON in the shapes of geth: structLogs (the default), callTracer, flatCallTracer, prestateTracer, 4byteTracer, noopTracer,
// muxTracer. One object traces one transaction after the other; it is used on one thread.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "exec/transition.h"
#include "trace/json.h"

namespace zg {

// What a tracer knows of the transaction that begins.
struct TraceSubject {
  const Transaction* tx = nullptr;
  Address from{};
  Address coinbase{};
  Revision revision = Revision::osaka;
  const Precompiles* precompiles = nullptr;
  const ChainConfig* config = nullptr;
  // Where it stands; absent for calls.
  std::optional<Hash> block_hash;
  uint64_t block_number = 0;
  std::optional<Hash> tx_hash;
  uint32_t index = 0;
  // Logs of the block before this transaction.
  uint64_t first_log = 0;
};

class JsonTracer : public Tracer {
 public:
  // Bytes of JSON of one transaction.
  static constexpr size_t kLimit = size_t{64} << 20;

  // Before run_transaction. `stop` is raised when the trace grows beyond kLimit; it must be the flag that execution watches.
  virtual void begin(WorkingState& state, const TraceSubject& subject, std::atomic<bool>& stop) = 0;
  // After it, on the state it left: writes the result.
  virtual void end(const TxOutcome& outcome, JsonText& out) = 0;
  // The trace was larger than allowed: there is no result.
  [[nodiscard]] bool overflow() const noexcept { return overflow_; }

 protected:
  void overflowed(std::atomic<bool>& stop) noexcept {
    overflow_ = true;
    stop.store(true, std::memory_order_relaxed);
  }
  bool overflow_ = false;
};

// `name`: of the tracer, "" or "structLogs" for the default. `config`: flags with blanks between them, as lib/evm/tracer.ts writes them:
//   structLogs       noStack noStorage memory returnData limit=N
//   callTracer       onlyTopCall withLog
//   flatCallTracer   convertParityErrors includePrecompiles
//   prestateTracer   diffMode disableCode disableStorage includeEmpty
//   muxTracer        NAME flags ; NAME flags …
// Null: there is no such tracer, or the flags are none of its.
std::unique_ptr<JsonTracer> make_tracer(std::string_view name, std::string_view config);

// geth's name of an instruction; "opcode 0xNN not defined".
std::string opcode_name(uint8_t op);
// The text in `Error(string)` and `Panic(uint256)`. False: another error, or malformed.
bool revert_reason(ByteView output, std::string& reason);

}  // namespace zg
