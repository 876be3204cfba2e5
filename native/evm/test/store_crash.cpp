// Power loss at every operation of the disk under the state store: what was reported as durable is there afterwards, complete.
//
// A run commits random versions with sync on a disk that stops at its n-th operation; then the disk loses what was not synced, in every
// way that FaultEnv knows, and the store opens again: its head is the last version that was reported, or the one after it, and the root
// that its flat values come to is the stored one. It then goes on for two versions. With --canary syncs do nothing, and that must be found.
// Build: native/evm/test/store_build.sh store_crash; run: store_crash [--canary] [seed] [step]
#include "test/fault_env.h"
#include "test/store_env.h"

using namespace zg;
using namespace zg::test;

namespace {

struct Run {
  std::vector<Hash> roots;   // by version, as computed
  std::vector<Model> models;
  uint64_t reported = 0;     // last version whose write returned
};

KvStore::Options disk(FaultEnv& env) {
  KvStore::Options o;
  o.env = &env;
  o.write_buffer = 64 << 10;  // small, so that tables and compactions are among the operations
  return o;
}

// Commits versions until there are `versions` or the disk fails.
void go(FaultEnv& env, Run& run, uint64_t seed, uint64_t versions) {
  std::mt19937_64 rng(seed);
  std::unique_ptr<KvStore> kv;
  std::string message;
  if (KvStore::open("/db", disk(env), kv, message) != KvStore::Error::none) return;
  std::unique_ptr<StateStore> store;
  if (!StateStore::open(*kv, {}, store, message)) return;
  Model model;
  while (run.models.size() <= versions) {
    StateDiff d = random_change(model, rng, 150, 30, rng() % 3 == 0);
    const auto layer = store->apply(store->head(), std::move(d));
    run.roots.push_back(view_of(*layer).root());
    run.models.push_back(model);
    const auto batch = kv->batch();
    store->prepare(*layer, *batch);
    if (!kv->write(*batch, true, message)) return;
    run.reported = run.roots.size() - 1;
    store->committed(layer);
  }
}

// Empty when all is well.
std::string check(FaultEnv& env, const Run& run) {
  std::unique_ptr<KvStore> kv;
  std::string message;
  if (KvStore::open("/db", disk(env), kv, message) != KvStore::Error::none) return message;
  std::unique_ptr<StateStore> store;
  if (!StateStore::open(*kv, {}, store, message)) return message;
  const uint64_t v = store->head()->version();
  if (v < run.reported) return "version " + std::to_string(v) + " where " + std::to_string(run.reported) + " was reported";
  if (v >= run.roots.size() || v > run.reported + 1) return "version " + std::to_string(v) + " was never made";
  if (store->head()->root() != run.roots[v]) return "another root than the version had";
  if (store->recompute_root() != run.roots[v]) return "flat values come to another root";
  std::mt19937_64 rng(v);
  Model model = run.models[v];
  check_view(*store->head(), model, 150, rng, 20);
  for (int i = 0; i < 2; i++) {
    const auto layer = store->apply(store->head(), random_change(model, rng, 150, 30, true));
    const auto batch = kv->batch();
    store->prepare(*layer, *batch);
    if (!kv->write(*batch, true, message)) return message;
    store->committed(layer);
  }
  if (store->head()->root() != root_of(model) || store->recompute_root() != root_of(model)) return "going on comes to another root";
  if (v > 1 && store->at(v - 1)->root() != run.roots[v - 1]) return "the past is another";
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  bool canary = false;
  uint64_t seed = 0, step = 0;
  for (int i = 1; i < argc; i++) {
    if (std::string_view(argv[i]) == "--canary")
      canary = true;
    else if (seed == 0)
      seed = std::strtoull(argv[i], nullptr, 10);
    else
      step = std::strtoull(argv[i], nullptr, 10);
  }
  if (seed == 0) seed = std::random_device{}();
  if (step == 0) step = 1;
  constexpr uint64_t kVersions = 24;
  uint64_t total = 0;
  {
    FaultEnv env;
    Run run;
    run.roots.push_back(empty_trie_root());
    run.models.emplace_back();
    go(env, run, seed, kVersions);
    total = env.operations();
  }
  std::printf("seed %llu, %llu versions, %llu operations of the disk, every %llu.\n", static_cast<unsigned long long>(seed),
              static_cast<unsigned long long>(kVersions), static_cast<unsigned long long>(total), static_cast<unsigned long long>(step));
  uint64_t points = 0, reopened = 0, found = 0;
  for (uint64_t n = 1; n <= total; n += step) {
    points++;
    for (const Loss loss : {Loss::none, Loss::all, Loss::prefix, Loss::subset}) {
      FaultEnv env;
      env.ignore_syncs(canary);
      env.stop_at(n);
      Run run;
      run.roots.push_back(empty_trie_root());
      run.models.emplace_back();
      go(env, run, seed, kVersions);
      env.crash(loss, seed ^ n);
      env.ignore_syncs(false);
      reopened++;
      const std::string wrong = check(env, run);
      if (wrong.empty()) continue;
      found++;
      if (!canary) std::printf("stopped at operation %llu, loss %d: %s\n", static_cast<unsigned long long>(n), static_cast<int>(loss), wrong.c_str());
    }
  }
  std::printf("%llu points, %llu reopenings, %llu faults%s\n", static_cast<unsigned long long>(points), static_cast<unsigned long long>(reopened),
              static_cast<unsigned long long>(found), canary ? " (syncs ignored: there must be some)" : "");
  return (found != 0) == canary ? 0 : 1;
}
