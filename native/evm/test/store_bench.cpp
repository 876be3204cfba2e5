// Figures of the state store: a million accounts, then blocks of 2,000 transfers; reads; empty blocks; memory and disk.
// Build: native/evm/test/store_build.sh store_bench; run: store_bench [accounts] [blocks]
#include <chrono>
#include <fstream>

#include "test/store_env.h"

using namespace zg;
using namespace zg::test;

namespace {

double now_ms() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double cpu_ms() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_nsec) / 1e6;
}

size_t resident_mb(const char* field) {
  std::ifstream in("/proc/self/status");
  std::string word;
  while (in >> word)
    if (word == field) {
      size_t kb = 0;
      in >> kb;
      return kb / 1024;
    }
  return 0;
}

size_t disk_bytes(const std::string& dir) {
  size_t n = 0;
  for (const auto& e : std::filesystem::directory_iterator(dir)) n += e.is_regular_file() ? e.file_size() : 0;
  return n;
}

struct Times {
  std::vector<double> v;
  void add(double x) { v.push_back(x); }
  double at(double q) {
    std::sort(v.begin(), v.end());
    return v.empty() ? 0 : v[std::min(v.size() - 1, static_cast<size_t>(q * static_cast<double>(v.size())))];
  }
};

void show(const char* what, Times& t) { std::printf("  %-22s p50 %7.2f ms   p99 %7.2f ms\n", what, t.at(0.5), t.at(0.99)); }

StateDiff transfers(const StateView& view, const std::vector<Address>& who, std::mt19937_64& rng, size_t touched) {
  StateDiff d;
  std::vector<Address> picked;
  for (size_t i = 0; i < touched; i++) picked.push_back(who[rng() % who.size()]);
  picked.push_back(address_of(~uint64_t{0}));  // coinbase
  std::sort(picked.begin(), picked.end());
  picked.erase(std::unique(picked.begin(), picked.end()), picked.end());
  for (const Address& a : picked) {
    AccountChange c;
    c.address = a;
    c.existed = view.account(a, c.before);
    c.exists = true;
    c.after = c.before;
    c.after.nonce++;
    c.after.balance = c.after.balance + U256(rng() % 1000 + 1);
    d.accounts.push_back(c);
  }
  return d;
}

}  // namespace

int main(int argc, char** argv) {
  const size_t accounts = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1'000'000;
  const int blocks = argc > 2 ? std::atoi(argv[2]) : 60;
  TempDir dir;
  std::mt19937_64 rng(7);
  auto kv = open_kv(dir.path + "/kv");
  auto store = open_store(*kv);
  std::vector<Address> who;
  for (size_t i = 0; i < accounts; i++) who.push_back(address_of(i));

  double t = now_ms();
  constexpr size_t kStep = 20'000;
  for (size_t i = 0; i < accounts; i += kStep) {
    StateDiff d;
    for (size_t k = i; k < std::min(accounts, i + kStep); k++) {
      AccountChange c;
      c.address = who[k];
      c.exists = true;
      c.after.balance = U256(1'000'000'000'000'000'000ULL) + U256(rng());
      d.accounts.push_back(c);
    }
    std::sort(d.accounts.begin(), d.accounts.end(), [](const auto& a, const auto& b) { return a.address < b.address; });
    commit(*kv, *store, store->apply(store->head(), std::move(d)));
  }
  std::printf("loaded %zu accounts in %.1f s, %zu MB on disk, resident %zu MB\n", accounts, (now_ms() - t) / 1e3,
              disk_bytes(dir.path + "/kv") >> 20, resident_mb("VmRSS:"));

  Times apply, prepare, write, finish, whole;
  size_t bytes = 0;
  double cpu = cpu_ms();
  for (int b = 0; b < blocks; b++) {
    StateDiff d = transfers(*store->head(), who, rng, 4000);
    std::string message;
    const double t0 = now_ms();
    const auto layer = store->apply(store->head(), std::move(d));
    const double t1 = now_ms();
    const auto batch = kv->batch();
    store->prepare(*layer, *batch);
    const double t2 = now_ms();
    CHECK(kv->write(*batch, true, message));
    const double t3 = now_ms();
    store->committed(layer);
    const double t4 = now_ms();
    bytes += batch->bytes();
    apply.add(t1 - t0);
    prepare.add(t2 - t1);
    write.add(t3 - t2);
    finish.add(t4 - t3);
    whole.add(t4 - t0);
  }
  cpu = cpu_ms() - cpu;
  std::printf("%d blocks of 2,000 transfers (4,001 accounts each), %.0f KB a block, %.1f ms of CPU each\n", blocks,
              static_cast<double>(bytes) / blocks / 1e3, cpu / blocks);
  show("root (apply)", apply);
  show("prepare", prepare);
  show("synced write", write);
  show("committed", finish);
  show("execution to durable", whole);
  std::printf("resident %zu MB (own %zu, files %zu), highest %zu MB\n", resident_mb("VmRSS:"), resident_mb("RssAnon:"), resident_mb("RssFile:"), resident_mb("VmHWM:"));

  const auto head = store->head();
  AccountData data;
  constexpr int kReads = 200'000;
  t = now_ms();
  for (int i = 0; i < kReads; i++) CHECK(head->account(who[rng() % who.size()], data));
  std::printf("random account reads: %.0f k/s\n", kReads / (now_ms() - t));
  std::vector<Address> hot(who.begin(), who.begin() + static_cast<ptrdiff_t>(std::min<size_t>(accounts, 1000)));
  t = now_ms();
  for (int i = 0; i < kReads; i++) CHECK(head->account(hot[rng() % hot.size()], data));
  std::printf("hot account reads: %.0f k/s\n", kReads / (now_ms() - t));
  const auto old = store->at(head->version() - static_cast<uint64_t>(blocks) / 2);
  t = now_ms();
  for (int i = 0; i < 20'000; i++) CHECK(old->account(who[rng() % who.size()], data));
  std::printf("account reads %d versions back: %.0f k/s\n", blocks / 2, 20'000 / (now_ms() - t));
  AccountProof proof;
  std::string message;
  t = now_ms();
  for (int i = 0; i < 1000; i++) CHECK(head->proof(who[rng() % who.size()], {}, proof, message));
  std::printf("proofs at the head: %.1f k/s\n", 1000 / (now_ms() - t));

  // Blocks without transactions: three slots of two system contracts.
  const Address a = address_of(accounts + 1), b = address_of(accounts + 2);
  Times idle;
  bytes = 0;
  constexpr uint64_t kIdle = 3000;
  cpu = cpu_ms();
  for (uint64_t i = 0; i < kIdle; i++) {
    const auto view = store->head();
    StateDiff d;
    for (const Address& who_ : {a, b}) {
      AccountChange c;
      c.address = who_;
      c.existed = view->account(who_, c.before);
      c.exists = true;
      c.before.nonce = c.existed ? 1 : 0;
      c.after.nonce = 1;
      for (uint64_t s = 0; s < (who_ == a ? 1u : 2u); s++) {
        const U256 slot(i % 8191 + 8191 * s);
        c.slots.push_back({slot, view->storage(who_, slot), U256(i + 1, rng(), rng(), rng())});
      }
      d.accounts.push_back(c);
    }
    std::sort(d.accounts.begin(), d.accounts.end(), [](const auto& x, const auto& y) { return x.address < y.address; });
    const double t0 = now_ms();
    const auto layer = store->apply(view, std::move(d));
    const auto batch = kv->batch();
    store->prepare(*layer, *batch);
    CHECK(kv->write(*batch, false, message));
    store->committed(layer);
    bytes += batch->bytes();
    idle.add(now_ms() - t0);
  }
  std::printf("empty blocks: %.0f bytes each, %.3f ms of CPU\n", static_cast<double>(bytes) / kIdle, (cpu_ms() - cpu) / kIdle);
  show("empty block, no sync", idle);
  t = now_ms();
  store.reset();
  store = open_store(*kv);
  std::printf("reopened in %.1f ms; resident %zu MB\n", now_ms() - t, resident_mb("VmRSS:"));
  t = now_ms();
  CHECK(store->recompute_root() == store->head()->root());
  std::printf("root recomputed from flat values in %.1f s\n", (now_ms() - t) / 1e3);
}
