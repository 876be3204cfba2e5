// 4byteTracer: which functions were called, with how much data. noopTracer: that it ran.
#include <map>

#include "trace/tracers.h"

namespace zg {

namespace {

class FourByteTracer final : public JsonTracer {
 public:
  [[nodiscard]] bool wants_steps() const override { return false; }

  void begin(WorkingState&, const TraceSubject& subject, std::atomic<bool>& stop) override {
    subject_ = subject;
    stop_ = &stop;
    counts_.clear();
    overflow_ = false;
  }

  void on_enter(const Message& m, ByteView) override {
    const bool calls = m.kind == CallKind::call || m.kind == CallKind::callcode || m.kind == CallKind::delegatecall || m.kind == CallKind::staticcall;
    if (!calls || m.input.size() < 4) return;
    // Precompiles are fancy instructions.
    if (subject_.precompiles->acts_at(subject_.revision, m.code_address)) return;
    ++counts_[to_hex(m.input.first(4)) + "-" + std::to_string(m.input.size() - 4)];
    if (counts_.size() > kLimit / 64) overflowed(*stop_);
  }

  void end(const TxOutcome&, JsonText& out) override {
    out.raw("{");
    const char* between = "";
    for (const auto& [key, count] : counts_) {
      out.raw(between).string(key).raw(":").number(count);
      between = ",";
    }
    out.raw("}");
    if (out.full()) overflow_ = true;
  }

 private:
  TraceSubject subject_;
  std::atomic<bool>* stop_ = nullptr;
  std::map<std::string, uint64_t> counts_;
};

class NoopTracer final : public JsonTracer {
 public:
  [[nodiscard]] bool wants_steps() const override { return false; }
  void begin(WorkingState&, const TraceSubject&, std::atomic<bool>&) override {}
  void end(const TxOutcome&, JsonText& out) override { out.raw("{}"); }
};

}  // namespace

std::unique_ptr<JsonTracer> make_four_byte_tracer() { return std::make_unique<FourByteTracer>(); }
std::unique_ptr<JsonTracer> make_noop_tracer() { return std::make_unique<NoopTracer>(); }

}  // namespace zg
