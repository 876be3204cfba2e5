// Random blocks on one thread and on 2, 3 and 8: the same blocks, receipts, changes of state, refusals and words, both when building and when checking a block
// made elsewhere.
//
//   parallel_test [blocks] [seed]
//
// Build, from the root after scripts/build-native.mjs: sh native/evm/test/chain_build.sh parallel_test. With -DZG_TEST_UNCHECKED native/evm/exec/parallel.cpp behind the name
// guesses are taken over unseen, and the program must find differences. Exit status 0: none.
#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <set>

#include "pool/pool.h"
#include "test/parallel_scenario.h"

using namespace zg;
using namespace zg::test;

namespace {

class NoHashes final : public BlockHashes {
 public:
  Hash block_hash(uint64_t number) const override { return keccak(U256{number}.be().view()); }
};

// In order; what follows an unusable one of the same sender is left out, as the pool does. Remembers what became of each.
class ListSource final : public TransactionSource {
 public:
  explicit ListSource(const std::vector<Transaction>& txs) : txs_(txs) {}
  const Transaction* next() override {
    while (at_ < txs_.size() && gone_.contains(txs_[at_].sender)) ++at_;
    return at_ == txs_.size() ? nullptr : &txs_[at_++];
  }
  void settle(Fate fate, const std::string& text) override {
    if (fate != Fate::included && txs_[at_ - 1].to) gone_.insert(txs_[at_ - 1].sender);
    fates += std::to_string(static_cast<int>(fate)) + " " + text + "\n";
  }
  const Transaction* ahead() override {
    ahead_ = std::max(ahead_, at_);
    return ahead_ == txs_.size() ? nullptr : &txs_[ahead_++];
  }
  std::string fates;

 private:
  const std::vector<Transaction>& txs_;
  size_t at_ = 0, ahead_ = 0;
  std::set<Address> gone_;
};

void add(std::string& out, const AccountData& a) { out += std::to_string(a.nonce) + "," + to_hex(a.balance.be()) + "," + to_hex(a.code_hash) + ";"; }

// Everything that execution says, as text.
std::string text_of(const std::vector<Receipt>& receipts, const std::vector<Bytes>& requests, const StateDiff& diff) {
  std::string out;
  for (const Receipt& r : receipts) {
    out += to_hex(encode_receipt(r)) + " " + std::to_string(r.gas_used) + " " + to_hex(r.effective_gas_price.be());
    if (r.created) out += " " + to_hex(*r.created);
    out += "\n";
  }
  for (const Bytes& r : requests) out += to_hex(r) + "\n";
  for (const AccountChange& c : diff.accounts) {
    out += to_hex(c.address) + (c.existed ? " was " : " ") + (c.exists ? "is " : "") + (c.storage_cleared ? "cleared " : "");
    add(out, c.before);
    add(out, c.after);
    for (const SlotChange& s : c.slots) out += " " + to_hex(s.slot.be()) + ":" + to_hex(s.before.be()) + ">" + to_hex(s.after.be());
    out += "\n";
  }
  for (const auto& code : diff.codes) out += to_hex(code->hash()) + to_hex(code->bytes()) + "\n";
  return out;
}

struct Totals {
  uint64_t blocks = 0, transactions = 0, refused = 0, speculated = 0, repeated = 0, differences = 0;
  void add(const ExecutionFigures& f) {
    speculated += f.speculated;
    repeated += f.repeated;
  }
};

bool differs(Totals& totals, uint64_t seed, const char* what, const Execution& e, const std::string& want, const std::string& have) {
  if (want == have) return false;
  if (++totals.differences <= 3) {
    const size_t at = static_cast<size_t>(std::mismatch(want.begin(), want.end(), have.begin(), have.end()).first - want.begin());
    const size_t from = at < 100 ? 0 : at - 100;
    std::printf("seed %" PRIu64 ", %s on %u threads%s: differs at %zu\n  one:  %s\n  many: %s\n", seed, what, e.threads, e.eager ? ", eager" : "", at, want.substr(from, 400).c_str(),
                have.substr(from, 400).c_str());
  }
  return true;
}

void one_block(uint64_t seed, Totals& totals) {
  const Scenario s(seed);
  const NoHashes hashes;
  const RootOf root_of = [&](const StateDiff& diff) { return s.state.root_with(diff); };
  const auto build = [&](const Execution& e, std::string& text) {
    ListSource source(s.txs);
    BuiltBlock b = build_block(s.state, s.parent, s.attributes, s.config, s.precompiles, hashes, root_of, source, ~uint64_t{0}, e);
    text = to_hex(b.block.hash) + "\n" + to_hex(encode_block(b.block)) + "\n" + source.fates + text_of(b.receipts, b.requests, b.diff);
    totals.add(b.figures);
    return b;
  };
  std::string want, have;
  const BuiltBlock built = build({}, want);
  ++totals.blocks;
  totals.transactions += built.block.transactions.size();
  totals.refused += s.txs.size() - built.block.transactions.size();
  const auto check = [&](const Block& block, const Execution& e) {
    BlockOutcome o = execute_block(s.state, s.parent, block, s.config, s.precompiles, hashes, root_of, 1, nullptr, e);
    totals.add(o.figures);
    return o.error + "\n" + text_of(o.receipts, o.requests, o.diff);
  };
  // Blocks from before the merge need a seal's difficulty: they are built here and not checked.
  const bool checks = s.rev >= Revision::paris;
  Block wrong = built.block;
  wrong.header.gas_used += 1;
  // Not every transaction of the list can stand there: the first that cannot is named.
  Block whole = built.block;
  whole.transactions = s.txs;
  std::erase_if(whole.transactions, [](const Transaction& tx) { return tx.type == 3; });
  whole.header.transactions_root = transactions_root(whole.transactions);
  std::string right_text, wrong_text, whole_text;
  if (checks) {
    right_text = check(built.block, {});
    if (right_text[0] != '\n') differs(totals, seed, "checking what was built", {}, "", right_text);
    wrong_text = check(wrong, {});
    whole_text = check(whole, {});
  }
  for (const Execution& e : {Execution{2, 0, true}, Execution{3, 0, true}, Execution{8, 0, true}, Execution{2, 0, false}, Execution{8, 0, false}, Execution{2, 2'000, false}}) {
    (void)build(e, have);
    (void)differs(totals, seed, "building", e, want, have);
    if (!checks) continue;
    (void)differs(totals, seed, "checking", e, right_text, check(built.block, e));
    (void)differs(totals, seed, "a wrong header", e, wrong_text, check(wrong, e));
    (void)differs(totals, seed, "a wrong transaction", e, whole_text, check(whole, e));
  }
}

// What the pool foresees is what it then gives, whoever drops out.
bool pool_foresees(uint64_t seed) {
  Random random(seed);
  auto state = std::make_shared<MemoryState>();
  Pool pool({.chain_id = U256{31337}, .limits = {}, .dev = true});
  std::vector<PooledTx> txs;
  for (uint64_t u = 0; u < 12; ++u) {
    const Address sender = numbered(1, u);
    state->put(sender, 0, U256{1'000'000'000'000'000'000}, Code::empty(), {});
    for (uint64_t n = 0; n < 1 + random.below(9); ++n) {
      auto tx = std::make_shared<Transaction>();
      tx->sender = sender;
      tx->sender_known = true;
      tx->chain_id = U256{31337};
      tx->nonce = n;
      tx->gas_limit = 21'000;
      tx->gas_price = tx->max_priority_fee = U256{1'000 + random.below(5)};
      tx->to = numbered(8, 0);
      tx->r = U256::from(sender);
      tx->s = U256{1};
      tx->raw = encode_transaction(*tx);
      tx->hash = keccak(tx->raw);
      txs.push_back(std::move(tx));
    }
  }
  pool.set_head(state, U256{7}, 30'000'000, Revision::cancun, nullptr);
  for (const auto& a : pool.add(txs))
    if (!a.refusal.empty()) return std::printf("the pool refused: %s\n", a.refusal.c_str()), false;
  const auto source = pool.select(U256{7});
  std::vector<const Transaction*> given, foreseen;
  const size_t late = random.below(4);
  const auto look = [&] {
    while (const Transaction* tx = source->ahead()) foreseen.push_back(tx);
  };
  if (late == 0) look();
  while (const Transaction* tx = source->next()) {
    // The first time may be while one is in hand.
    if (given.size() == late && late > 0) look();
    if (given.size() >= late) {
      given.push_back(tx);
      source->settle(random.one_in(6) ? TransactionSource::Fate::no_room : TransactionSource::Fate::included, {});
    } else {
      given.push_back(tx);
      source->settle(TransactionSource::Fate::included, {});
    }
  }
  size_t at = 0;
  for (size_t i = late == 0 ? 0 : late + 1; i < given.size(); ++i) {
    while (at < foreseen.size() && foreseen[at] != given[i]) ++at;
    if (at == foreseen.size()) return std::printf("seed %" PRIu64 ": the pool gave what it did not foresee\n", seed), false;
  }
  return !foreseen.empty();
}

}  // namespace

int main(int argc, char** argv) {
  const uint64_t count = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 100;
  const uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
  Totals totals;
  uint64_t pools = 0;
  for (uint64_t i = 0; i < count; ++i) {
    one_block(seed * 1'000'003 + i, totals);
    if (!pool_foresees(seed * 1'000'003 + i)) ++totals.differences;
    ++pools;
  }
  std::printf("seed %" PRIu64 ": %" PRIu64 " blocks, %" PRIu64 " transactions, %" PRIu64 " left out, %" PRIu64 " guessed at, %" PRIu64 " of them repeated, %" PRIu64 " differences\n", seed,
              totals.blocks, totals.transactions, totals.refused, totals.speculated, totals.repeated, totals.differences);
  return totals.differences == 0 && totals.repeated > 0 && totals.speculated > totals.repeated ? 0 : 1;
}
