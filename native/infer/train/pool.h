// Threads that wait between jobs. A job is a number of independent items, handed out one by one; results must not depend
// on which thread takes which item, only the scratch space may (the thread's index is passed for that).
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace zg::train {

class Pool {
 public:
  explicit Pool(long threads) : threads_(threads) {
    for (long i = 1; i < threads; i++) workers_.emplace_back([this, i] { work(i); });
  }
  ~Pool() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
      generation_++;
    }
    wake_.notify_all();
    for (std::thread& t : workers_) t.join();
  }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  long threads() const { return threads_; }

  /// Calls job(item, thread) for every item below count and returns when all are done.
  void run(long count, const std::function<void(long, long)>& job) {
    {
      const std::lock_guard lock(mutex_);
      job_ = &job;
      count_ = count;
      next_ = 0;
      busy_ = threads_ - 1;
      generation_++;
    }
    wake_.notify_all();
    take(0);
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return busy_ == 0; });
  }

 private:
  void take(long thread) {
    for (long item = next_++; item < count_; item = next_++) (*job_)(item, thread);
  }

  void work(long thread) {
    long seen = 0;
    for (;;) {
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return generation_ != seen; });
        seen = generation_;
        if (stop_) return;
      }
      take(thread);
      const std::lock_guard lock(mutex_);
      if (--busy_ == 0) done_.notify_one();
    }
  }

  const long threads_;
  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  const std::function<void(long, long)>* job_ = nullptr;
  std::atomic<long> next_{0};
  long count_ = 0;
  long busy_ = 0;
  long generation_ = 0;
  bool stop_ = false;
};

}  // namespace zg::train
