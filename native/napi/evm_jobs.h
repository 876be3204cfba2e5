// Threads and promises of the binding of native/evm (native.md 10).
//
//   JavaScript thread ── Workers::post(job) ──▶ worker: job.work() ── Bridge::post ──▶ JavaScript thread: job settles its promise
//
// One thread-safe function an environment. What it points to is held by shared pointers: a worker that is ended with jobs under way sets `closed`, and jobs
// that end later free themselves.
#pragma once

// A call that meets a terminating environment must not end the process.
#define NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS
#include <napi.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "chain/chain.h"

namespace evm {

class Job {
 public:
  virtual ~Job() = default;
  virtual void work() = 0;
  // The promise's value, when there was no failure. Null: an exception is pending.
  virtual napi_value value(napi_env env) = 0;

  zg::Failure failure;
  napi_deferred deferred = nullptr;
};

// Of one environment.
class Bridge : public std::enable_shared_from_this<Bridge> {
 public:
  // Null: an exception is pending.
  static std::shared_ptr<Bridge> make(napi_env env);
  static std::shared_ptr<Bridge> of(napi_env env);

  // JavaScript thread: makes the promise of a job that is about to be posted. Null: an exception is pending.
  napi_value begin(napi_env env, Job& job);
  // Any thread: the job is done.
  void post(std::unique_ptr<Job> job);

 private:
  static void settle(napi_env env, napi_value callback, void* context, void* data);
  static void leave(void* self);

  std::mutex mutex_;
  bool closed_ = false;
  napi_threadsafe_function function_ = nullptr;
  size_t pending_ = 0;  // JavaScript thread alone
};

// Threads that take jobs in order. post() is refused beyond `limit` waiting ones.
class Workers {
 public:
  Workers(std::shared_ptr<Bridge> bridge, unsigned threads, size_t limit);
  ~Workers();
  bool post(std::unique_ptr<Job> job);
  // Runs what is queued, then ends the threads. Again: nothing.
  void finish();

 private:
  void loop();

  const std::shared_ptr<Bridge> bridge_;
  const size_t limit_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::unique_ptr<Job>> queue_;
  bool ending_ = false;
  std::vector<std::thread> threads_;
};

// Raises flags when their time has come. Thread safe.
class Watchdog {
 public:
  using Flag = std::shared_ptr<std::atomic<bool>>;
  Watchdog();
  ~Watchdog();
  // `timeout_ms` 0: only when everything ends. The flag is forgotten when nobody else holds it.
  Flag watch(uint64_t timeout_ms);
  void raise_all();

 private:
  using Clock = std::chrono::steady_clock;
  struct Item {
    std::weak_ptr<std::atomic<bool>> flag;
    Clock::time_point at;
  };
  void loop();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<Item> items_;
  bool ending_ = false, all_ = false;
  std::thread thread_;
};

// ---- values
napi_value undefined(napi_env env);
// Null: an exception is pending. Up to 16 KiB are copied; more moves into an external buffer where the runtime allows it.
napi_value make_bytes(napi_env env, zg::ByteView bytes);
napi_value make_bytes(napi_env env, zg::Bytes&& bytes);
napi_value make_text(napi_env env, const std::string& text);
napi_value make_number(napi_env env, double n);
napi_value make_bigint(napi_env env, const zg::U256& x);
void set(napi_env env, napi_value object, const char* name, napi_value value);
napi_value make_error(napi_env env, const zg::Failure& failure);
void throw_failure(napi_env env, const zg::Failure& failure);
void throw_type(napi_env env, const char* message);

// Arguments; false: of another type (nothing is thrown).
bool get_bytes(napi_env env, napi_value value, zg::ByteView& out);  // a view: valid until the call returns
bool get_number(napi_env env, napi_value value, uint64_t& out);     // whole, 0 to 2^53
bool get_bigint(napi_env env, napi_value value, zg::U256& out);
bool get_bool(napi_env env, napi_value value, bool& out);
bool get_text(napi_env env, napi_value value, std::string& out);
bool is_undefined(napi_env env, napi_value value);
napi_value property(napi_env env, napi_value object, const char* name);

}  // namespace evm
