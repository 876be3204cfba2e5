// The chain under many threads at once, for the thread sanitizer: one builds and commits blocks, writes development changes and undoes blocks, as the chain's
// worker does; two submit signed transfers; four read everything that "any thread at any time" may (chain/chain.h). What is read must fit together, too.
//
//   node scripts/evm-programs.mjs --threads exec_threads && build/sanitize/threads/exec_threads DIR [blocks]
//
// DIR must not be there. Exit status 0: nothing found; 1: something does not fit; the sanitizer ends the program with 66 when it finds a race.
#include <atomic>
#include <string>
#include <thread>

#include "test/chain_scenario.h"

using namespace zg;
using namespace zg::test;

#if defined(__SANITIZE_THREAD__)
// LevelDB orders its memory by barriers that the sanitizer does not know, and is not compiled under it.
extern "C" const char* __tsan_default_suppressions() { return "race:^leveldb::\n"; }
#endif

namespace {

constexpr uint64_t kGas = 30'000'000;
constexpr size_t kSenders = 64, kSubmitters = 2, kReaders = 4, kBatch = 48;

std::atomic<bool> done{false};
std::atomic<int> wrong{0};
std::atomic<uint64_t> submitted{0}, accepted{0}, looked{0};

void expect(bool right, const char* what) {
  if (right) return;
  std::printf("WRONG %s\n", what);
  ++wrong;
}

// Sender i belongs to submitter i mod kSubmitters; the chain may have gone back, so the next nonce is asked for.
void submit(Chain& chain, size_t me, const std::vector<Address>& accounts) {
  uint64_t salt = me;
  std::vector<uint64_t> next(accounts.size());
  while (!done) {
    if (chain.pool().counts().pending > 2'000) {
      std::this_thread::yield();
      continue;
    }
    std::vector<Bytes> raw;
    for (size_t k = 0; k < kBatch; ++k) {
      const size_t i = (me + kSubmitters * (k % (kSenders / kSubmitters))) % kSenders;
      if (k < kSenders / kSubmitters) next[i] = chain.pool().pending_nonce(accounts[i]);
      const Hash to = keccak({reinterpret_cast<const uint8_t*>(&salt), sizeof salt});
      ++salt;
      raw.push_back(transfer(secret_of(i), next[i]++, Address::from(to.b), salt));
    }
    const std::vector<ByteView> views(raw.begin(), raw.end());
    for (const auto& a : chain.submit(views)) accepted += a.refusal.empty() ? 1 : 0;
    submitted += views.size();
  }
}

void read(Chain& chain, size_t me, const std::vector<Address>& accounts) {
  for (uint64_t i = me; !done; ++i) {
    const auto head = chain.head();
    expect(head->state->root() == head->header.state_root || head->version > 0, "the head's root");
    const Address& who = accounts[i % accounts.size()];
    AccountData a;
    expect(head->state->account(who, a), "a sender is gone");
    AccountProof proof;
    std::string message;
    if (i % 7 == 0 && head->state->proof(who, {}, proof, message)) expect(!proof.nodes.empty(), "a proof is empty");
    const uint64_t number = head->header.number - std::min<uint64_t>(head->header.number, i % 20);
    Failure failure;
    if (const auto past = chain.state_at(number, failure)) (void)past->account(who, a);
    std::shared_ptr<const StoredBlock> block;
    if (!chain.read(number, block)) {
      expect(block->block.header.number == number && block->receipts.size() == block->block.transactions.size(), "a block");
      if (!block->block.transactions.empty()) (void)chain.locate(block->block.transactions[0].hash);
    }
    Header header;
    (void)chain.header(number, header);
    (void)chain.by_sender_and_nonce(who, i % 8);
    LogFilter filter;
    filter.to = head->header.number;
    std::vector<PlacedLog> logs;
    (void)chain.logs(filter, logs);
    if (i % 5 == 0) (void)chain.pool().content_of(who);
    if (i % 50 == 0) {
      expect(!chain.stats().empty() && !chain.memory().empty(), "figures");
      (void)chain.pool().content();
      (void)chain.pool().all();
    }
    (void)chain.pool().take_announced();
    ++looked;
  }
}

// The chain's worker. Returns false when something failed.
bool work(Chain& chain, uint64_t blocks, const std::vector<Address>& accounts, uint64_t& transactions) {
  std::vector<std::pair<uint64_t, uint64_t>> marks;  // number, version
  for (uint64_t i = 1; i <= blocks; ++i) {
    std::shared_ptr<const StoredBlock> block, committed;
    const uint64_t number = chain.head()->header.number + 1;
    while (chain.pool().counts().pending == 0) std::this_thread::yield();
    chain.set_next(U256{1'000'000'000}, kGas);
    Failure f = chain.build(attributes_of(number, kGas), 1'000, block);
    if (!f) f = chain.commit(block->block.hash, committed);
    if (!f && i % 9 == 0) {
      Chain::AccountWrite w;
      w.address = accounts[i % accounts.size()];
      w.balance = U256{1'000'000} * U256{1'000'000'000'000'000'000};
      f = chain.write_state({&w, 1});
    }
    if (!f && i % 20 == 0) marks.emplace_back(chain.head()->header.number, chain.head()->version);
    if (!f && i % 20 == 3 && !marks.empty()) {
      std::vector<std::shared_ptr<const StoredBlock>> gone;
      f = chain.revert_to(marks.back().first, marks.back().second, gone);
    }
    if (f) {
      std::printf("WRONG block %llu: %s\n", static_cast<unsigned long long>(i), f.message.c_str());
      return false;
    }
    transactions += committed->block.transactions.size();
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  const uint64_t blocks = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 200;
  std::vector<Address> accounts;
  for (size_t i = 0; i < kSenders; ++i) accounts.push_back(*address_of_secret(secret_of(i)));
  Chain::Options o;
  o.dir = argv[1];
  o.genesis = genesis_with(accounts, kGas);
  o.dev = true;
  // Small ones, so that they are evicted from and flushed while others read.
  o.state.cache_bytes = 2u << 20;
  o.kv.write_buffer = 1u << 20;
  o.threads = o.state.threads = 4;
  std::unique_ptr<Chain> chain;
  if (const Failure f = Chain::open(std::move(o), chain)) return std::printf("%s\n", f.message.c_str()), 1;
  std::vector<std::thread> threads;
  for (size_t i = 0; i < kSubmitters; ++i) threads.emplace_back([&, i] { submit(*chain, i, accounts); });
  for (size_t i = 0; i < kReaders; ++i) threads.emplace_back([&, i] { read(*chain, i, accounts); });
  uint64_t transactions = 0;
  const bool fine = work(*chain, blocks, accounts, transactions);
  done = true;
  for (std::thread& t : threads) t.join();
  expect(chain->recompute_state_root() == chain->head()->state->root(), "the root at the end");
  chain->close();
  chain.reset();
  std::printf("%llu blocks, %llu transactions in them, %llu of %llu accepted, %llu looks, %d wrong\n", static_cast<unsigned long long>(blocks),
              static_cast<unsigned long long>(transactions), static_cast<unsigned long long>(accepted.load()),
              static_cast<unsigned long long>(submitted.load()), static_cast<unsigned long long>(looked.load()), wrong.load());
  return fine && wrong == 0 && transactions > 0 ? 0 : 1;
}
