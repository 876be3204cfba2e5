#include "exec/crew.h"

#include <algorithm>

#include "base/threads.h"

namespace zg {

Crew& Crew::instance() {
  static Crew crew;
  return crew;
}

Crew::~Crew() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (std::thread& t : threads_) t.join();
}

bool Crew::begin(unsigned helpers, Work work, void* context) {
  helpers = std::min(helpers, kHelpersMax);
  {
    const std::lock_guard lock(mutex_);
    if (is_taken_) return false;
    is_taken_ = true;
    while (threads_.size() < helpers) threads_.emplace_back([this] { serve(); });
    work_ = work;
    context_ = context;
    may_enter_ = helpers;
  }
  for (unsigned i = 0; i < helpers; ++i) wake_.notify_one();
  return true;
}

void Crew::end() {
  std::unique_lock lock(mutex_);
  may_enter_ = 0;
  left_.wait(lock, [this] { return inside_ == 0; });
  is_taken_ = false;
}

void Crew::serve() {
  become_batch_thread();
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stop_ || may_enter_ > 0; });
    if (stop_) return;
    --may_enter_;
    ++inside_;
    const Work work = work_;
    void* const context = context_;
    lock.unlock();
    work(context);
    lock.lock();
    if (--inside_ == 0) left_.notify_all();
  }
}

}  // namespace zg
