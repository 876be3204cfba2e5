// The host's emulation of a GPU's thread blocks for tests: every thread is a fiber, blocks run one after another. Warp operations
// meet per warp, barriers per block; asynchronous copies happen when they are waited for, shared memory starts as rubbish, and the
// order in which fibers run can be changed, so that a missing barrier or wait shows as other bits. Not thread-safe: one launch at a time.
#pragma once

#include <stddef.h>
#include <stdint.h>

#define ZG_GLOBAL
#define ZG_KERNEL inline
#define ZG_DEVICE inline
#define ZG_BOUNDS(threads, blocks)
#define ZG_UNROLL

namespace zg::simt {

struct alignas(16) Vec4 {
  uint32_t x, y, z, w;
};

// In what order runnable fibers go on.
enum class Order { kAscending, kDescending, kShuffled, kStrided };

// The running fiber, as the kernel sees it.
struct Current {
  uint32_t thread, threads, block_x, block_y, blocks_x;
  uint8_t* shared;
};
extern Current current;

// Runs body once for each thread of each block. Ends the process with a message when threads wait at different barriers.
void run_blocks(uint32_t grid_x, uint32_t grid_y, uint32_t threads, size_t shared_bytes, void (*body)(const void*), const void* argument);
void set_order(Order order);

// Waits for the block (warp) to arrive.
void sync();
void sync_warp();
// Publishes 32 bytes of this lane; afterwards other lanes' bytes can be read until the next but one exchange.
void exchange(const void* mine, size_t bytes);
const void* of_lane(uint32_t lane);

void copy_async(void* to, const void* from);
void copy_commit();
void copy_wait_all_but(int groups);
template <int N>
inline void copy_wait() {
  copy_wait_all_but(N);
}

inline uint32_t thread() { return current.thread; }
inline uint32_t threads() { return current.threads; }
inline uint32_t block_x() { return current.block_x; }
inline uint32_t block_y() { return current.block_y; }
inline uint32_t blocks_x() { return current.blocks_x; }
inline uint32_t lane() { return current.thread & 31u; }
inline uint8_t* shared() { return current.shared; }

template <class T>
inline T from_lane(T v, uint32_t from) {
  exchange(&v, sizeof v);
  T r;
  memcpy(&r, of_lane(from), sizeof r);
  return r;
}
template <class T>
inline T shuffle_xor(T v, uint32_t mask) {
  return from_lane(v, lane() ^ mask);
}
inline float shuffle_down(float v, uint32_t by) { return from_lane(v, lane() + by < 32 ? lane() + by : lane()); }
inline float shuffle(float v, uint32_t from) { return from_lane(v, from & 31u); }

inline int32_t dp4a(uint32_t a, uint32_t b, int32_t c) {
  for (int i = 0; i < 4; i++) c += int32_t{static_cast<int8_t>(a >> 8 * i)} * static_cast<int8_t>(b >> 8 * i);
  return c;
}
inline uint32_t permute(uint32_t low, uint32_t high, uint32_t selector) {
  const uint64_t all = uint64_t{high} << 32 | low;
  uint32_t r = 0;
  for (int i = 0; i < 4; i++) r |= static_cast<uint32_t>(all >> 8 * (selector >> 4 * i & 7u) & 255u) << 8 * i;
  return r;
}
inline uint32_t subtract4(uint32_t a, uint32_t b) {
  uint32_t r = 0;
  for (int i = 0; i < 4; i++) r |= (((a >> 8 * i & 255u) - (b >> 8 * i & 255u)) & 255u) << 8 * i;
  return r;
}

// Address faults of 16-byte accesses, which the device would have.
void check_aligned(const void* p, size_t bytes);
inline Vec4 load16(const void* p) {
  check_aligned(p, 16);
  Vec4 v;
  memcpy(&v, p, sizeof v);
  return v;
}
inline Vec4 load_stream(const void* p) { return load16(p); }

void load_matrices(uint32_t* d, const void* row);
void mma_k32(int32_t* d, const uint32_t* a, const uint32_t* b, int32_t c);
void mma_k16(int32_t* d, uint32_t a0, uint32_t a1, uint32_t b0, int32_t c);

inline void prefetch(const void* p, uint32_t bytes) { check_aligned(p, 16), check_aligned(reinterpret_cast<const void*>(uintptr_t{bytes}), 16); }
inline void wait_before() {}
inline void let_next_start() {}
inline uint32_t atomic_min(uint32_t* p, uint32_t v) {
  const uint32_t old = *p;
  if (v < old) *p = v;
  return old;
}
inline uint32_t atomic_add(uint32_t* p, uint32_t v) {
  const uint32_t old = *p;
  *p = old + v;
  return old;
}
inline void fence() {}

}  // namespace zg::simt
