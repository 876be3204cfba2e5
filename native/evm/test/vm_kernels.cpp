// Times small loops in the interpreter: Mgas/s each, the difference of two sizes so that what is fixed drops out. `vm_kernels --code`
// prints the byte code instead (calldata: the number of rounds), so that another engine can run the same.
// Build as vm_test.cpp, with -O3.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <ctime>

#include "precompiles/precompiles.h"
#include "state/memory_state.h"
#include "vm/code.h"
#include "vm/evm.h"

namespace zg {
[[gnu::weak]] PrecompileFn find_precompile(Revision, const Address&) noexcept { return nullptr; }
}  // namespace zg

using namespace zg;

namespace {

// Repeats `body`, which leaves the stack as it found it: [.., rounds].
Bytes loop(const Bytes& before, const Bytes& body) {
  Bytes code = before;
  const Bytes head{0x5f, 0x35};
  code.insert(code.end(), head.begin(), head.end());
  const auto at = static_cast<uint8_t>(code.size());
  code.push_back(0x5b);
  code.insert(code.end(), body.begin(), body.end());
  const Bytes tail{0x60, 0x01, 0x90, 0x03, 0x80, 0x60, at, 0x57, 0x00};
  code.insert(code.end(), tail.begin(), tail.end());
  return code;
}

// Processor time of this thread: other work on the machine does not count.
double thread_seconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}

struct Kernel {
  const char* name;
  Bytes code;
  uint64_t rounds;
};

std::vector<Kernel> kernels() {
  return {
      {"loop", loop({}, {}), 400000},
      {"fib", loop({0x5f, 0x60, 0x01}, {0x91, 0x90, 0x81, 0x01, 0x91}), 200000},  // a b n -> b a+b n
      {"div", loop({}, {0x80, 0x5f, 0x19, 0x04, 0x5f, 0x19, 0x06, 0x50}), 200000},
      {"keccak", loop({}, {0x60, 0x20, 0x5f, 0x20, 0x5f, 0x52}), 50000},
      {"memcpy", loop({}, {0x61, 0x04, 0x00, 0x61, 0x04, 0x00, 0x5f, 0x5e}), 50000},
      {"sload", loop({}, {0x5f, 0x54, 0x50}), 50000},
      {"sstore", loop({}, {0x80, 0x5f, 0x55}), 50000},
      {"sload128", loop({}, {0x80, 0x60, 0x7f, 0x16, 0x54, 0x50}), 200000},
      {"sstore128", loop({}, {0x80, 0x80, 0x60, 0x7f, 0x16, 0x55}), 200000},
  };
}

struct Run {
  uint64_t gas = 0;
  double seconds = 0;
  Status status = Status::success;
};
Run run(const std::shared_ptr<const Code>& code, uint64_t rounds) {
  MemoryState base;
  Address self{}, caller{};
  self.b[19] = 0xaa;
  caller.b[19] = 0xbb;
  base.put(self, 1, {}, code, {});
  WorkingState state(base);
  state.begin_transaction();
  const BlockEnv block;
  const TxEnv tx;
  const Precompiles precompiles;
  Evm evm(Revision::osaka, state, block, tx, precompiles);
  const Hash input = U256{rounds}.be();
  Message m;
  m.gas = uint64_t{1} << 40;
  m.sender = caller;
  m.recipient = m.code_address = self;
  m.input = input;
  const double start = thread_seconds();
  const Result r = evm.run(m);
  return {m.gas - r.gas_left, thread_seconds() - start, r.status};
}

}  // namespace

int main(int argc, char** argv) {
  for (const Kernel& k : kernels()) {
    if (argc > 1 && std::strcmp(argv[1], "--code") == 0) {
      std::printf("%s %llu %s\n", k.name, static_cast<unsigned long long>(k.rounds), to_hex(k.code).c_str());
      continue;
    }
    const auto code = Code::make(Bytes(k.code));
    double best = 0, worst = 1e18;
    for (int i = 0; i < 5; ++i) {
      const Run one = run(code, k.rounds), two = run(code, 2 * k.rounds);
      if (one.status != Status::success || two.status != Status::success) return std::printf("%s failed\n", k.name), 1;
      const double rate = static_cast<double>(two.gas - one.gas) / (two.seconds - one.seconds) / 1e6;
      best = std::max(best, rate);
      worst = std::min(worst, rate);
    }
    std::printf("%-8s %9.0f Mgas/s (slowest %.0f)\n", k.name, best, worst);
  }
  return 0;
}
