// structLogs: one entry an instruction, as it found the machine.
#include <algorithm>
#include <map>

#include "trace/tracers.h"

namespace zg {

namespace {

class StructLogger final : public JsonTracer {
 public:
  explicit StructLogger(const TraceFlags& flags)
      : stack_(!flags.has("noStack")),
        storage_(!flags.has("noStorage")),
        memory_(flags.has("memory")),
        return_data_(flags.has("returnData")),
        limit_(flags.number("limit")),
        logs_(kLimit) {}

  void begin(WorkingState& state, const TraceSubject&, std::atomic<bool>& stop) override {
    state_ = &state;
    stop_ = &stop;
    logs_.clear();
    touched_.clear();
    output_.clear();
    status_ = Status::success;
    overflow_ = false;
  }

  void on_step(const Step& s) override {
    // geth counts what it has written and goes on without a word.
    skipped_ = overflow_ || (limit_ != 0 && logs_.size() > limit_);
    if (skipped_) return;
    const size_t before = logs_.size();
    logs_.raw(before == 0 ? "{\"pc\":" : ",{\"pc\":").number(s.pc).raw(",\"op\":\"").raw(opcode_name(s.op)).raw("\",\"gas\":").number(s.gas);
    gas_ = s.gas;
    depth_ = s.depth;
    write_tail(s);
  }

  void on_step_end(uint64_t gas_left, Status status) override {
    if (skipped_) return;
    skipped_ = true;
    logs_.raw(",\"gasCost\":").number(gas_ - std::min(gas_, gas_left)).raw(",\"depth\":").number(static_cast<uint64_t>(depth_));
    // Only what stops an instruction before it begins is its error; the rest is told where the frame ends.
    if (status == Status::out_of_gas || status == Status::stack_underflow || status == Status::stack_overflow)
      logs_.raw(",\"error\":").string(message_of(status));
    logs_.raw(tail_.text()).raw("}");
    if (logs_.full()) overflowed(*stop_);
  }

  void on_exit(const Message& message, const Result& result, uint64_t) override {
    if (message.depth != 0) return;
    status_ = result.status;
    output_ = result.output;
  }

  void end(const TxOutcome& outcome, JsonText& out) override {
    const bool says = status_ == Status::success || status_ == Status::revert;
    out.raw("{\"gas\":").number(outcome.gas_used).raw(",\"failed\":").boolean(outcome.status != Status::success).raw(",\"returnValue\":");
    out.hex(says ? ByteView(output_) : ByteView{}).raw(",\"structLogs\":[").raw(logs_.text()).raw("]}");
    if (out.full()) overflow_ = true;
  }

 private:
  // What follows the cost, which is known only afterwards.
  void write_tail(const Step& s) {
    tail_.clear();
    if (stack_) {
      tail_.raw(",\"stack\":[");
      for (size_t i = 0; i < s.stack_size; ++i) {
        if (i != 0) tail_.raw(",");
        tail_.quantity(s.stack[i]);
      }
      tail_.raw("]");
    }
    if (return_data_ && !s.return_data.empty()) tail_.raw(",\"returnData\":").hex(s.return_data);
    if (memory_) write_memory(s.memory);
    if (storage_) write_storage(s);
    if (s.refund != 0) tail_.raw(",\"refund\":").number(s.refund);
  }

  void write_memory(ByteView memory) {
    tail_.raw(",\"memory\":[");
    for (size_t at = 0; at < memory.size() && !tail_.full(); at += 32) {
      uint8_t word[32] = {};
      std::memcpy(word, memory.data() + at, std::min<size_t>(32, memory.size() - at));
      if (at != 0) tail_.raw(",");
      tail_.hex(ByteView(word, 32));
    }
    tail_.raw("]");
  }

  // All slots of the contract that were read or written so far, shown where one more is.
  void write_storage(const Step& s) {
    constexpr uint8_t kSload = 0x54, kSstore = 0x55;
    const size_t needed = s.op == kSload ? 1 : 2;
    if ((s.op != kSload && s.op != kSstore) || s.stack_size < needed) return;
    auto& slots = touched_[*s.address];
    const U256& key = s.stack[s.stack_size - 1];
    slots[key] = s.op == kSstore ? s.stack[s.stack_size - 2] : state_->slot(state_->account(*s.address), key).current;
    tail_.raw(",\"storage\":{");
    bool first = true;
    for (const auto& [slot, value] : slots) {
      if (!first) tail_.raw(",");
      first = false;
      tail_.word(slot).raw(":").word(value);
      if (tail_.full()) break;
    }
    tail_.raw("}");
  }

  const bool stack_, storage_, memory_, return_data_;
  const uint64_t limit_;
  JsonText logs_;
  JsonText tail_{kLimit};
  WorkingState* state_ = nullptr;
  std::atomic<bool>* stop_ = nullptr;
  std::map<Address, std::map<U256, U256>> touched_;
  bool skipped_ = false;
  uint64_t gas_ = 0;
  int depth_ = 0;
  Status status_ = Status::success;
  Bytes output_;
};

}  // namespace

std::unique_ptr<JsonTracer> make_struct_logger(const TraceFlags& flags) {
  if (!flags.only({"noStack", "noStorage", "memory", "returnData", "limit"})) return nullptr;
  return std::make_unique<StructLogger>(flags);
}

}  // namespace zg
