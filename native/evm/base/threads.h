// Who goes first when all cores are busy: the thread that answers everybody, or those that work on blocks. Nothing here needs a privilege; where the system does not
// know it, or refuses, nothing changes. Sources: sched(7), sched_setattr(2); Linux 6.12 for slices of the fair class.
#pragma once

#ifdef __linux__
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#endif

namespace zg {

// The calling thread does a block's or a batch's work: it keeps its share of the processor, but does not push aside a thread that wakes up for a short piece of
// work, such as the event loop.
inline void become_batch_thread() noexcept {
#if defined(__linux__) && defined(SCHED_BATCH)
  const sched_param param{};
  (void)sched_setscheduler(0, SCHED_BATCH, &param);
#endif
}

// The calling thread does short pieces of work that others wait for: it asks for short turns, and gets them sooner, of the same share. Threads made later do not inherit it.
inline void become_prompt_thread() noexcept {
#if defined(__linux__) && defined(SYS_sched_setattr) && defined(SYS_sched_getattr)
  struct Attributes {  // struct sched_attr, first version
    uint32_t size = 0, policy = 0;
    uint64_t flags = 0;
    int32_t nice = 0;
    uint32_t priority = 0;
    uint64_t runtime = 0, deadline = 0, period = 0;
  } a;
  constexpr uint64_t kSliceNs = 200'000, kResetOnFork = 1;
  if (syscall(SYS_sched_getattr, 0, &a, sizeof a, 0) != 0 || a.policy != SCHED_OTHER) return;
  a.size = sizeof a;
  a.flags |= kResetOnFork;
  a.runtime = kSliceNs;
  (void)syscall(SYS_sched_setattr, 0, &a, 0);
#endif
}

}  // namespace zg
