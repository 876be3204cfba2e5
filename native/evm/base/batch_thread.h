// For threads that do a block's or a batch's work: they take the same share of the processor as others, but do not push aside a thread that wakes up for a
// short piece of work, such as the event loop. Sources: sched(7), SCHED_BATCH.
#pragma once

#ifdef __linux__
#include <sched.h>
#endif

namespace zg {

// Of the calling thread. Where the system has no such thing, or refuses, nothing changes.
inline void become_batch_thread() noexcept {
#if defined(__linux__) && defined(SCHED_BATCH)
  const sched_param param{};
  (void)sched_setscheduler(0, SCHED_BATCH, &param);
#endif
}

}  // namespace zg
