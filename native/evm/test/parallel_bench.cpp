// What executing a block on several threads costs and brings, kind by kind: the same blocks of one kind on one thread, on several from the first transaction on, and
// on several as the product does (from a cost of a transaction on). Wall and processor time of building a block without its root; blocks alternate; medians.
//
//   parallel_bench DIR [threads] [transactions] [rounds]       DIR must not be there
//
// Build, from the root after scripts/build-native.mjs: sh native/evm/test/chain_build.sh parallel_bench
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <string>

#include "exec/block_parts.h"
#include "test/parallel_scenario.h"

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
             std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count()) /
         1000;
}
double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

class ListSource final : public TransactionSource {
 public:
  explicit ListSource(const std::vector<Transaction>& txs) : txs_(txs) {}
  const Transaction* next() override { return at_ == txs_.size() ? nullptr : &txs_[at_++]; }
  void settle(Fate fate, const std::string& text) override {
    if (fate != Fate::included) std::printf("left out: %s\n", text.c_str());
  }
  const Transaction* ahead() override {
    ahead_ = std::max(ahead_, at_);
    return ahead_ == txs_.size() ? nullptr : &txs_[ahead_++];
  }

 private:
  const std::vector<Transaction>& txs_;
  size_t at_ = 0, ahead_ = 0;
};

Bytes words(std::initializer_list<U256> list) {
  Bytes out;
  for (const U256& x : list) {
    const Hash h = x.be();
    out.insert(out.end(), h.b, h.b + 32);
  }
  return out;
}

// An ERC-20 in small: two slots at keccak(address ‖ 0), a log. Call data: to, amount.
Bytes token_code() {
  Assembly a;
  const auto slot_of = [&] { return a.push(uint64_t{0}).op({0x52}).push(64).push(uint64_t{0}).op({0x20}); };
  a.op({0x33});
  slot_of().op({0x80, 0x54}).push(32).op({0x35, 0x90, 0x03, 0x90, 0x55});                          // slot[caller] −= amount
  a.push(uint64_t{0}).op({0x35});
  slot_of().op({0x80, 0x54}).push(32).op({0x35, 0x01, 0x90, 0x55});                                // slot[to] += amount
  a.push(32).op({0x35}).push(uint64_t{0}).op({0x52}).push(uint64_t{0}).op({0x35, 0x33}).push(uint64_t{0x7777}).push(32).push(uint64_t{0}).op({0xa3, 0x00});
  return a.code;
}
// Reserves in two slots, a product and a division, a log.
Bytes pool_code() {
  Assembly a;
  a.push(uint64_t{0}).op({0x54}).push(1).op({0x54, 0x80, 0x82, 0x02, 0x82}).push(uint64_t{0}).op({0x35, 0x01, 0x80}).push(uint64_t{0}).op({0x55, 0x90, 0x04}).push(1).op({0x55});
  a.push(32).push(uint64_t{0}).op({0xa0, 0x00});
  return a.code;
}
// Counts down from the call data: 46 gas a turn of arithmetic; then a slot of the caller's.
Bytes burner_code() {
  Assembly a;
  a.push(uint64_t{0}).op({0x35});
  const uint64_t top = a.code.size();
  a.op({0x5b, 0x80, 0x80, 0x02, 0x80, 0x02, 0x50}).push(1).op({0x90, 0x03, 0x80}).push(top).op({0x57, 0x50}).push(1).op({0x33, 0x54, 0x01, 0x33, 0x55, 0x00});
  return a.code;
}

struct Kind {
  const char* name;
  size_t share;  // one of so many of the transactions asked for: heavy ones are told in fewer
  void (*make)(Transaction& tx, size_t i, size_t senders);
};

Address user(size_t i) { return numbered(1, i); }
const Address kToken = numbered(3, 1), kPool = numbered(3, 2), kBurner = numbered(3, 3);

void burn(Transaction& tx, uint64_t turns) {
  tx.to = kBurner;
  tx.gas_limit = 60'000 + turns * 60;
  tx.data = words({U256{turns}});
}

const Kind kKinds[] = {
    {"transfers", 1, [](Transaction& tx, size_t i, size_t) { tx.to = numbered(7, i), tx.value = U256{1}; }},
    {"transfers to one", 1, [](Transaction& tx, size_t, size_t) { tx.to = numbered(7, 1), tx.value = U256{1}; }},
    {"transfers from one", 1, [](Transaction& tx, size_t i, size_t) { tx.sender = user(0), tx.nonce = i, tx.to = numbered(7, i), tx.value = U256{1}; }},
    {"erc20", 1, [](Transaction& tx, size_t i, size_t senders) { tx.to = kToken, tx.gas_limit = 120'000, tx.data = words({U256::from(user((i * 7 + 1) % senders)), U256{1}}); }},
    {"erc20 to one", 1, [](Transaction& tx, size_t, size_t) { tx.to = kToken, tx.gas_limit = 120'000, tx.data = words({U256::from(user(1)), U256{1}}); }},
    {"swaps on one pool", 1, [](Transaction& tx, size_t, size_t) { tx.to = kPool, tx.gas_limit = 120'000, tx.data = words({U256{3}}); }},
    {"40k gas of work", 1, [](Transaction& tx, size_t, size_t) { burn(tx, 300); }},
    {"90k gas of work", 2, [](Transaction& tx, size_t, size_t) { burn(tx, 1'400); }},
    {"230k gas of work", 5, [](Transaction& tx, size_t, size_t) { burn(tx, 4'500); }},
    {"1M gas of work", 20, [](Transaction& tx, size_t, size_t) { burn(tx, 21'000); }},
    {"1M gas, one caller", 20, [](Transaction& tx, size_t i, size_t) { burn(tx, 21'000), tx.sender = user(0), tx.nonce = i; }},
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  const unsigned threads = argc > 2 ? static_cast<unsigned>(std::strtoul(argv[2], nullptr, 10)) : 2;
  const size_t count = argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 2'000;
  const int rounds = argc > 4 ? std::atoi(argv[4]) : 9;
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  const size_t senders = std::min<size_t>(count, 500);
  constexpr uint64_t kGas = 10'000'000'000;
  Chain::Options o;
  o.dir = argv[1];
  o.sync = false;
  std::vector<Address> accounts;
  for (size_t i = 0; i < senders; ++i) accounts.push_back(user(i));
  o.genesis = genesis_with(accounts, kGas);
  const auto contract = [&](const Address& at, Bytes code) {
    GenesisAccount a;
    a.address = at;
    a.account.nonce = 1;
    a.account.code_hash = keccak(code);
    a.code = std::move(code);
    if (at == kToken)
      for (const Address& who : accounts) a.storage.emplace_back(U256::from(keccak(words({U256::from(who), U256{}}))), U256{1'000'000});
    if (at == kPool) a.storage = {{U256{}, U256{1'000'000}}, {U256{1}, U256{1'000'000'000}}};
    o.genesis.alloc.push_back(std::move(a));
  };
  contract(kToken, token_code());
  contract(kPool, pool_code());
  contract(kBurner, burner_code());
  std::unique_ptr<Chain> chain;
  if (const Failure f = Chain::open(std::move(o), chain)) return std::printf("%s\n", f.message.c_str()), 1;
  const auto head = chain->head();
  const RootOf no_root = [](const StateDiff&) { return Hash{}; };

  std::printf("%zu transactions of %zu senders, a block each; us a transaction, wall / processor\n%-20s %15s %15s %15s   wall: forced, as shipped\n", count, senders, "", "one thread",
              (std::to_string(threads) + " forced").c_str(), (std::to_string(threads) + " as shipped").c_str());
  for (const Kind& kind : kKinds) {
    const size_t many = count / kind.share;
    std::vector<Transaction> txs(many);
    for (size_t i = 0; i < many; ++i) {
      Transaction& tx = txs[i];
      tx.type = 2;
      tx.chain_id = U256{31337};
      tx.sender = user(i % senders);
      tx.sender_known = true;
      tx.nonce = i / senders;
      tx.gas_price = U256{100'000'000'000};
      tx.max_priority_fee = U256{1'000'000'000};
      tx.gas_limit = 21'000;
      kind.make(tx, i, senders);
      tx.r = U256{i + 1};
      tx.s = U256{2};
      tx.raw = encode_transaction(tx);
      tx.hash = keccak(tx.raw);
    }
    const Execution ways[] = {{}, {threads, 0, false}, {.threads = threads}};
    std::vector<double> wall[3], cpu[3];
    ExecutionFigures figures;
    uint64_t gas = 0;
    for (int round = 0; round <= rounds; ++round)
      for (size_t w = 0; w < 3; ++w) {
        ListSource source(txs);
        const double c = cpu_us(), t = wall_us();
        const BuiltBlock b = build_block(*head->state, head->header, attributes_of(1, kGas), chain->config(), chain->precompiles(), chain->hashes(), no_root, source, ~uint64_t{0}, ways[w]);
        const double n = static_cast<double>(many);
        if (round > 0) wall[w].push_back((wall_us() - t) / n), cpu[w].push_back((cpu_us() - c) / n);
        if (b.block.transactions.size() != many) return std::printf("a block holds %zu of %zu\n", b.block.transactions.size(), many), 1;
        if (w == 1) figures = b.figures;
        if (gas != 0 && w != 0 && gas != b.block.header.gas_used) return std::printf("another sum of gas\n"), 1;
        gas = b.block.header.gas_used;
      }
    std::printf("%-20s", kind.name);
    for (size_t w = 0; w < 3; ++w) std::printf(" %7.2f/%7.2f", median(wall[w]), median(cpu[w]));
    std::printf("   %4.2f x  %4.2f x   %5.1f %% guessed, %4.1f %% of them repeated\n", median(wall[0]) / median(wall[1]), median(wall[0]) / median(wall[2]),
                100.0 * static_cast<double>(figures.speculated) / static_cast<double>(many), figures.speculated == 0 ? 0 : 100.0 * static_cast<double>(figures.repeated) / static_cast<double>(figures.speculated));
  }
  return 0;
}
