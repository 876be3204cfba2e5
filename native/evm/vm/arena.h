// Where frames keep stack and memory: a few large blocks that every frame of an execution shares, and that the next execution takes
// over, so that a call allocates nothing.
#pragma once

#include <memory>
#include <vector>

#include "base/types.h"
#include "base/u256.h"
#include "state/working_state.h"
#include "vm/evm.h"
#include "vm/schedule.h"

namespace zg {

// One running message.
struct Frame {
  // The interpreter's registers while it does not run.
  const uint8_t* pc = nullptr;
  U256* sp = nullptr;  // one above the top
  uint64_t gas = 0;
  // Fixed for its life.
  const Code* code = nullptr;
  U256* base = nullptr;  // of the stack
  Account* self = nullptr;
  ByteView input;
  Address recipient{}, sender{}, code_address{};
  U256 value;
  size_t checkpoint = 0;
  uint64_t gas_given = 0;
  int depth = 0;
  CallKind kind = CallKind::call;
  bool is_static = false;
  bool step_open = false;  // the tracer has seen an instruction begin and not end
  std::shared_ptr<const Code> held;  // init code lives as long as its frame
  // Memory: in `chunk` of the arena; moves when it grows, never while a child runs.
  uint8_t* mem = nullptr;
  uint64_t mem_size = 0;  // a multiple of 32
  uint64_t mem_room = 0;  // bytes behind `mem` that are its own
  uint32_t chunk = 0;
  // How it ended, and what it leaves: a part of its memory.
  Status status = Status::success;
  uint64_t out_at = 0, out_size = 0;
  // Where the caller wants the output.
  uint64_t ret_at = 0, ret_size = 0;
};

// Used by one thread at a time.
class Arena {
 public:
  // From the pool, or new.
  static std::unique_ptr<Arena> acquire();
  static void release(std::unique_ptr<Arena> arena);

  Arena();
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // A new frame above the top one: its stack begins where that one's ends, and so does its memory.
  Frame& push();
  void pop() noexcept;
  [[nodiscard]] Frame* top() noexcept { return count_ == 0 ? nullptr : frames_[count_ - 1].get(); }
  // Makes the memory of the top frame `size` bytes (a multiple of 32, larger than it is); the new part is zero.
  void grow(Frame& frame, uint64_t size);

 private:
  struct Chunk {
    uint8_t* data;
    uint64_t size;
  };
  U256* stack_;
  std::vector<Chunk> chunks_;
  std::vector<std::unique_ptr<Frame>> frames_;
  size_t count_ = 0;
  size_t deepest_ = 0;
};

}  // namespace zg
