#include "base/keccak_batch.h"

#include <algorithm>

namespace zg {

#if defined(__x86_64__)
extern const KeccakLanes kBatchAvx512;
extern const KeccakLanes kBatchAvx2;
#endif

namespace {

constexpr size_t kRateBytes = 136;
// Longer messages (codes) are rare: they go one by one.
constexpr size_t kMaxBlocks = 8;

struct Paths {
  const KeccakLanes* items[3] = {};
  size_t count = 0;
  Paths() noexcept {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2")) {
      if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")) items[count++] = &kBatchAvx512;
      items[count++] = &kBatchAvx2;
    }
#endif
  }
};

const Paths& paths() noexcept {
  static const Paths p;
  return p;
}

void one(const HashJob& job) noexcept {
  const Hash h = keccak({job.data, job.size});
  std::memcpy(job.out, h.b, 32);
}

}  // namespace

const KeccakLanes* const* keccak_lane_paths() noexcept { return paths().items; }

void keccak_batch(std::span<const HashJob> jobs) noexcept {
  const KeccakLanes* const* path = paths().items;
  if (path[0] == nullptr || jobs.size() < 2) {
    for (const HashJob& job : jobs) one(job);
    return;
  }
  // One open group for each number of blocks; a full one runs at once, so nothing is sorted and nothing allocated.
  const size_t widest = path[0]->lanes;
  const HashJob* open[kMaxBlocks + 1][8];
  size_t count[kMaxBlocks + 1] = {};
  for (const HashJob& job : jobs) {
    const size_t blocks = job.size / kRateBytes + 1;
    if (blocks > kMaxBlocks) {
      one(job);
      continue;
    }
    open[blocks][count[blocks]++] = &job;
    if (count[blocks] == widest) {
      path[0]->run(open[blocks], blocks);
      count[blocks] = 0;
    }
  }
  // What is left: a whole path with one message repeated is cheaper than single ones from a third of its lanes up.
  for (size_t blocks = 1; blocks <= kMaxBlocks; blocks++) {
    size_t n = count[blocks];
    const HashJob** at = open[blocks];
    for (const KeccakLanes* const* p = path; *p != nullptr && n > 0; p++) {
      const size_t lanes = (*p)->lanes;
      if (n >= lanes / 2 + 1 || (n > 2 && p[1] == nullptr)) {
        const HashJob* group[8];
        const size_t take = std::min(n, lanes);
        for (size_t i = 0; i < lanes; i++) group[i] = at[i < take ? i : take - 1];
        (*p)->run(group, blocks);
        at += take;
        n -= take;
      }
    }
    for (size_t i = 0; i < n; i++) one(*at[i]);
  }
}

}  // namespace zg
