// Threads that share a loop of a few microseconds or more (inference.md 8): chunks are taken one by one, so a thread that the machine
// runs elsewhere delays nobody but its own chunk; waiting spins for tens of microseconds, then sleeps.
//
// Each thread has a stretch of the loop of its own, goes through it in order and helps the others when it is through: memory is read
// half as fast again in one ascending stream per thread as in chunks that are dealt out one after another.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace zg::cpu {

class Workers {
 public:
  // threads counts the caller, at least 1; fewer are started when the system refuses. pin: one core each, in order; of cpus, numbers as the
  // system counts them, or where there are none of those the process may use. What a thread writes first lies in its core's memory.
  explicit Workers(unsigned threads, bool pin = false, const std::vector<uint32_t>& cpus = {});
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  // Calls body(begin, end) on ranges that cover 0 … items, of grain items each (the last may be shorter), and returns when all are done.
  // One caller at a time. body must not depend on how ranges fall on threads.
  template <typename Body>
  void run(size_t items, size_t grain, const Body& body) {
    if (items == 0) return;
    if (grain < 1) grain = 1;
    if (threads_.empty() || alone_ || items <= grain) return body(size_t{0}, items);
    share([](const void* b, size_t begin, size_t end) { (*static_cast<const Body*>(b))(begin, end); }, &body, items, grain);
  }

  // Until told otherwise the caller does everything itself; the others sleep.
  void set_alone(bool alone) { alone_ = alone; }
  // The calling thread, which is going to call run, takes the first core when threads keep to theirs.
  void pin_caller() const;
  // Whether the process may use all of these.
  static bool may_use(const std::vector<uint32_t>& cpus);
  unsigned threads() const { return static_cast<unsigned>(threads_.size()) + 1; }

 private:
  // More threads than this share stretches.
  static constexpr size_t kMaxStretches = 16;
  using Call = void (*)(const void* body, size_t begin, size_t end);
  struct Job {
    Call call = nullptr;
    const void* body = nullptr;
    size_t items = 0;
    size_t grain = 1;
    size_t chunks = 0;
  };
  struct Start;
  struct alignas(64) Stretch {
    // generation · 2⁴⁰ + chunks · 2²⁰ + chunks taken: whoever adds one knows from the old value alone whether it holds a chunk, and while
    // it does, the job stays.
    std::atomic<uint64_t> ticket{0};
  };
  void share(Call call, const void* body, size_t items, size_t grain);
  // Takes chunks until there are none, those of the thread's own stretch first.
  void drain(size_t own);
  void take(size_t stretch);
  // First chunk of a stretch.
  size_t start_of(size_t stretch, size_t chunks) const { return chunks * stretch / stretch_count_; }
  void work(size_t own);
  static void* enter(void* start);

  const std::vector<uint32_t> cores_;
  std::vector<pthread_t> threads_;
  bool alone_ = false;
  size_t stretch_count_ = 1;
  Stretch stretches_[kMaxStretches];
  // Of the job whose tickets are all out.
  alignas(64) std::atomic<uint64_t> generation_{0};
  alignas(64) std::atomic<uint32_t> done_{0};
  alignas(64) std::atomic<uint32_t> asleep_{0};
  std::atomic<uint32_t> epoch_{0};
  std::atomic<bool> caller_asleep_{false};
  std::atomic<bool> stop_{false};
  Job jobs_[2];
};

}  // namespace zg::cpu
