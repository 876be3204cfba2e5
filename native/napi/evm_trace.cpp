// Tracing and simulation of the chain's JavaScript object (lib/evm/types.ts): traceBlock, traceRaw, simulate, and the tracer of a call.
#include "evm_chain.h"

#include "trace/replay.h"
#include "trace/simulate.h"
#include "trace/tracer.h"

namespace evm {

namespace {

// {name, config}
bool get_tracer(napi_env env, napi_value value, zg::TraceRequest& out) {
  return get_text(env, property(env, value, "name"), out.name) && get_text(env, property(env, value, "config"), out.config);
}

napi_value text_of(napi_env env, std::string& text) { return make_text(env, text); }

napi_value trace_block(Call& call) {
  zg::TraceRequest request;
  uint64_t number = 0, index = 0, timeout_ms = 0;
  const bool all = is_undefined(call.env, call.argv[1]);
  if (!get_number(call.env, call.argv[0], number) || (!all && !get_number(call.env, call.argv[1], index)) ||
      !get_tracer(call.env, call.argv[2], request) || !get_number(call.env, call.argv[3], timeout_ms)) {
    throw_type(call.env, "traceBlock(number, index | undefined, {name, config}, timeoutMs)");
    return nullptr;
  }
  request.stop = call.handle->watchdog.watch(timeout_ms);
  const std::optional<uint32_t> one = all ? std::nullopt : std::optional(static_cast<uint32_t>(std::min<uint64_t>(index, ~uint32_t{0})));
  return start<std::string>(
      call, call.handle->readers,
      [chain = call.chain, number, one, request](std::string& json) { return zg::trace_block(*chain, number, one, request, json); }, text_of);
}

napi_value trace_raw(Call& call) {
  zg::TraceRequest request;
  zg::ByteView raw;
  uint64_t timeout_ms = 0;
  if (!get_bytes(call.env, call.argv[0], raw) || !get_tracer(call.env, call.argv[1], request) || !get_number(call.env, call.argv[2], timeout_ms)) {
    throw_type(call.env, "traceRaw(block, {name, config}, timeoutMs)");
    return nullptr;
  }
  request.stop = call.handle->watchdog.watch(timeout_ms);
  return start<std::string>(
      call, call.handle->readers,
      [chain = call.chain, block = zg::Bytes(raw.begin(), raw.end()), request](std::string& json) {
        return zg::trace_raw(*chain, block, request, json);
      },
      text_of);
}

napi_value simulate(Call& call) {
  zg::ByteView raw;
  At at;
  uint64_t timeout_ms = 0;
  if (!get_bytes(call.env, call.argv[0], raw) || !get_at(call, 1, at) || !get_number(call.env, call.argv[2], timeout_ms)) {
    throw_type(call.env, "simulate(request, at, timeoutMs)");
    return nullptr;
  }
  const auto stop = call.handle->watchdog.watch(timeout_ms);
  const std::optional<uint64_t> number = at.is_head ? std::nullopt : std::optional(at.number);
  return start<zg::Bytes>(
      call, call.handle->readers,
      [chain = call.chain, request = zg::Bytes(raw.begin(), raw.end()), number, stop](zg::Bytes& answer) {
        answer = zg::simulate(*chain, request, number, *stop);
        return zg::Failure{};
      },
      [](napi_env env, zg::Bytes& answer) { return make_bytes(env, std::move(answer)); });
}

std::vector<napi_property_descriptor> methods() {
  return {method_property<trace_block>("traceBlock"), method_property<trace_raw>("traceRaw"), method_property<simulate>("simulate")};
}

class TraceWatch final : public zg::CallWatch {
 public:
  TraceWatch(const zg::Chain& chain, std::unique_ptr<zg::JsonTracer> tracer, std::shared_ptr<std::atomic<bool>> stop, std::string* text)
      : chain_(chain), tracer_(std::move(tracer)), stop_(std::move(stop)), text_(text) {}
  zg::Tracer* tracer() override { return tracer_.get(); }
  void begin(zg::WorkingState& state, const zg::Transaction& tx, const zg::BlockEnv& env, zg::Revision rev,
             const zg::Precompiles& precompiles) override {
    zg::TraceSubject subject;
    subject.tx = &tx;
    subject.from = tx.sender;
    subject.coinbase = env.coinbase;
    subject.revision = rev;
    subject.precompiles = &precompiles;
    subject.config = &chain_.config();
    subject.block_number = env.number;
    tracer_->begin(state, subject, *stop_);
  }
  // Too large: no text, and the call counts as stopped.
  void end(const zg::TxOutcome& outcome) override {
    if (tracer_->overflow() || outcome.refusal != zg::TxRefusal::none) return;
    constexpr size_t kMost = size_t{128} << 20;
    zg::JsonText out(kMost);
    tracer_->end(outcome, out);
    if (!tracer_->overflow()) *text_ = out.take();
  }

 private:
  const zg::Chain& chain_;
  const std::unique_ptr<zg::JsonTracer> tracer_;
  const std::shared_ptr<std::atomic<bool>> stop_;
  std::string* const text_;
};

std::unique_ptr<zg::CallWatch> watch(const zg::Chain& chain, const std::string& name, const std::string& config,
                                     const std::shared_ptr<std::atomic<bool>>& stop, std::string* text) {
  auto tracer = zg::make_tracer(name, config);
  if (tracer == nullptr) return nullptr;
  return std::make_unique<TraceWatch>(chain, std::move(tracer), stop, text);
}

[[maybe_unused]] const bool kHooked = [] {
  trace_hooks.methods = methods;
  trace_hooks.watch = watch;
  return true;
}();

}  // namespace

}  // namespace evm
