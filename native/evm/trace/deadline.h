// A flag that raises itself when time is over.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

namespace zg {

// Waits on a thread of its own; ends with the object.
class Deadline {
 public:
  // 0: none.
  explicit Deadline(uint64_t ms) {
    if (ms == 0) return;
    thread_ = std::thread([this, ms] {
      std::unique_lock lock(mutex_);
      if (done_.wait_for(lock, std::chrono::milliseconds(ms), [this] { return over_; })) return;
      passed_.store(true, std::memory_order_relaxed);
      stop_.store(true, std::memory_order_relaxed);
    });
  }
  ~Deadline() {
    {
      const std::lock_guard lock(mutex_);
      over_ = true;
    }
    done_.notify_all();
    if (thread_.joinable()) thread_.join();
  }
  Deadline(const Deadline&) = delete;
  Deadline& operator=(const Deadline&) = delete;

  // What execution watches; others may raise it too.
  [[nodiscard]] std::atomic<bool>& stop() noexcept { return stop_; }
  [[nodiscard]] bool passed() const noexcept { return passed_.load(std::memory_order_relaxed); }

 private:
  std::atomic<bool> stop_{false}, passed_{false};
  std::mutex mutex_;
  std::condition_variable done_;
  bool over_ = false;
  std::thread thread_;
};

}  // namespace zg
