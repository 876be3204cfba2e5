// Power loss at every operation of the disk under the whole chain: block log, pool journal, state, indexes.
//
// A run submits signed transfers and commits blocks, closing and opening once in between, on a disk that stops at its n-th operation. Then the disk loses
// what was not synced, in every way that FaultEnv knows, and the chain opens again: its head is the last block that was reported or the one after it; its
// state's root, recomputed from flat values, is the header's; every block up to it reads; every acknowledged transaction is in a block or in the pool, and
// gets into a block when the chain goes on. With --canary syncs do nothing, and that must be found.
//
// Build, from the root after scripts/build-native.mjs: sh native/evm/test/chain_build.sh chain_crash; run: build/chain/chain_crash [--canary] [step]
#include <string_view>

#include "test/chain_scenario.h"
#include "test/fault_env.h"

using namespace zg;
using namespace zg::test;

namespace {

constexpr uint64_t kBlocks = 10, kPerBlock = 6, kSenders = 4, kGas = 30'000'000;

struct World {
  std::vector<Address> accounts;
  std::vector<std::vector<Bytes>> batches;  // one before each block
};

World make_world() {
  World w;
  for (uint64_t i = 0; i < kSenders; ++i) w.accounts.push_back(*address_of_secret(secret_of(i)));
  std::vector<uint64_t> nonces(kSenders);
  for (uint64_t b = 0; b < kBlocks; ++b) {
    w.batches.emplace_back();
    for (uint64_t i = 0; i < kPerBlock; ++i) {
      const uint64_t who = (b + i) % kSenders;
      Address to{};
      to.b[0] = static_cast<uint8_t>(b + 1);
      to.b[1] = static_cast<uint8_t>(i);
      w.batches.back().push_back(transfer(secret_of(who), nonces[who]++, to, 1 + i));
    }
  }
  return w;
}

Chain::Options options_of(FaultEnv& env, const World& w) {
  Chain::Options o;
  o.dir = "/chain";
  o.genesis = genesis_with(w.accounts, kGas);
  o.kv.env = &env;
  o.kv.write_buffer = 64 << 10;
  o.kv.block_cache = 1 << 20;
  o.state.cache_bytes = 1 << 20;
  o.log_segment_bytes = 4 << 10;  // several segments
  o.threads = 1;
  return o;
}

struct Run {
  std::vector<Hash> acknowledged;
  std::vector<Hash> made;     // block hashes from 1 on, as built
  uint64_t reported = 0;      // last block whose commit returned
};

std::vector<ByteView> views(const std::vector<Bytes>& batch) {
  std::vector<ByteView> out;
  for (const Bytes& b : batch) out.emplace_back(b);
  return out;
}

// Until everything is done or the disk fails.
void go(FaultEnv& env, const World& w, Run& run) {
  std::unique_ptr<Chain> chain;
  if (Chain::open(options_of(env, w), chain)) return;
  for (uint64_t b = 0; b < kBlocks; ++b) {
    if (b == kBlocks / 2) {
      chain.reset();
      if (Chain::open(options_of(env, w), chain)) return;
    }
    for (const auto& a : chain->submit(views(w.batches[b])))
      if (a.refusal.empty()) run.acknowledged.push_back(a.hash);
    std::shared_ptr<const StoredBlock> block, committed;
    if (chain->build(attributes_of(b + 1, kGas), 60'000, block)) return;
    run.made.push_back(block->block.hash);
    // The last transactions stay in the pool.
    if (b + 1 == kBlocks) return;
    if (chain->commit(block->block.hash, committed)) return;
    run.reported = b + 1;
  }
}

// Empty when all is well.
std::string check(FaultEnv& env, const World& w, const Run& run) {
  std::unique_ptr<Chain> chain;
  if (const Failure f = Chain::open(options_of(env, w), chain)) return f.message;
  const auto head = chain->head();
  const uint64_t n = head->header.number;
  if (n < run.reported) return "block " + std::to_string(n) + " where " + std::to_string(run.reported) + " was reported";
  if (n > run.made.size() || n > run.reported + 1) return "block " + std::to_string(n) + " was never made";
  if (chain->recompute_state_root() != head->header.state_root) return "flat values come to another root than the header's";
  for (uint64_t i = 1; i <= n; ++i) {
    const auto block = chain->by_number(i);
    if (block == nullptr) return "block " + std::to_string(i) + " does not read";
    if (block->block.hash != run.made[i - 1]) return "block " + std::to_string(i) + " is another one";
  }
  for (const Hash& h : run.acknowledged)
    if (!chain->locate(h) && chain->pool().get(h) == nullptr) return "an acknowledged transaction is lost";
  std::shared_ptr<const StoredBlock> block, committed;
  for (int i = 0; i < 2; ++i) {
    if (const Failure f = chain->build(attributes_of(chain->head()->header.number + 1, kGas), 60'000, block)) return f.message;
    if (const Failure f = chain->commit(block->block.hash, committed)) return f.message;
  }
  for (const Hash& h : run.acknowledged)
    if (!chain->locate(h)) return "an acknowledged transaction gets into no block";
  if (chain->recompute_state_root() != chain->head()->header.state_root) return "going on comes to another root";
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  bool canary = false;
  uint64_t step = 1;
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]) == "--canary") canary = true;
    else step = std::max<uint64_t>(1, std::strtoull(argv[i], nullptr, 10));
  }
  const World w = make_world();
  uint64_t total = 0;
  {
    FaultEnv env;
    Run run;
    go(env, w, run);
    total = env.operations();
    if (run.reported + 1 != kBlocks || run.acknowledged.size() != kBlocks * kPerBlock) {
      std::printf("the scenario itself does not run: %llu blocks\n", static_cast<unsigned long long>(run.reported));
      return 1;
    }
  }
  uint64_t points = 0, reopened = 0, found = 0;
  for (uint64_t n = 1; n <= total; n += step) {
    ++points;
    for (const Loss loss : {Loss::none, Loss::all, Loss::prefix, Loss::subset}) {
      FaultEnv env;
      env.ignore_syncs(canary);
      env.stop_at(n);
      Run run;
      go(env, w, run);
      env.crash(loss, n);
      env.ignore_syncs(false);
      ++reopened;
      const std::string wrong = check(env, w, run);
      if (wrong.empty()) continue;
      ++found;
      if (!canary) std::printf("stopped at operation %llu, loss %d: %s\n", static_cast<unsigned long long>(n), static_cast<int>(loss), wrong.c_str());
    }
  }
  std::printf("%llu operations of the disk, %llu points, %llu reopenings, %llu faults%s\n", static_cast<unsigned long long>(total),
              static_cast<unsigned long long>(points), static_cast<unsigned long long>(reopened), static_cast<unsigned long long>(found),
              canary ? " (syncs ignored: there must be some)" : "");
  return (found != 0) == canary ? 0 : 1;
}
