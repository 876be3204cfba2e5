// structLogs: one entry an instruction, as it found the machine.
#include <algorithm>
#include <map>

#include "trace/tracers.h"
#include "vm/schedule.h"

namespace zg {

namespace {

// What geth's table has for an instruction before it looks at its operands: all of most prices, from Berlin on only the warm part of others.
uint64_t fixed_price(uint8_t op, Revision revision) {
  const bool berlin = revision >= Revision::berlin;
  const Schedule& prices = schedule_of(revision);
  if (op >= 0x60 && op <= 0x9f) return 3;                     // PUSH, DUP, SWAP
  if (op >= 0x10 && op <= 0x1d) return 3;                     // comparisons, bits
  switch (op) {
    case 0x01: case 0x03: case 0x35: case 0x37: case 0x39: case 0x3e: case 0x49: case 0x51: case 0x52: case 0x53: case 0x5e: return 3;
    case 0x02: case 0x04: case 0x05: case 0x06: case 0x07: case 0x0b: case 0x1e: case 0x47: return 5;
    case 0x08: case 0x09: case 0x56: return 8;
    case 0x57: return 10;
    case 0x5b: return 1;
    case 0x20: return 30;
    case 0x40: return 20;
    case 0x30: case 0x32: case 0x33: case 0x34: case 0x36: case 0x38: case 0x3a: case 0x3d: case 0x41: case 0x42: case 0x43: case 0x44: case 0x45:
    case 0x46: case 0x48: case 0x4a: case 0x50: case 0x58: case 0x59: case 0x5a: case 0x5f: return 2;
    case 0x5c: case 0x5d: return gas::kWarm;
    case 0x31: return berlin ? gas::kWarm : prices.balance;
    case 0x3b: case 0x3c: return berlin ? gas::kWarm : prices.extcode;
    case 0x3f: return berlin ? gas::kWarm : prices.extcode_hash;
    case 0x54: return berlin ? 0 : prices.sload;
    case 0xf0: case 0xf5: return gas::kCreate;
    case 0xf1: case 0xf2: case 0xf4: case 0xfa: return berlin ? gas::kWarm : prices.call;
    case 0xff: return berlin ? 5000 : 0;
    default: return 0;
  }
}

class StructLogger final : public JsonTracer {
 public:
  explicit StructLogger(const TraceFlags& flags)
      : stack_(!flags.has("noStack")),
        storage_(!flags.has("noStorage")),
        memory_(flags.has("memory")),
        return_data_(flags.has("returnData")),
        limit_(flags.number("limit")),
        logs_(kLimit) {}

  void begin(WorkingState& state, const TraceSubject& subject, std::atomic<bool>& stop) override {
    state_ = &state;
    revision_ = subject.revision;
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
    op_ = s.op;
    write_tail(s);
  }

  void on_step_end(uint64_t gas_left, Status status) override {
    if (skipped_) return;
    skipped_ = true;
    // The stack is looked at first, and before it geth has the fixed part of the price; calls ask for the rest in one.
    uint64_t cost = status == Status::out_of_gas ? gas_ - gas_left : gas_ - std::min(gas_, gas_left);
    if (status == Status::stack_underflow || status == Status::stack_overflow || (status == Status::out_of_gas && cost == 0))
      cost = fixed_price(op_, revision_);
    logs_.raw(",\"gasCost\":").number(cost).raw(",\"depth\":").number(static_cast<uint64_t>(depth_));
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
  uint8_t op_ = 0;
  Revision revision_ = Revision::osaka;
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
