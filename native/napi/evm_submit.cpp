#include "evm_submit.h"

#include "base/threads.h"

namespace evm {

namespace {

constexpr unsigned kThreads = 2;
constexpr size_t kBatchMax = 4'096;              // transactions worked on together
constexpr size_t kWaitingBytesMax = 256u << 20;  // of all that wait
constexpr size_t kWaitingMax = 100'000;

}  // namespace

// One buffer for all hashes: an array buffer each would cost more than admitting them.
napi_value SubmitJob::value(napi_env env) {
  napi_value list = nullptr, buffer = nullptr;
  void* data = nullptr;
  if (napi_create_array_with_length(env, answers.size(), &list) != napi_ok) return nullptr;
  if (napi_create_arraybuffer(env, answers.size() * 32, &data, &buffer) != napi_ok) return nullptr;
  for (size_t i = 0; i < answers.size(); ++i) {
    napi_value item = nullptr;
    if (!answers[i].refusal.empty()) {
      item = make_text(env, answers[i].refusal);
    } else {
      std::memcpy(static_cast<uint8_t*>(data) + 32 * i, answers[i].hash.b, 32);
      if (napi_create_typedarray(env, napi_uint8_array, 32, buffer, 32 * i, &item) != napi_ok) return nullptr;
    }
    if (item == nullptr || napi_set_element(env, list, static_cast<uint32_t>(i), item) != napi_ok) return nullptr;
  }
  return list;
}

SubmitQueue::SubmitQueue(std::shared_ptr<Bridge> bridge, zg::Chain& chain) : bridge_(std::move(bridge)), chain_(chain) {
  for (unsigned i = 0; i < kThreads; ++i) threads_.emplace_back([this] { loop(); });
}

SubmitQueue::~SubmitQueue() { finish(); }

bool SubmitQueue::post(std::unique_ptr<SubmitJob> job) {
  {
    const std::lock_guard lock(mutex_);
    if (ending_ || queue_.size() >= kWaitingMax || (waiting_bytes_ > 0 && waiting_bytes_ + job->bytes.size() > kWaitingBytesMax)) return false;
    waiting_bytes_ += job->bytes.size();
    queue_.push_back(std::move(job));
  }
  wake_.notify_one();
  return true;
}

void SubmitQueue::finish() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  wake_.notify_all();
  for (auto& t : threads_)
    if (t.joinable()) t.join();
}

void SubmitQueue::loop() {
  zg::become_batch_thread();
  for (;;) {
    std::vector<std::unique_ptr<SubmitJob>> jobs;
    size_t count = 0;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return ending_ || !queue_.empty(); });
      if (queue_.empty()) return;
      while (!queue_.empty() && (jobs.empty() || count + queue_.front()->ends.size() <= kBatchMax)) {
        count += queue_.front()->ends.size();
        waiting_bytes_ -= queue_.front()->bytes.size();
        jobs.push_back(std::move(queue_.front()));
        queue_.pop_front();
      }
    }
    std::vector<zg::ByteView> raw;
    raw.reserve(count);
    for (const auto& job : jobs) {
      size_t begin = 0;
      for (const size_t end : job->ends) {
        raw.emplace_back(job->bytes.data() + begin, end - begin);
        begin = end;
      }
    }
    auto answers = chain_.submit(raw);
    auto at = answers.begin();
    for (auto& job : jobs) {
      const auto end = at + static_cast<std::ptrdiff_t>(job->ends.size());
      job->answers.assign(std::make_move_iterator(at), std::make_move_iterator(end));
      at = end;
      bridge_->post(std::move(job));
    }
  }
}

}  // namespace evm
