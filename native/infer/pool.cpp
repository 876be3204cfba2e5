#include "pool.h"

#include <algorithm>

namespace zg::infer {

Pool::Pool(unsigned threads) {
  threads_.reserve(threads);
  for (unsigned i = 1; i < threads; i++) {
    pthread_t t;
    if (pthread_create(&t, nullptr, enter, this) != 0) break;
    threads_.push_back(t);
  }
}

Pool::~Pool() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  start_.notify_all();
  for (const pthread_t t : threads_) pthread_join(t, nullptr);
}

void* Pool::enter(void* self) {
  static_cast<Pool*>(self)->work();
  return nullptr;
}

void Pool::share(Call call, const void* body, size_t items, size_t grain) {
  {
    const std::lock_guard lock(mutex_);
    call_ = call;
    body_ = body;
    items_ = items;
    grain_ = std::max<size_t>(grain, 1);
    next_.store(0, std::memory_order_relaxed);
    busy_ = threads_.size();
    round_++;
  }
  start_.notify_all();
  drain();
  std::unique_lock lock(mutex_);
  done_.wait(lock, [this] { return busy_ == 0; });
}

void Pool::drain() {
  for (;;) {
    const size_t begin = next_.fetch_add(grain_, std::memory_order_relaxed);
    if (begin >= items_) return;
    call_(body_, begin, std::min(begin + grain_, items_));
  }
}

void Pool::work() {
  uint64_t seen = 0;
  std::unique_lock lock(mutex_);
  for (;;) {
    start_.wait(lock, [&] { return stop_ || round_ != seen; });
    if (stop_) return;
    seen = round_;
    lock.unlock();
    drain();
    lock.lock();
    if (--busy_ == 0) done_.notify_one();
  }
}

}  // namespace zg::infer
