#include "evm_jobs.h"

#include <cmath>
#include <utility>

#include "base/threads.h"

namespace evm {

namespace {

constexpr size_t kCopyMax = 16 * 1024;

struct Instance {
  std::shared_ptr<Bridge> bridge;
};

const char* name_of(zg::ChainError e) {
  switch (e) {
    case zg::ChainError::locked:
      return "locked";
    case zg::ChainError::corrupt:
      return "corrupt";
    case zg::ChainError::wrong_network:
      return "wrong network";
    case zg::ChainError::io:
      return "io";
    case zg::ChainError::not_found:
      return "not found";
    case zg::ChainError::rejected:
      return "rejected";
    case zg::ChainError::pruned:
      return "pruned";
    default:
      return "stopped";
  }
}

napi_value array_over(napi_env env, napi_value buffer, size_t size) {
  napi_value out = nullptr;
  return napi_create_typedarray(env, napi_uint8_array, size, buffer, 0, &out) == napi_ok ? out : nullptr;
}

}  // namespace

// ---- the bridge

std::shared_ptr<Bridge> Bridge::make(napi_env env) {
  auto bridge = std::make_shared<Bridge>();
  napi_value name = nullptr;
  if (napi_create_string_utf8(env, "zg:evm", NAPI_AUTO_LENGTH, &name) != napi_ok ||
      napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, nullptr, settle, &bridge->function_) != napi_ok)
    return nullptr;
  // No job: does not keep the process alive.
  (void)napi_unref_threadsafe_function(env, bridge->function_);
  // Behind the function's own hook, so that it runs before it.
  if (napi_add_env_cleanup_hook(env, leave, new std::shared_ptr<Bridge>(bridge)) != napi_ok) return nullptr;
  if (napi_set_instance_data(env, new Instance{bridge}, [](napi_env, void* data, void*) { delete static_cast<Instance*>(data); }, nullptr) != napi_ok)
    return nullptr;
  return bridge;
}

std::shared_ptr<Bridge> Bridge::of(napi_env env) {
  void* data = nullptr;
  if (napi_get_instance_data(env, &data) != napi_ok || data == nullptr) return nullptr;
  return static_cast<Instance*>(data)->bridge;
}

void Bridge::leave(void* self) {
  const std::unique_ptr<std::shared_ptr<Bridge>> owner(static_cast<std::shared_ptr<Bridge>*>(self));
  const std::lock_guard lock((*owner)->mutex_);
  (*owner)->closed_ = true;
}

napi_value Bridge::begin(napi_env env, Job& job) {
  napi_value promise = nullptr;
  if (napi_create_promise(env, &job.deferred, &promise) != napi_ok) return nullptr;
  if (pending_++ == 0) (void)napi_ref_threadsafe_function(env, function_);
  return promise;
}

void Bridge::post(std::unique_ptr<Job> job) {
  const std::lock_guard lock(mutex_);
  // The environment is gone, or goes: nobody waits any more.
  if (closed_) return;
  if (napi_call_threadsafe_function(function_, job.get(), napi_tsfn_nonblocking) == napi_ok) (void)job.release();
}

void Bridge::settle(napi_env env, napi_value, void*, void* data) {
  const std::unique_ptr<Job> job(static_cast<Job*>(data));
  if (env == nullptr) return;
  const auto bridge = of(env);
  if (bridge == nullptr) return;
  if (--bridge->pending_ == 0) (void)napi_unref_threadsafe_function(env, bridge->function_);
  napi_value result = job->failure ? nullptr : job->value(env);
  if (result != nullptr) {
    (void)napi_resolve_deferred(env, job->deferred, result);
    return;
  }
  if (job->failure) {
    result = make_error(env, job->failure);
  } else {
    bool pending = false;
    if (napi_is_exception_pending(env, &pending) == napi_ok && pending) (void)napi_get_and_clear_last_exception(env, &result);
    if (result == nullptr) result = make_error(env, {zg::ChainError::stopped, "the answer could not be made"});
  }
  if (result != nullptr) (void)napi_reject_deferred(env, job->deferred, result);
}

// ---- workers

Workers::Workers(std::shared_ptr<Bridge> bridge, unsigned threads, size_t limit) : bridge_(std::move(bridge)), limit_(limit) {
  for (unsigned i = 0; i < threads; ++i) threads_.emplace_back([this] { loop(); });
}

Workers::~Workers() { finish(); }

bool Workers::post(std::unique_ptr<Job> job) {
  {
    const std::lock_guard lock(mutex_);
    if (ending_ || queue_.size() >= limit_) return false;
    queue_.push_back(std::move(job));
  }
  wake_.notify_one();
  return true;
}

void Workers::finish() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  wake_.notify_all();
  for (auto& t : threads_)
    if (t.joinable()) t.join();
}

void Workers::loop() {
  zg::become_batch_thread();
  for (;;) {
    std::unique_ptr<Job> job;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return ending_ || !queue_.empty(); });
      if (queue_.empty()) return;
      job = std::move(queue_.front());
      queue_.pop_front();
    }
    job->work();
    bridge_->post(std::move(job));
  }
}

// ---- the watchdog

Watchdog::Watchdog() : thread_([this] { loop(); }) {}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

Watchdog::Flag Watchdog::watch(uint64_t timeout_ms) {
  auto flag = std::make_shared<std::atomic<bool>>(false);
  bool wakes = false;
  {
    const std::lock_guard lock(mutex_);
    if (all_) flag->store(true);
    wakes = items_.empty();
    items_.push_back({flag, timeout_ms == 0 ? Clock::time_point::max() : Clock::now() + std::chrono::milliseconds(timeout_ms)});
  }
  if (wakes) wake_.notify_one();
  return flag;
}

void Watchdog::raise_all() {
  const std::lock_guard lock(mutex_);
  all_ = true;
  for (const Item& item : items_)
    if (const auto flag = item.flag.lock()) flag->store(true);
}

void Watchdog::loop() {
  std::unique_lock lock(mutex_);
  while (!ending_) {
    if (items_.empty()) {
      wake_.wait(lock);
      continue;
    }
    wake_.wait_for(lock, std::chrono::milliseconds(10));
    const auto now = Clock::now();
    std::erase_if(items_, [&](const Item& item) {
      const auto flag = item.flag.lock();
      if (flag == nullptr) return true;
      if (item.at > now) return false;
      flag->store(true);
      return true;
    });
  }
}

// ---- values

napi_value undefined(napi_env env) {
  napi_value v = nullptr;
  return napi_get_undefined(env, &v) == napi_ok ? v : nullptr;
}

napi_value make_bytes(napi_env env, zg::ByteView bytes) {
  void* data = nullptr;
  napi_value buffer = nullptr;
  if (napi_create_arraybuffer(env, bytes.size(), &data, &buffer) != napi_ok) return nullptr;
  if (!bytes.empty()) std::memcpy(data, bytes.data(), bytes.size());
  return array_over(env, buffer, bytes.size());
}

napi_value make_bytes(napi_env env, zg::Bytes&& bytes) {
  if (bytes.size() <= kCopyMax) return make_bytes(env, zg::ByteView(bytes));
  auto* owned = new zg::Bytes(std::move(bytes));
  napi_value buffer = nullptr;
  const napi_status s = napi_create_external_arraybuffer(
      env, owned->data(), owned->size(), [](napi_env, void*, void* hint) { delete static_cast<zg::Bytes*>(hint); }, owned, &buffer);
  if (s == napi_ok) return array_over(env, buffer, owned->size());
  const std::unique_ptr<zg::Bytes> back(owned);
  // Runtimes with a sandbox have no external buffers.
  return s == napi_no_external_buffers_allowed ? make_bytes(env, zg::ByteView(*back)) : nullptr;
}

napi_value make_text(napi_env env, const std::string& text) {
  napi_value v = nullptr;
  return napi_create_string_utf8(env, text.data(), text.size(), &v) == napi_ok ? v : nullptr;
}

napi_value make_number(napi_env env, double n) {
  napi_value v = nullptr;
  return napi_create_double(env, n, &v) == napi_ok ? v : nullptr;
}

napi_value make_bigint(napi_env env, const zg::U256& x) {
  napi_value v = nullptr;
  return napi_create_bigint_words(env, 0, 4, x.w, &v) == napi_ok ? v : nullptr;
}

void set(napi_env env, napi_value object, const char* name, napi_value value) {
  if (object != nullptr && value != nullptr) (void)napi_set_named_property(env, object, name, value);
}

napi_value make_error(napi_env env, const zg::Failure& failure) {
  // Too many logs: the message is the last block that fits.
  const bool is_logs = failure.error == zg::ChainError::rejected && !failure.message.empty() &&
                       failure.message.find_first_not_of("0123456789") == std::string::npos;
  napi_value error = nullptr;
  if (napi_create_error(env, nullptr, make_text(env, is_logs ? "too many logs" : failure.message), &error) != napi_ok) return nullptr;
  set(env, error, "failure", make_text(env, name_of(failure.error)));
  if (is_logs) set(env, error, "lastBlock", make_number(env, std::strtod(failure.message.c_str(), nullptr)));
  return error;
}

void throw_failure(napi_env env, const zg::Failure& failure) {
  if (const napi_value error = make_error(env, failure)) (void)napi_throw(env, error);
}

void throw_type(napi_env env, const char* message) { (void)napi_throw_type_error(env, nullptr, message); }

bool get_bytes(napi_env env, napi_value value, zg::ByteView& out) {
  bool is_array = false;
  if (napi_is_typedarray(env, value, &is_array) != napi_ok || !is_array) return false;
  napi_typedarray_type type{};
  size_t length = 0;
  void* data = nullptr;
  if (napi_get_typedarray_info(env, value, &type, &length, &data, nullptr, nullptr) != napi_ok || type != napi_uint8_array) return false;
  out = {static_cast<const uint8_t*>(data), length};
  return true;
}

bool get_number(napi_env env, napi_value value, uint64_t& out) {
  double n = 0;
  if (napi_get_value_double(env, value, &n) != napi_ok || !(n >= 0 && n <= 9007199254740992.0) || n != std::floor(n)) return false;
  out = static_cast<uint64_t>(n);
  return true;
}

bool get_bigint(napi_env env, napi_value value, zg::U256& out) {
  int sign = 0;
  size_t count = 4;
  out = {};
  if (napi_get_value_bigint_words(env, value, &sign, &count, out.w) != napi_ok) return false;
  return sign == 0 && count <= 4;
}

bool get_bool(napi_env env, napi_value value, bool& out) { return napi_get_value_bool(env, value, &out) == napi_ok; }

bool get_text(napi_env env, napi_value value, std::string& out) {
  size_t size = 0;
  if (napi_get_value_string_utf8(env, value, nullptr, 0, &size) != napi_ok) return false;
  out.resize(size + 1);
  if (napi_get_value_string_utf8(env, value, out.data(), out.size(), &size) != napi_ok) return false;
  out.resize(size);
  return true;
}

bool is_undefined(napi_env env, napi_value value) {
  napi_valuetype type = napi_undefined;
  return value == nullptr || napi_typeof(env, value, &type) != napi_ok || type == napi_undefined || type == napi_null;
}

napi_value property(napi_env env, napi_value object, const char* name) {
  napi_value v = nullptr;
  return napi_get_named_property(env, object, name, &v) == napi_ok ? v : undefined(env);
}

}  // namespace evm
