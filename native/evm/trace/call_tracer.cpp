// callTracer: the tree of calls. flatCallTracer: the same as a list in the form of Parity's traces.
#include <algorithm>

#include "trace/tracers.h"

namespace zg {

namespace {

struct CallLog {
  Log log;
  uint64_t index = 0;     // in the block
  size_t position = 0;    // calls of the frame before it
};

struct Call {
  CallKind kind = CallKind::call;
  Address from{}, to{};
  uint64_t gas = 0, gas_used = 0;
  U256 value;
  Bytes input, output;
  Status status = Status::success;
  std::vector<Call> calls;
  std::vector<CallLog> logs;

  [[nodiscard]] bool creates() const noexcept { return kind == CallKind::create || kind == CallKind::create2; }
};

std::string_view name_of(CallKind kind) noexcept {
  switch (kind) {
    case CallKind::call: return "CALL";
    case CallKind::callcode: return "CALLCODE";
    case CallKind::delegatecall: return "DELEGATECALL";
    case CallKind::staticcall: return "STATICCALL";
    case CallKind::create: return "CREATE";
    case CallKind::create2: return "CREATE2";
    case CallKind::selfdestruct: return "SELFDESTRUCT";
  }
  return "";
}

std::string lower(std::string_view s) {
  std::string out(s);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  return out;
}

// Collects the tree; what it is shown as is the business of the two below.
class CallCollector : public JsonTracer {
 public:
  CallCollector(bool only_top, bool with_log) : only_top_(only_top), with_log_(with_log) {}
  [[nodiscard]] bool wants_steps() const override { return false; }

  void begin(WorkingState&, const TraceSubject& subject, std::atomic<bool>& stop) override {
    subject_ = subject;
    stop_ = &stop;
    open_.clear();
    root_ = Call{};
    next_log_ = subject.first_log;
    logs_at_.clear();
    bytes_ = 0;
    overflow_ = false;
  }

  void on_enter(const Message& m, ByteView) override {
    logs_at_.push_back(next_log_);
    if ((only_top_ && m.depth > 0) || overflow_) return;
    Call call;
    call.kind = m.kind;
    call.gas = m.depth == 0 ? subject_.tx->gas_limit : m.gas;
    call.value = m.value;
    call.input.assign(m.input.begin(), m.input.end());
    const bool inside = m.kind == CallKind::delegatecall || m.kind == CallKind::callcode;
    call.from = inside ? m.recipient : m.sender;
    call.to = inside ? m.code_address : m.recipient;
    weigh(m.input.size());
    open_.push_back(std::move(call));
  }

  void on_exit(const Message& m, const Result& r, uint64_t gas_used) override {
    // Logs of a frame that failed never were: their numbers are free again.
    if (r.status != Status::success) next_log_ = logs_at_.back();
    logs_at_.pop_back();
    if ((only_top_ && m.depth > 0) || open_.empty()) return;
    Call call = std::move(open_.back());
    open_.pop_back();
    call.gas_used = gas_used;
    call.status = r.status;
    if (r.status == Status::success || r.status == Status::revert) call.output = r.output;
    weigh(call.output.size());
    if (open_.empty()) root_ = std::move(call);
    else if (keep(call)) open_.back().calls.push_back(std::move(call));
  }

  void on_log(const Log& log) override {
    const uint64_t index = next_log_++;
    if (!with_log_ || overflow_ || open_.empty() || (only_top_ && logs_at_.size() > 1)) return;
    weigh(log.data.size() + 32 * log.topics.size());
    open_.back().logs.push_back({log, index, open_.back().calls.size()});
  }

 protected:
  [[nodiscard]] virtual bool keep(const Call&) const { return true; }

  Call& finished(const TxOutcome& outcome) {
    root_.gas_used = outcome.gas_used;
    return root_;
  }

  TraceSubject subject_;

 private:
  // Memory is bounded by what the text will need: two digits a byte and the names around it.
  void weigh(size_t bytes) {
    bytes_ += 2 * bytes + 256;
    if (bytes_ > kLimit) overflowed(*stop_);
  }

  const bool only_top_, with_log_;
  std::vector<Call> open_;
  Call root_;
  std::vector<uint64_t> logs_at_;  // at the start of each open frame
  uint64_t next_log_ = 0;
  size_t bytes_ = 0;
  std::atomic<bool>* stop_ = nullptr;
};

class CallTracer final : public CallCollector {
 public:
  explicit CallTracer(const TraceFlags& flags) : CallCollector(flags.has("onlyTopCall"), flags.has("withLog")) {}

  void end(const TxOutcome& outcome, JsonText& out) override {
    write(finished(outcome), false, out);
    if (out.full()) overflow_ = true;
  }

 private:
  // Nested frames are at most 1 024 deep.
  static void write(const Call& c, bool undone, JsonText& out) {
    const bool failed = c.status != Status::success;
    undone = undone || failed;
    out.raw("{\"from\":").hex(c.from).raw(",\"gas\":").quantity(c.gas).raw(",\"gasUsed\":").quantity(c.gas_used);
    if (!(failed && c.creates())) out.raw(",\"to\":").hex(c.to);
    out.raw(",\"input\":").hex(c.input);
    if (!c.output.empty()) out.raw(",\"output\":").hex(c.output);
    if (failed) {
      out.raw(",\"error\":").string(message_of(c.status));
      std::string reason;
      if (c.status == Status::revert && revert_reason(c.output, reason)) out.raw(",\"revertReason\":").string(reason);
    }
    if (!c.calls.empty()) {
      out.raw(",\"calls\":[");
      for (size_t i = 0; i < c.calls.size() && !out.full(); ++i) {
        if (i != 0) out.raw(",");
        write(c.calls[i], undone, out);
      }
      out.raw("]");
    }
    if (!c.logs.empty() && !undone) write_logs(c.logs, out);
    if (c.kind != CallKind::staticcall) out.raw(",\"value\":").quantity(c.value);
    out.raw(",\"type\":\"").raw(name_of(c.kind)).raw("\"}");
  }

  static void write_logs(const std::vector<CallLog>& logs, JsonText& out) {
    out.raw(",\"logs\":[");
    for (size_t i = 0; i < logs.size(); ++i) {
      if (i != 0) out.raw(",");
      const Log& log = logs[i].log;
      out.raw("{\"address\":").hex(log.address).raw(",\"topics\":[");
      for (size_t t = 0; t < log.topics.size(); ++t) out.raw(t == 0 ? "" : ",").hex(log.topics[t]);
      out.raw("],\"data\":").hex(log.data).raw(",\"index\":").quantity(logs[i].index);
      out.raw(",\"position\":").quantity(logs[i].position).raw("}");
    }
    out.raw("]");
  }
};

// Parity's words for geth's errors.
std::string parity_error(std::string_view text) {
  static constexpr struct {
    std::string_view geth, parity;
  } kWords[] = {{"contract creation code storage out of gas", "Out of gas"},
                {"out of gas", "Out of gas"},
                {"max code size exceeded", "Out of gas"},
                {"invalid jump destination", "Bad jump destination"},
                {"execution reverted", "Reverted"},
                {"return data out of bounds", "Out of bounds"},
                {"stack limit reached", "Out of stack"},
                {"precompile failed", "Built-in failed"},
                {"invalid opcode", "Bad instruction"},
                {"stack underflow", "Stack underflow"}};
  for (const auto& w : kWords)
    if (text.substr(0, w.geth.size()) == w.geth) return std::string(w.parity);
  return std::string(text);
}

class FlatCallTracer final : public CallCollector {
 public:
  explicit FlatCallTracer(const TraceFlags& flags)
      : CallCollector(false, false), parity_(flags.has("convertParityErrors")), precompiles_(flags.has("includePrecompiles")) {}

  void end(const TxOutcome& outcome, JsonText& out) override {
    std::vector<size_t> address;
    out.raw("[");
    write(finished(outcome), address, out);
    out.raw("]");
    if (out.full()) overflow_ = true;
  }

 protected:
  [[nodiscard]] bool keep(const Call& c) const override {
    if (precompiles_ || (c.kind != CallKind::call && c.kind != CallKind::staticcall)) return true;
    return !subject_.precompiles->acts_at(subject_.revision, c.to);
  }

 private:
  void write(const Call& c, std::vector<size_t>& address, JsonText& out) const {
    out.raw("{\"action\":{");
    write_action(c, out);
    out.raw("},\"blockHash\":");
    if (subject_.block_hash) out.hex(*subject_.block_hash);
    else out.raw("null");
    out.raw(",\"blockNumber\":").number(subject_.block_number);
    const bool failed = c.status != Status::success;
    if (failed) out.raw(",\"error\":").string(parity_ ? parity_error(message_of(c.status)) : std::string(message_of(c.status)));
    if (c.kind != CallKind::selfdestruct && (!failed || c.status == Status::revert)) write_result(c, failed, out);
    out.raw(",\"subtraces\":").number(c.calls.size()).raw(",\"traceAddress\":[");
    for (size_t i = 0; i < address.size(); ++i) out.raw(i == 0 ? "" : ",").number(address[i]);
    out.raw("],\"transactionHash\":");
    if (subject_.tx_hash) out.hex(*subject_.tx_hash);
    else out.raw("null");
    out.raw(",\"transactionPosition\":").number(subject_.index).raw(",\"type\":\"");
    out.raw(c.creates() ? "create" : c.kind == CallKind::selfdestruct ? "suicide" : "call").raw("\"}");
    for (size_t i = 0; i < c.calls.size() && !out.full(); ++i) {
      out.raw(",");
      address.push_back(i);
      write(c.calls[i], address, out);
      address.pop_back();
    }
  }

  static void write_action(const Call& c, JsonText& out) {
    if (c.kind == CallKind::selfdestruct) {
      out.raw("\"address\":").hex(c.from).raw(",\"balance\":").quantity(c.value).raw(",\"refundAddress\":").hex(c.to);
      return;
    }
    const std::string kind = lower(name_of(c.kind));
    if (c.creates()) {
      out.raw("\"creationMethod\":\"").raw(kind).raw("\",\"from\":").hex(c.from).raw(",\"gas\":").quantity(c.gas);
      out.raw(",\"init\":").hex(c.input).raw(",\"value\":").quantity(c.value);
      return;
    }
    out.raw("\"callType\":\"").raw(kind).raw("\",\"from\":").hex(c.from).raw(",\"gas\":").quantity(c.gas);
    out.raw(",\"input\":").hex(c.input).raw(",\"to\":").hex(c.to);
    out.raw(",\"value\":").quantity(c.kind == CallKind::staticcall ? U256{} : c.value);
  }

  static void write_result(const Call& c, bool failed, JsonText& out) {
    out.raw(",\"result\":{");
    if (c.creates()) {
      if (!failed) out.raw("\"address\":").hex(c.to).raw(",");
      out.raw("\"code\":").hex(c.output).raw(",\"gasUsed\":").quantity(c.gas_used).raw("}");
    } else {
      out.raw("\"gasUsed\":").quantity(c.gas_used).raw(",\"output\":").hex(c.output).raw("}");
    }
  }

  const bool parity_, precompiles_;
};

}  // namespace

std::unique_ptr<JsonTracer> make_call_tracer(const TraceFlags& flags) {
  if (!flags.only({"onlyTopCall", "withLog"})) return nullptr;
  return std::make_unique<CallTracer>(flags);
}

std::unique_ptr<JsonTracer> make_flat_call_tracer(const TraceFlags& flags) {
  if (!flags.only({"convertParityErrors", "includePrecompiles"})) return nullptr;
  return std::make_unique<FlatCallTracer>(flags);
}

}  // namespace zg
