// What a transfer costs from its raw bytes to a durable block: 20 000 of them, signed beforehand, through submit, build and commit; and what an idle block costs.
// CPU time of the whole process, and the chain's own clocks by phase (wall).
//
// Build, from the root after scripts/build-native.mjs: sh native/evm/test/chain_build.sh chain_bench; run: build/chain/chain_bench DIR [transfers] [senders]
// DIR must not be there.
#include <sys/resource.h>

#include <chrono>
#include <string>

#include "test/chain_scenario.h"

using namespace zg;
using namespace zg::test;

namespace {

double cpu_us() {
  rusage u{};
  getrusage(RUSAGE_SELF, &u);
  const auto us = [](const timeval& t) { return static_cast<double>(t.tv_sec) * 1e6 + static_cast<double>(t.tv_usec); };
  return us(u.ru_utime) + us(u.ru_stime);
}
double wall_us() {
  return static_cast<double>(
      std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now().time_since_epoch()).count());
}

struct Span {
  double cpu = cpu_us(), wall = wall_us();
  void print(const char* what, double n, const char* unit) const {
    std::printf("%-24s %9.2f us CPU  %9.2f us wall   a %s\n", what, (cpu_us() - cpu) / n, (wall_us() - wall) / n, unit);
  }
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  const size_t count = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 20'000;
  const size_t senders = argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 1'000;
  constexpr uint64_t kGas = 500'000'000;
  constexpr size_t kBatch = 1'000;
  std::vector<Address> accounts;
  for (size_t i = 0; i < senders; ++i) accounts.push_back(*address_of_secret(secret_of(i)));
  std::vector<Bytes> raw;
  for (size_t i = 0; i < count; ++i) {
    const Hash to = keccak({reinterpret_cast<const uint8_t*>(&i), sizeof i});
    raw.push_back(transfer(secret_of(i % senders), i / senders, Address::from(to.b), 1));
  }
  Chain::Options o;
  o.dir = argv[1];
  o.genesis = genesis_with(accounts, kGas);
  o.pool.count = count + 1;
  o.pool.queued_per_sender = 100'000;
  std::unique_ptr<Chain> chain;
  if (const Failure f = Chain::open(std::move(o), chain)) {
    std::printf("%s\n", f.message.c_str());
    return 1;
  }
  const Span all;
  size_t accepted = 0;
  {
    const Span s;
    for (size_t at = 0; at < count; at += kBatch) {
      std::vector<ByteView> batch(raw.begin() + static_cast<std::ptrdiff_t>(at), raw.begin() + static_cast<std::ptrdiff_t>(std::min(count, at + kBatch)));
      for (const auto& a : chain->submit(batch)) accepted += a.refusal.empty() ? 1 : 0;
    }
    s.print("submit", static_cast<double>(count), "transfer");
  }
  size_t blocks = 0, mined = 0;
  while (mined < accepted) {
    std::shared_ptr<const StoredBlock> block, committed;
    const Span b;
    if (const Failure f = chain->build(attributes_of(blocks + 1, kGas), 60'000, block)) return std::printf("%s\n", f.message.c_str()), 1;
    const double n = static_cast<double>(std::max<size_t>(1, block->block.transactions.size()));
    b.print("build", n, "transfer");
    const Span c;
    if (const Failure f = chain->commit(block->block.hash, committed)) return std::printf("%s\n", f.message.c_str()), 1;
    c.print("commit", n, "transfer");
    if (block->block.transactions.empty()) break;
    mined += block->block.transactions.size();
    ++blocks;
  }
  all.print("all", static_cast<double>(count), "transfer");
  std::printf("%zu of %zu accepted, %zu mined in %zu blocks\n", accepted, count, mined, blocks);
  for (const auto& [name, value] : chain->stats())
    if (name.size() > 2 && name.compare(name.size() - 2, 2, "Us") == 0) std::printf("  %-12s %8.2f us a transfer\n", name.c_str(), value / static_cast<double>(count));
  const Span idle;
  constexpr int kIdle = 50;
  for (int i = 0; i < kIdle; ++i) {
    std::shared_ptr<const StoredBlock> block, committed;
    if (chain->build(attributes_of(blocks + 1 + static_cast<uint64_t>(i), kGas), 1'000, block) || chain->commit(block->block.hash, committed)) return 1;
  }
  idle.print("idle block", kIdle, "block");
  return 0;
}
