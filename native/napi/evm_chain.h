// The JavaScript object of an open chain (lib/evm/types.ts, NativeChain). evm_chain.cpp: the object, reads at once, pool. evm_chain_jobs.cpp: what runs on
// threads. evm_trace.cpp, when it is there, adds tracing and simulation through `trace_hooks`.
#pragma once

#include "evm_jobs.h"

#include "chain/call.h"

namespace evm {

class SubmitQueue;

// One open chain. Jobs and the JavaScript object share it.
class ChainHandle {
 public:
  ChainHandle(std::shared_ptr<Bridge> bridge, std::shared_ptr<zg::Chain> chain, unsigned threads);
  ~ChainHandle();

  // Null after close.
  std::shared_ptr<zg::Chain> chain() const;
  // JavaScript thread: nothing new is taken from here on.
  void begin_close();
  // Any thread: waits for everything that runs, then lets the chain go.
  void end_close();

  const std::shared_ptr<Bridge> bridge;
  Watchdog watchdog;
  Workers consensus;  // one thread: build, payloads, commit, development writes
  Workers readers;    // calls, logs, blocks, proofs
  std::unique_ptr<SubmitQueue> submits;

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<zg::Chain> chain_;
  bool is_closing_ = false;
};

// A call into a method of the object.
struct Call {
  static constexpr size_t kArguments = 6;
  napi_env env = nullptr;
  napi_value argv[kArguments] = {};
  std::shared_ptr<ChainHandle> handle;
  std::shared_ptr<zg::Chain> chain;
};
using Method = napi_value (*)(Call& call);

// The napi_callback of a method: unwraps `this`, refuses when the chain is closed.
bool enter(napi_env env, napi_callback_info info, Call& call);
template <Method kMethod>
napi_value method(napi_env env, napi_callback_info info) {
  Call call;
  return enter(env, info, call) ? kMethod(call) : nullptr;
}
template <Method kMethod>
napi_property_descriptor method_property(const char* name) {
  return {name, nullptr, method<kMethod>, nullptr, nullptr, nullptr, napi_enumerable, nullptr};
}

// Work with a result of type T on one of the handle's threads. `work` must hold what it needs by value.
template <class T>
class JobOf final : public Job {
 public:
  using Work = std::function<zg::Failure(T&)>;
  using Value = std::function<napi_value(napi_env, T&)>;
  JobOf(Work work, Value value) : work_(std::move(work)), value_(std::move(value)) {}
  void work() override {
    failure = work_(result_);
    work_ = nullptr;  // lets go of the chain on this thread
  }
  napi_value value(napi_env env) override { return value_(env, result_); }

 private:
  T result_{};
  Work work_;
  Value value_;
};

// The promise of a job on `workers`; rejected at once when too many wait.
napi_value start(Call& call, Workers& workers, std::unique_ptr<Job> job);
template <class T>
napi_value start(Call& call, Workers& workers, typename JobOf<T>::Work work, typename JobOf<T>::Value value) {
  return start(call, workers, std::make_unique<JobOf<T>>(std::move(work), std::move(value)));
}

// `at` of lib/evm/types.ts.
struct At {
  bool is_head = true;
  uint64_t number = 0;
};
bool get_at(Call& call, size_t argument, At& out);
// State and header; a failure when there is none.
zg::Failure resolve(zg::Chain& chain, const At& at, std::shared_ptr<const zg::StateView>& state, zg::Header& header);

// The methods of evm_chain_jobs.cpp.
std::vector<napi_property_descriptor> job_methods();
napi_value make_chain_object(napi_env env, const std::shared_ptr<ChainHandle>& handle);
napi_value make_head(napi_env env, const zg::Chain::Head& head);

// What evm_trace.cpp gives: its methods, and a watcher of a single call.
struct TraceHooks {
  std::vector<napi_property_descriptor> (*methods)() = nullptr;
  // Null: no such tracer, or `config` is none of its. `stop` is the flag that execution watches; the trace is written to `*text`.
  std::unique_ptr<zg::CallWatch> (*watch)(const zg::Chain& chain, const std::string& name, const std::string& config,
                                          const std::shared_ptr<std::atomic<bool>>& stop, std::string* text) = nullptr;
};
inline TraceHooks trace_hooks;

}  // namespace evm
