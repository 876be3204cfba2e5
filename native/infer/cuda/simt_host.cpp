#include "simt.h"

#include <stdio.h>
#include <stdlib.h>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#include <memory>
#include <vector>

namespace zg::simt {

Current current;

namespace {

constexpr size_t kStack = 64 * 1024;
constexpr uint32_t kMaxThreads = 1024;
constexpr size_t kExchange = 32;

enum class State : uint8_t { kReady, kAtWarp, kAtBlock, kDone };

struct Copy {
  void* to;
  const void* from;
  uint32_t group;
};

struct Fiber {
#if defined(__x86_64__)
  void* stack_pointer = nullptr;
#else
  ucontext_t context;
#endif
  std::unique_ptr<uint8_t[]> stack;
  State state = State::kDone;
  uint32_t groups = 0;
  std::vector<Copy> copies;
  uint32_t parity = 0;
  alignas(16) uint8_t slot[2][kExchange];
};

struct Machine {
  std::vector<Fiber> fibers;
  std::vector<uint32_t> order;
  Order kind = Order::kAscending;
  uint32_t count = 0;
  uint32_t running = 0;
  void (*body)(const void*) = nullptr;
  const void* argument = nullptr;
  std::vector<uint8_t> shared;
#if defined(__x86_64__)
  void* scheduler = nullptr;
#else
  ucontext_t scheduler;
#endif
};
Machine machine;

[[noreturn]] void die(const char* message) {
  fprintf(stderr, "emulated kernel: %s\n", message);
  abort();
}

#if defined(__x86_64__)
extern "C" void zg_fiber_switch(void** save, void* load);
asm(R"(
.text
.local zg_fiber_switch
.type zg_fiber_switch,@function
zg_fiber_switch:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
.size zg_fiber_switch,.-zg_fiber_switch
)");
void to_scheduler(Fiber& f) { zg_fiber_switch(&f.stack_pointer, machine.scheduler); }
void to_fiber(Fiber& f) { zg_fiber_switch(&machine.scheduler, f.stack_pointer); }
#else
void to_scheduler(Fiber& f) { swapcontext(&f.context, &machine.scheduler); }
void to_fiber(Fiber& f) { swapcontext(&machine.scheduler, &f.context); }
#endif

void enter() {
  machine.body(machine.argument);
  Fiber& f = machine.fibers[machine.running];
  f.state = State::kDone;
  to_scheduler(f);
  die("a finished thread went on");
}

void start(Fiber& f) {
  if (f.stack == nullptr) f.stack = std::make_unique<uint8_t[]>(kStack);
  f.state = State::kReady;
  f.groups = 0;
  f.copies.clear();
  f.parity = 0;
#if defined(__x86_64__)
  auto top = reinterpret_cast<uintptr_t>(f.stack.get() + kStack) & ~uintptr_t{15};
  auto* p = reinterpret_cast<void**>(top);
  // As after a call: the stack pointer is 8 off a multiple of 16 when enter begins.
  *--p = nullptr;
  *--p = reinterpret_cast<void*>(&enter);
  for (int i = 0; i < 6; i++) *--p = nullptr;
  f.stack_pointer = p;
#else
  getcontext(&f.context);
  f.context.uc_stack.ss_sp = f.stack.get();
  f.context.uc_stack.ss_size = kStack;
  f.context.uc_link = nullptr;
  makecontext(&f.context, enter, 0);
#endif
}

void wait(State state) {
  Fiber& f = machine.fibers[machine.running];
  f.state = state;
  to_scheduler(f);
}

// Lets the fibers go on that wait for one another in [begin, end), if all that live do.
bool release(uint32_t begin, uint32_t end, State state) {
  bool any = false;
  for (uint32_t i = begin; i < end; i++) {
    const State s = machine.fibers[i].state;
    if (s == State::kDone) continue;
    if (s != state) return false;
    any = true;
  }
  if (!any) return false;
  for (uint32_t i = begin; i < end; i++) {
    if (machine.fibers[i].state == state) machine.fibers[i].state = State::kReady;
  }
  return true;
}

void make_order(uint32_t threads) {
  machine.order.resize(threads);
  for (uint32_t i = 0; i < threads; i++) machine.order[i] = i;
  if (machine.kind == Order::kDescending) {
    for (uint32_t i = 0; i < threads; i++) machine.order[i] = threads - 1 - i;
  } else if (machine.kind == Order::kStrided) {
    // Warps interleaved.
    uint32_t at = 0;
    for (uint32_t l = 0; l < 32; l++) {
      for (uint32_t i = l; i < threads; i += 32) machine.order[at++] = i;
    }
  } else if (machine.kind == Order::kShuffled) {
    uint64_t state = 88172645463325252u;
    for (uint32_t i = threads; i > 1; i--) {
      state ^= state << 13;
      state ^= state >> 7;
      state ^= state << 17;
      const auto j = static_cast<uint32_t>(state % i);
      const uint32_t t = machine.order[i - 1];
      machine.order[i - 1] = machine.order[j];
      machine.order[j] = t;
    }
  }
}

}  // namespace

void set_order(Order order) { machine.kind = order; }

void run_blocks(uint32_t grid_x, uint32_t grid_y, uint32_t threads, size_t shared_bytes, void (*body)(const void*), const void* argument) {
  if (threads == 0 || threads > kMaxThreads) die("a launch of no threads or of more than 1 024 in a block");
  if (shared_bytes > 227 * 1024) die("a launch with more shared memory than a block can have");
  machine.body = body;
  machine.argument = argument;
  if (machine.fibers.size() < threads) machine.fibers.resize(threads);
  machine.shared.resize(shared_bytes + 32);
  make_order(threads);
  uint8_t* shared_start = machine.shared.data();
  shared_start += (16 - reinterpret_cast<uintptr_t>(shared_start) % 16) % 16;
  for (uint32_t y = 0; y < grid_y; y++) {
    for (uint32_t x = 0; x < grid_x; x++) {
      memset(shared_start, 0xA5, shared_bytes);
      for (uint32_t i = 0; i < threads; i++) start(machine.fibers[i]);
      for (bool progress = true; progress;) {
        progress = false;
        for (const uint32_t i : machine.order) {
          if (machine.fibers[i].state != State::kReady) continue;
          current = {i, threads, x, y, grid_x, shared_start};
          machine.running = i;
          progress = true;
          to_fiber(machine.fibers[i]);
        }
        for (uint32_t w = 0; w < threads; w += 32) {
          if (release(w, w + 32 < threads ? w + 32 : threads, State::kAtWarp)) progress = true;
        }
        if (release(0, threads, State::kAtBlock)) progress = true;
      }
      for (uint32_t i = 0; i < threads; i++) {
        if (machine.fibers[i].state != State::kDone) die("threads wait at different barriers");
        if (!machine.fibers[i].copies.empty()) die("asynchronous copies were never waited for");
      }
    }
  }
}

void sync() { wait(State::kAtBlock); }
void sync_warp() { wait(State::kAtWarp); }

void exchange(const void* mine, size_t bytes) {
  if (bytes > kExchange) die("an exchange of more than 32 bytes");
  Fiber& f = machine.fibers[machine.running];
  // Two slots in turn: whoever writes the one again has passed the other's meeting, so everybody has read it.
  f.parity ^= 1u;
  memcpy(f.slot[f.parity], mine, bytes);
  sync_warp();
}

const void* of_lane(uint32_t lane) {
  const uint32_t warp = machine.running & ~31u;
  return machine.fibers[warp + lane].slot[machine.fibers[machine.running].parity];
}

void copy_async(void* to, const void* from) {
  check_aligned(to, 16);
  check_aligned(from, 16);
  Fiber& f = machine.fibers[machine.running];
  f.copies.push_back({to, from, f.groups});
}

void copy_commit() { machine.fibers[machine.running].groups++; }

void copy_wait_all_but(int groups) {
  Fiber& f = machine.fibers[machine.running];
  size_t kept = 0;
  for (const Copy& c : f.copies) {
    if (c.group + static_cast<uint32_t>(groups) < f.groups) {
      memcpy(c.to, c.from, 16);
    } else {
      f.copies[kept++] = c;
    }
  }
  f.copies.resize(kept);
}

void check_aligned(const void* p, size_t bytes) {
  if (reinterpret_cast<uintptr_t>(p) % bytes != 0) die("an access that is not aligned");
}

void load_matrices(uint32_t* d, const void* row) {
  check_aligned(row, 16);
  exchange(&row, sizeof row);
  for (uint32_t i = 0; i < 4; i++) {
    const uint8_t* from;
    memcpy(&from, of_lane(8 * i + lane() / 4), sizeof from);
    memcpy(&d[i], from + 4 * (lane() % 4), 4);
  }
}

namespace {

// Thirty-two signed bytes from the words that four lanes of the warp published.
using Bytes = int8_t __attribute__((vector_size(32)));
using Halves = int16_t __attribute__((vector_size(64)));

void gather(const Fiber* lanes, uint32_t parity, uint32_t first_lane, uint32_t word, uint32_t next, Halves* out) {
  uint32_t words[8];
  for (uint32_t k = 0; k < 4; k++) {
    const uint8_t* slot = lanes[first_lane + k].slot[parity];
    memcpy(&words[k], slot + 4 * word, 4);
    memcpy(&words[4 + k], slot + 4 * next, 4);
  }
  Bytes bytes;
  memcpy(&bytes, words, sizeof bytes);
  *out = __builtin_convertvector(bytes, Halves);
}

// A product of two signed bytes has room in 16 bits, a sum of two of them in 17.
int32_t dot(const Halves& a, const Halves& b) {
  const Halves products = a * b;
  int32_t sum = 0;
  for (int i = 0; i < 32; i++) sum += products[i];
  return sum;
}

}  // namespace

void mma_k32(int32_t* d, const uint32_t* a, const uint32_t* b, int32_t c) {
  const uint32_t mine[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
  exchange(mine, sizeof mine);
  const Fiber* lanes = &machine.fibers[machine.running & ~31u];
  const uint32_t parity = machine.fibers[machine.running].parity;
  const uint32_t g = lane() / 4;
  const uint32_t t = lane() % 4;
  // Rows g and g + 8 lie in the same four lanes, as words 0, 2 and 1, 3; columns 2t and 2t + 1 in words 4, 5 of two groups of lanes.
  Halves rows[2], columns[2];
  for (uint32_t i = 0; i < 2; i++) {
    gather(lanes, parity, 4 * g, i, i + 2, &rows[i]);
    gather(lanes, parity, 8 * t + 4 * i, 4, 5, &columns[i]);
  }
  for (uint32_t i = 0; i < 4; i++) d[i] = c + dot(rows[i / 2], columns[i % 2]);
}

void mma_k16(int32_t* d, uint32_t a0, uint32_t a1, uint32_t b0, int32_t c) {
  const uint32_t a[4] = {a0, a1, 0, 0};
  const uint32_t b[2] = {b0, 0};
  mma_k32(d, a, b, c);
}

}  // namespace zg::simt
