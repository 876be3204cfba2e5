#include "vm/arena.h"

#include <algorithm>
#include <cstdlib>
#include <mutex>

namespace zg {
namespace {

constexpr uint64_t kFirstChunk = uint64_t{1} << 18;
constexpr size_t kKeptArenas = 16;
constexpr uint64_t kKeptBytes = uint64_t{4} << 20;
constexpr size_t kKeptDepth = 64;
// 33 MB of addresses; pages are used as frames reach them.
constexpr size_t kStackBytes = (kMaxDepth + 2) * kMaxStack * sizeof(U256);

std::mutex pool_lock;
std::vector<std::unique_ptr<Arena>>& pool() {
  static std::vector<std::unique_ptr<Arena>> arenas;
  return arenas;
}

void* allocate(uint64_t bytes) {
  void* p = std::malloc(bytes);
  if (p == nullptr) std::abort();  // nothing sensible goes on without memory
  return p;
}

}  // namespace

Arena::Arena() : stack_(static_cast<U256*>(allocate(kStackBytes))) {
  chunks_.push_back({static_cast<uint8_t*>(allocate(kFirstChunk)), kFirstChunk});
}

Arena::~Arena() {
  std::free(stack_);
  for (const Chunk& c : chunks_) std::free(c.data);
}

std::unique_ptr<Arena> Arena::acquire() {
  {
    const std::lock_guard hold(pool_lock);
    if (!pool().empty()) {
      auto arena = std::move(pool().back());
      pool().pop_back();
      return arena;
    }
  }
  return std::make_unique<Arena>();
}

void Arena::release(std::unique_ptr<Arena> arena) {
  while (arena->count_ > 0) arena->pop();
  uint64_t bytes = 0;
  for (const Chunk& c : arena->chunks_) bytes += c.size;
  // One that grew gives its pages back to the system.
  if (bytes > kKeptBytes || arena->deepest_ > kKeptDepth) return;
  const std::lock_guard hold(pool_lock);
  if (pool().size() < kKeptArenas) pool().push_back(std::move(arena));
}

Frame& Arena::push() {
  if (count_ == frames_.size()) frames_.push_back(std::make_unique<Frame>());
  Frame& f = *frames_[count_];
  if (count_ == 0) {
    f.base = stack_;
    f.chunk = 0;
    f.mem = chunks_[0].data;
    f.mem_room = chunks_[0].size;
  } else {
    const Frame& below = *frames_[count_ - 1];
    f.base = below.sp;
    f.chunk = below.chunk;
    f.mem = below.mem + below.mem_size;
    f.mem_room = below.mem_room - below.mem_size;
  }
  f.sp = f.base;
  f.mem_size = 0;
  f.step_open = false;
  f.out_at = f.out_size = 0;
  ++count_;
  deepest_ = std::max(deepest_, count_);
  return f;
}

void Arena::pop() noexcept {
  frames_[count_ - 1]->held.reset();
  --count_;
}

void Arena::grow(Frame& f, uint64_t size) {
  if (size > f.mem_room) {
    // To the next chunk that is large enough; those between are small and stay unused until this frame ends.
    size_t i = f.chunk + 1;
    while (i < chunks_.size() && chunks_[i].size < size) ++i;
    if (i == chunks_.size()) {
      const uint64_t bytes = std::max(2 * size, 2 * chunks_.back().size);
      chunks_.push_back({static_cast<uint8_t*>(allocate(bytes)), bytes});
    }
    std::memcpy(chunks_[i].data, f.mem, f.mem_size);
    f.chunk = static_cast<uint32_t>(i);
    f.mem = chunks_[i].data;
    f.mem_room = chunks_[i].size;
  }
  std::memset(f.mem + f.mem_size, 0, size - f.mem_size);
  f.mem_size = size;
}

}  // namespace zg
