// Threads that share one loop. They sleep between loops: work of less than about 100 µs is better done alone.
#pragma once

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

namespace zg::infer {

class Pool {
 public:
  // threads counts the caller; at least 1. Fewer are started when the system refuses.
  explicit Pool(unsigned threads);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  // Calls body(begin, end) on ranges that cover 0 … items, each of at most grain, on all threads; returns when all are done.
  // body must not depend on how the ranges fall.
  template <typename Body>
  void run(size_t items, size_t grain, const Body& body) {
    if (threads_.empty() || items <= grain) {
      if (items > 0) body(size_t{0}, items);
      return;
    }
    share([](const void* b, size_t begin, size_t end) { (*static_cast<const Body*>(b))(begin, end); }, &body, items, grain);
  }

  unsigned threads() const { return static_cast<unsigned>(threads_.size()) + 1; }

 private:
  using Call = void (*)(const void* body, size_t begin, size_t end);
  void share(Call call, const void* body, size_t items, size_t grain);
  void work();
  void drain();
  static void* enter(void* self);

  std::vector<pthread_t> threads_;
  std::mutex mutex_;
  std::condition_variable start_;
  std::condition_variable done_;
  uint64_t round_ = 0;
  size_t busy_ = 0;
  bool stop_ = false;
  Call call_ = nullptr;
  const void* body_ = nullptr;
  size_t items_ = 0;
  size_t grain_ = 1;
  std::atomic<size_t> next_{0};
};

}  // namespace zg::infer
