// Loops over all cores: one pool of threads for the process, made at first use, joined at exit.
//
//   parallel_for(n, grain, [&](size_t begin, size_t end) { … });
//
// The caller works too, so a nested loop (or a pool whose threads are all busy) goes on without help instead of waiting: no deadlock.
// Thread safe: any number of threads may run loops at once.
#pragma once

#include <cstddef>
#include <type_traits>

namespace zg {

// Threads that a loop may use at most, the caller's among them: cores that this process may run on, at least 1, at most 64.
unsigned parallel_threads() noexcept;

namespace detail {
using RangeFn = void (*)(void* context, size_t begin, size_t end);
void parallel_run(size_t n, size_t grain, unsigned threads, RangeFn fn, void* context) noexcept;
}  // namespace detail

// Calls fn(begin, end) until [0, n) is covered once, each range at most `grain` long and disjoint from the others; returns when all is done. `fn` runs on
// several threads at once and must not throw. `threads` bounds how many work at a time; 0: all cores.
template <class F>
void parallel_for(size_t n, size_t grain, F&& fn, unsigned threads = 0) noexcept {
  using Plain = std::remove_reference_t<F>;
  detail::parallel_run(
      n, grain, threads, [](void* context, size_t begin, size_t end) { (*static_cast<Plain*>(context))(begin, end); },
      const_cast<void*>(static_cast<const void*>(&fn)));
}

}  // namespace zg
