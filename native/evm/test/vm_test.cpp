// Checks of the interpreter that need no fixtures: 256-bit arithmetic against a slow reference on random and border values (the seed is
// printed), instructions with borders, the price of memory, deep calls, stopping.
// Build: native/evm/test/build.sh vm_test, or
//   g++ -std=c++20 -O2 -fno-exceptions -fno-rtti -Wall -Wextra -Inative/evm -Inative/codec native/evm/test/vm_test.cpp <sources of base, vm, state, codec>
// Run: vm_test [seed]
#include <cstdio>
#include <cstdlib>
#include <random>

#include "precompiles/precompiles.h"
#include "state/memory_state.h"
#include "vm/code.h"
#include "vm/evm.h"

namespace zg {
// A double for builds without the precompiles: none exist.
[[gnu::weak]] PrecompileFn find_precompile(Revision, const Address&) noexcept { return nullptr; }
}  // namespace zg

using namespace zg;

namespace {

int failures = 0;
void check(bool ok, const char* what) {
  if (ok) return;
  ++failures;
  std::printf("FAILED: %s\n", what);
}

// ---- arithmetic, bit by bit over 512 bits

struct Big {
  uint64_t w[9] = {};
};
bool bit(const Big& x, int i) { return (x.w[i / 64] >> (i % 64) & 1) != 0; }
Big of(const U256& x) {
  Big b;
  for (int i = 0; i < 4; ++i) b.w[i] = x.w[i];
  return b;
}
Big sum(const Big& a, const Big& b) {
  Big r;
  uint64_t c = 0;
  for (int i = 0; i < 9; ++i) r.w[i] = addc(a.w[i], b.w[i], c);
  return r;
}
Big product(const U256& a, const U256& b) {
  Big r;
  for (int i = 255; i >= 0; --i) {
    r = sum(r, r);
    if (bit(of(a), i)) r = sum(r, of(b));
  }
  return r;
}
// Shift and subtract; d is not zero.
void slow_divide(const Big& a, const U256& d, Big& q, U256& rest) {
  Big r;
  q = {};
  for (int i = 575; i >= 0; --i) {
    r = sum(r, r);
    r.w[0] |= bit(a, i) ? 1 : 0;
    bool below = r.w[4] == 0;
    if (below) below = U256{r.w[0], r.w[1], r.w[2], r.w[3]} < d;
    if (below) continue;
    uint64_t c = 0;
    for (int k = 0; k < 9; ++k) r.w[k] = subb(r.w[k], k < 4 ? d.w[k] : 0, c);
    q.w[i / 64] |= uint64_t{1} << (i % 64);
  }
  rest = {r.w[0], r.w[1], r.w[2], r.w[3]};
}
U256 low(const Big& x) { return {x.w[0], x.w[1], x.w[2], x.w[3]}; }

U256 any(std::mt19937_64& rng) {
  static constexpr uint64_t kBorders[] = {0, 1, 2, ~uint64_t{0}, ~uint64_t{0} - 1, uint64_t{1} << 63, (uint64_t{1} << 63) - 1, uint64_t{1} << 32};
  U256 x;
  const auto words = rng() % 5;
  for (unsigned i = 0; i < words; ++i) x.w[i] = rng() % 3 == 0 ? kBorders[rng() % 8] : rng() >> (rng() % 4 == 0 ? rng() % 64 : 0);
  return x;
}

void arithmetic(uint64_t seed) {
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  std::mt19937_64 rng(seed);
  for (int i = 0; i < 20000 && failures < 10; ++i) {
    const U256 a = any(rng), b = any(rng), m = any(rng);
    check(a + b == low(sum(of(a), of(b))), "sum");
    check((a + b) - b == a, "difference");
    check(less(a, b) == (a < b), "less");
    check(less_signed(a, b) == (a.negative() != b.negative() ? a.negative() : a < b), "less_signed");
    const Big p = product(a, b);
    check(a * b == low(p), "product");
    U256 checked;
    check(mul_checked(a, b, checked) == ((p.w[4] | p.w[5] | p.w[6] | p.w[7]) == 0), "mul_checked");
    const auto n = static_cast<unsigned>(rng() % 300);
    U256 left = a, right = a, signed_right = a;
    for (unsigned k = 0; k < n; ++k) {
      left = left + left;
      const auto half = [](const U256& x, uint64_t top) {
        return U256{x.w[0] >> 1 | x.w[1] << 63, x.w[1] >> 1 | x.w[2] << 63, x.w[2] >> 1 | x.w[3] << 63, x.w[3] >> 1 | top << 63};
      };
      right = half(right, 0);
      signed_right = half(signed_right, signed_right.w[3] >> 63);
    }
    check((a << n) == left, "shift left");
    check((a >> n) == right, "shift right");
    check(sar(a, n) == signed_right, "arithmetic shift");
    Big q;
    U256 rest;
    if (b.is_zero()) {
      check(divmod(a, b).quotient.is_zero() && divmod(a, b).remainder.is_zero(), "division by zero");
    } else {
      slow_divide(of(a), b, q, rest);
      const DivResult d = divmod(a, b);
      check(d.quotient == low(q) && d.remainder == rest, "division");
      const DivResult s = sdivmod(a, b);
      check(s.quotient * b + s.remainder == a, "signed division adds up");
      check(s.remainder.is_zero() || s.remainder.negative() == a.negative(), "sign of a remainder");
    }
    if (m.is_zero()) {
      check(addmod(a, b, m).is_zero() && mulmod(a, b, m).is_zero(), "modulo zero");
    } else {
      slow_divide(sum(of(a), of(b)), m, q, rest);
      check(addmod(a, b, m) == rest, "addmod");
      slow_divide(p, m, q, rest);
      check(mulmod(a, b, m) == rest, "mulmod");
    }
    if (i % 50 == 0) {
      U256 power = 1;
      const unsigned e = static_cast<unsigned>(rng() % 40);
      for (unsigned k = 0; k < e; ++k) power = power * a;
      check(exp(a, e) == power, "power");
      U256 back;
      for (const char c : to_decimal(a)) back = back * U256{10} + U256{static_cast<uint64_t>(c - '0')};
      check(back == a, "decimal");
    }
  }
  check(to_decimal({}) == "0", "decimal of zero");
  check(to_decimal(~U256{}) == "115792089237316195423570985008687907853269984665640564039457584007913129639935", "largest decimal");
}

// ---- messages

Address address_of(uint8_t last) {
  Address a{};
  a.b[0] = 0xaa;
  a.b[19] = last;
  return a;
}

struct Bench {
  MemoryState base;
  BlockEnv block;
  TxEnv tx;
  Precompiles precompiles;
  Revision revision = Revision::osaka;

  Result run(const Bytes& code, uint64_t gas, ByteView input = {}, Tracer* tracer = nullptr, const EvmLimits& limits = {}) {
    base.put(address_of(1), 1, U256{1000}, Code::make(Bytes(code)), {});
    WorkingState state(base);
    state.begin_transaction();
    Evm evm(revision, state, block, tx, precompiles, tracer, limits);
    Message m;
    m.gas = gas;
    m.sender = address_of(2);
    m.recipient = m.code_address = address_of(1);
    m.input = input;
    return evm.run(m);
  }
};

// Code that leaves one word: `body` puts it on the stack.
Bytes returning(Bytes body) {
  const Bytes tail{0x5f, 0x52, 0x60, 0x20, 0x5f, 0xf3};
  body.insert(body.end(), tail.begin(), tail.end());
  return body;
}
void push(Bytes& code, const U256& x) {
  code.push_back(0x7f);
  const Hash h = x.be();
  code.insert(code.end(), h.b, h.b + 32);
}
// The result of an instruction on operands, the first on top.
U256 result_of(Bench& b, uint8_t op, std::vector<U256> operands) {
  Bytes code;
  for (auto i = operands.rbegin(); i != operands.rend(); ++i) push(code, *i);
  code.push_back(op);
  const Result r = b.run(returning(code), 1000000);
  check(r.status == Status::success && r.output.size() == 32, "an instruction runs");
  return r.output.size() == 32 ? U256::from_be(r.output.data()) : U256{};
}

void instructions() {
  Bench b;
  const U256 max = ~U256{}, min{0, 0, 0, uint64_t{1} << 63};
  const auto is = [&](uint8_t op, std::vector<U256> in, const U256& want, const char* what) { check(result_of(b, op, std::move(in)) == want, what); };
  is(0x01, {max, 1}, 0, "ADD wraps");
  is(0x03, {0, 1}, max, "SUB wraps");
  is(0x05, {min, max}, min, "SDIV of the smallest by -1");
  is(0x07, {-U256{7}, 3}, -U256{1}, "SMOD has the sign of the dividend");
  is(0x06, {7, 0}, 0, "MOD by zero");
  is(0x08, {max, max, 12}, U256{6}, "ADDMOD does not wrap");
  is(0x0a, {0, 0}, 1, "EXP 0^0");
  is(0x0b, {0, 0xff}, max, "SIGNEXTEND of a byte");
  is(0x0b, {31, min}, min, "SIGNEXTEND of everything");
  is(0x0b, {max, 0x80}, 0x80, "SIGNEXTEND far out");
  is(0x12, {max, 0}, 1, "SLT");
  is(0x13, {0, min}, 1, "SGT");
  is(0x1a, {31, 0x1234}, 0x34, "BYTE counts from the top");
  is(0x1a, {32, max}, 0, "BYTE out of range");
  is(0x1b, {256, max}, 0, "SHL by everything");
  is(0x1d, {300, min}, max, "SAR by more than everything");
  is(0x1e, {0}, 256, "CLZ of zero");
  is(0x1e, {min}, 0, "CLZ of the top bit");
  is(0x35, {max}, 0, "CALLDATALOAD far out");
  is(0x20, {0, 0}, U256::from(empty_code_hash()), "KECCAK256 of nothing");
  is(0x40, {5}, 0, "BLOCKHASH of the future");
  // A PUSH that the code ends in the middle of reads zeros, and the program stops.
  check(b.run({0x7f, 0x01}, 3).status == Status::success, "PUSH32 at the end");
  check(b.run({0x60, 0x01, 0x56}, 100).status == Status::invalid_jump, "a jump to a push");
  check(b.run({0x60, 0x04, 0x56, 0x60, 0x5b}, 100).status == Status::invalid_jump, "a JUMPDEST in push data is none");
  check(b.run({0x50}, 100).status == Status::stack_underflow, "POP of nothing");
  check(b.run({0x0c}, 100).status == Status::invalid_opcode, "an undefined instruction");
  Bytes deep(1025, 0x5f);
  check(b.run(deep, 100000).status == Status::stack_overflow, "1025 words");
  deep.pop_back();
  check(b.run(deep, 100000).status == Status::success, "1024 words");
  check(b.run({0x5f, 0x5f, 0xfd}, 100).gas_left == 96, "REVERT gives gas back");
  check(b.run({0x60, 0x01, 0x5f, 0x5f, 0x3e}, 100).status == Status::return_data_bounds, "RETURNDATACOPY beyond the buffer");
  b.revision = Revision::prague;
  check(b.run({0x5f, 0x1e}, 100).status == Status::invalid_opcode, "CLZ is new in Osaka");
  b.revision = Revision::paris;
  check(b.run({0x5f}, 100).status == Status::invalid_opcode, "PUSH0 is new in Shanghai");
}

void memory_prices() {
  Bench b;
  // PUSH1 0, PUSH3 at, MSTORE: 9 gas and the memory. 3w + w*w/512.
  for (const uint64_t at : {0u, 1u, 32u, 1000u, 22496u, 100000u, 1000000u}) {
    const uint64_t w = (at + 32 + 31) / 32;
    const uint64_t price = 9 + 3 * w + w * w / 512;
    const Bytes code{0x60, 0x00, 0x62, static_cast<uint8_t>(at >> 16), static_cast<uint8_t>(at >> 8), static_cast<uint8_t>(at), 0x52};
    check(b.run(code, price).status == Status::success, "memory for its price");
    check(b.run(code, price - 1).status == Status::out_of_gas, "no memory below its price");
  }
  Bytes far;
  push(far, 1);
  push(far, ~U256{});
  far.push_back(0xf3);
  check(b.run(far, ~uint64_t{0}).status == Status::out_of_gas, "memory at 2^256");
  // RETURN of nothing anywhere costs nothing.
  Bytes nowhere;
  push(nowhere, 0);
  push(nowhere, ~U256{});
  nowhere.push_back(0xf3);
  check(b.run(nowhere, 6).status == Status::success, "no bytes at 2^256");
}

void deep_calls() {
  Bench b;
  // Calls itself with all gas until the depth is used up, and counts: returns 1 + what the call returned.
  const Bytes code{0x60, 0x20, 0x5f, 0x5f, 0x5f, 0x5f, 0x30, 0x5a, 0xf1, 0x50, 0x5f, 0x51, 0x60, 0x01, 0x01, 0x5f, 0x52, 0x60, 0x20, 0x5f, 0xf3};
  const Result r = b.run(code, uint64_t{1} << 60);
  check(r.status == Status::success && U256::from_be(r.output.data()) == U256{1025}, "1025 frames");
}

struct Counter : Tracer {
  uint64_t steps = 0, ends = 0, enters = 0, exits = 0, cost = 0, before = 0;
  void on_step(const Step& s) override {
    ++steps;
    before = s.gas;
  }
  void on_step_end(uint64_t gas, Status) override {
    ++ends;
    cost += before - gas;
  }
  void on_enter(const Message&, ByteView) override { ++enters; }
  void on_exit(const Message&, const Result&, uint64_t) override { ++exits; }
};

void traced() {
  Bench b;
  const Bytes code{0x60, 0x20, 0x5f, 0x5f, 0x5f, 0x5f, 0x30, 0x5a, 0xf1, 0x50, 0x5f, 0x51, 0x60, 0x01, 0x01, 0x5f, 0x52, 0x60, 0x20, 0x5f, 0xf3};
  Counter c;
  const Result with = b.run(code, 200000, {}, &c);
  const Result without = b.run(code, 200000);
  check(with.gas_left == without.gas_left && with.output == without.output, "tracing changes nothing");
  check(c.steps == c.ends && c.enters == c.exits && c.enters > 2, "each begin has its end");
}

void stopping() {
  Bench b;
  std::atomic<bool> stop{true};
  const Bytes forever{0x5b, 0x5f, 0x56};
  check(b.run(forever, uint64_t{1} << 40, {}, nullptr, {&stop}).status == Status::stopped, "an endless loop stops when asked");
}

}  // namespace

int main(int argc, char** argv) {
  arithmetic(argc > 1 ? std::strtoull(argv[1], nullptr, 10) : std::random_device{}());
  instructions();
  memory_prices();
  deep_calls();
  traced();
  stopping();
  std::printf(failures == 0 ? "ok\n" : "%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
