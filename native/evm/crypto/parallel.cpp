#include "crypto/parallel.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "base/threads.h"

#ifdef __linux__
#include <sched.h>
#endif

namespace zg {
namespace {

constexpr unsigned kMaxThreads = 64;

// Lives on its caller's stack: the caller leaves only when no helper is inside.
struct Job {
  size_t n;
  size_t grain;
  detail::RangeFn fn;
  void* context;
  std::atomic<size_t> next{0};
  unsigned helpers = 0;      // inside now; under the pool's mutex
  unsigned may_help = 0;     // more may come; under the mutex

  void work() noexcept {
    for (;;) {
      const size_t begin = next.fetch_add(grain, std::memory_order_relaxed);
      if (begin >= n) return;
      fn(context, begin, std::min(n, begin + grain));
    }
  }
};

class Pool {
 public:
  explicit Pool(unsigned helpers) {
    threads_.reserve(helpers);
    for (unsigned i = 0; i < helpers; ++i) threads_.emplace_back([this] { serve(); });
  }
  ~Pool() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (auto& t : threads_) t.join();
  }

  void run(Job& job) {
    // Counted before anybody can help: helpers count it down.
    const size_t wanted = std::min<size_t>(job.may_help, threads_.size());
    {
      const std::lock_guard lock(mutex_);
      jobs_.push_back(&job);
    }
    for (size_t i = 0; i < wanted; ++i) wake_.notify_one();
    job.work();
    std::unique_lock lock(mutex_);
    forget(job);
    done_.wait(lock, [&] { return job.helpers == 0; });
  }

 private:
  void serve() {
    become_batch_thread();
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return stop_ || !jobs_.empty(); });
      if (stop_) return;
      Job& job = *jobs_.front();
      ++job.helpers;
      if (--job.may_help == 0) jobs_.pop_front();
      lock.unlock();
      job.work();
      lock.lock();
      forget(job);
      if (--job.helpers == 0) done_.notify_all();
    }
  }
  void forget(Job& job) {
    const auto at = std::find(jobs_.begin(), jobs_.end(), &job);
    if (at != jobs_.end()) jobs_.erase(at);
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable done_;
  std::deque<Job*> jobs_;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

unsigned count_cores() noexcept {
  unsigned n = std::thread::hardware_concurrency();
#ifdef __linux__
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) n = static_cast<unsigned>(CPU_COUNT(&set));
#endif
  return std::clamp(n, 1u, kMaxThreads);
}

}  // namespace

unsigned parallel_threads() noexcept {
  static const unsigned n = count_cores();
  return n;
}

namespace detail {

void parallel_run(size_t n, size_t grain, unsigned threads, RangeFn fn, void* context) noexcept {
  grain = std::max<size_t>(grain, 1);
  const size_t pieces = n / grain + (n % grain != 0);
  const size_t most = std::min<size_t>(pieces, threads == 0 ? parallel_threads() : std::min(threads, parallel_threads()));
  Job job{.n = n, .grain = grain, .fn = fn, .context = context};
  if (most <= 1) return job.work();
  static Pool pool(parallel_threads() - 1);
  job.may_help = static_cast<unsigned>(most - 1);
  pool.run(job);
}

}  // namespace detail
}  // namespace zg
