#include "workers.h"

#include <algorithm>
#include <memory>

#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace zg::cpu {
namespace {

constexpr unsigned kCountBits = 20;
constexpr uint64_t kCountMask = (uint64_t{1} << kCountBits) - 1;
// About 40 µs of pauses on current processors.
constexpr int kSpins = 1'000;
constexpr size_t kMaxChunks = size_t{1} << (kCountBits - 1);

inline void relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

uint64_t generation(uint64_t ticket) { return ticket >> (2 * kCountBits); }

// Cores the process may use, ascending.
std::vector<uint32_t> allowed_cores() {
  std::vector<uint32_t> out;
#if defined(__linux__)
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return out;
  for (uint32_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    if (CPU_ISSET(cpu, &allowed)) out.push_back(cpu);
  }
#endif
  return out;
}

void pin_to(pthread_t thread, const std::vector<uint32_t>& cores, size_t index) {
#if defined(__linux__)
  if (cores.empty()) return;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(cores[index % cores.size()], &one);
  pthread_setaffinity_np(thread, sizeof one, &one);
#else
  (void)thread;
  (void)cores;
  (void)index;
#endif
}

}  // namespace

// What a new thread is told.
struct Workers::Start {
  Workers* workers;
  size_t own;
};

Workers::Workers(unsigned threads, bool pin, const std::vector<uint32_t>& cpus)
    : cores_(!cpus.empty() ? cpus : pin ? allowed_cores() : cpus), stretch_count_(std::clamp<size_t>(threads, 1, kMaxStretches)) {
  for (unsigned i = 1; i < threads; i++) {
    auto start = std::make_unique<Start>(Start{this, i % stretch_count_});
    pthread_t thread;
    if (pthread_create(&thread, nullptr, enter, start.get()) != 0) break;
    start.release();
    // The caller's own core is the first.
    pin_to(thread, cores_, i);
    threads_.push_back(thread);
  }
}

void Workers::pin_caller() const { pin_to(pthread_self(), cores_, 0); }

bool Workers::may_use(const std::vector<uint32_t>& cpus) {
  const std::vector<uint32_t> allowed = allowed_cores();
  return std::all_of(cpus.begin(), cpus.end(), [&](uint32_t cpu) { return std::binary_search(allowed.begin(), allowed.end(), cpu); });
}

Workers::~Workers() {
  stop_.store(true);
  epoch_.fetch_add(1);
  epoch_.notify_all();
  for (const pthread_t t : threads_) pthread_join(t, nullptr);
}

void* Workers::enter(void* argument) {
#if defined(__x86_64__)
  // Another library of the process may have set flush-to-zero; subnormal scales count here.
  _mm_setcsr(0x1F80);
#endif
  const std::unique_ptr<Start> start(static_cast<Start*>(argument));
  start->workers->work(start->own);
  return nullptr;
}

void Workers::share(Call call, const void* body, size_t items, size_t grain) {
  grain = std::max(grain, (items + kMaxChunks - 1) / kMaxChunks);
  const size_t chunks = (items + grain - 1) / grain;
  const uint64_t next = generation_.load(std::memory_order_relaxed) + 1;
  jobs_[next % 2] = {call, body, items, grain, chunks};
  done_.store(0, std::memory_order_relaxed);
  // A thread that is late may take a chunk as soon as its ticket is out.
  for (size_t s = 0; s < stretch_count_; s++) {
    const size_t count = start_of(s + 1, chunks) - start_of(s, chunks);
    stretches_[s].ticket.store(next << (2 * kCountBits) | count << kCountBits, std::memory_order_release);
  }
  generation_.store(next);
  if (asleep_.load() > 0) {
    epoch_.fetch_add(1);
    epoch_.notify_all();
  }
  drain(0);
  for (int spins = 0;;) {
    const uint32_t done = done_.load(std::memory_order_acquire);
    if (done == chunks) return;
    if (++spins < kSpins) {
      relax();
      continue;
    }
    caller_asleep_.store(true);
    if (done_.load() == done) done_.wait(done);
    caller_asleep_.store(false);
  }
}

void Workers::drain(size_t own) {
  for (size_t i = 0; i < stretch_count_; i++) take((own + i) % stretch_count_);
}

void Workers::take(size_t stretch) {
  std::atomic<uint64_t>& tickets = stretches_[stretch].ticket;
  for (;;) {
    const uint64_t ticket = tickets.fetch_add(1);
    const uint64_t index = ticket & kCountMask;
    if (index >= (ticket >> kCountBits & kCountMask)) return;
    const Job& job = jobs_[generation(ticket) % 2];
    const size_t chunks = job.chunks;
    const size_t begin = (start_of(stretch, chunks) + index) * job.grain;
    job.call(job.body, begin, std::min(begin + job.grain, job.items));
    // The job may be gone from here on.
    if (done_.fetch_add(1) + 1 == chunks && caller_asleep_.load()) done_.notify_one();
  }
}

void Workers::work(size_t own) {
  uint64_t seen = 0;
  for (;;) {
    int spins = 0;
    uint64_t now;
    while ((now = generation_.load(std::memory_order_acquire)) == seen) {
      if (stop_.load(std::memory_order_relaxed)) return;
      if (++spins < kSpins) {
        relax();
        continue;
      }
      spins = 0;
      asleep_.fetch_add(1);
      const uint32_t epoch = epoch_.load();
      if (generation_.load() == seen && !stop_.load()) epoch_.wait(epoch);
      asleep_.fetch_sub(1);
    }
    seen = now;
    drain(own);
  }
}

}  // namespace zg::cpu
