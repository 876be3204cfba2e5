#include "exec/block.h"

#include <algorithm>
#include <chrono>

#include "crypto/parallel.h"
#include "exec/block_parts.h"

namespace zg {

namespace {

constexpr size_t kSendersPerTask = 32;
constexpr size_t kMostBlockBytes = 8'388'608;  // EIP-7934
constexpr size_t kBodySlack = 4'096;           // header, list heads, withdrawals' heads

Receipt receipt_of(const Transaction& tx, TxOutcome&& outcome, uint64_t cumulative) {
  Receipt r;
  r.type = tx.type;
  r.success = outcome.status == Status::success;
  r.gas_used = outcome.gas_used;
  r.cumulative_gas = cumulative;
  r.effective_gas_price = outcome.gas_price;
  r.logs = std::move(outcome.logs);
  r.created = outcome.created;
  for (const Log& log : r.logs) add_to_bloom(r.bloom, log);
  return r;
}

void join(Bloom& into, const Bloom& bloom) noexcept {
  for (size_t i = 0; i < sizeof bloom.b; ++i) into.b[i] |= bloom.b[i];
}

std::string mismatch(const char* what, const Hash& have, const Hash& want) {
  return std::string("invalid ") + what + " (remote: " + to_hex(have) + " local: " + to_hex(want) + ")";
}

std::vector<std::optional<Address>> senders_of(const std::vector<Transaction>& txs, Revision rev, unsigned threads) {
  std::vector<std::optional<Address>> senders(txs.size());
  parallel_for(
      txs.size(), kSendersPerTask,
      [&](size_t begin, size_t end) {
        for (size_t i = begin; i < end; ++i)
          senders[i] = txs[i].sender_known ? std::optional(txs[i].sender) : sender_of(txs[i], rev < Revision::homestead);
      },
      threads);
  return senders;
}

// The transactions of a block made elsewhere.
class ForeseenList final : public Foresight {
 public:
  ForeseenList(const std::vector<Transaction>& txs, const std::vector<std::optional<Address>>& senders) : txs_(txs), senders_(senders) {}
  void at(size_t i) noexcept {
    if (!has_begun_) next_ = i + 1;
  }
  bool next(Candidate& out) override {
    has_begun_ = true;
    if (next_ >= txs_.size() || !senders_[next_]) return false;
    out = {&txs_[next_], *senders_[next_], false};
    ++next_;
    return true;
  }

 private:
  const std::vector<Transaction>& txs_;
  const std::vector<std::optional<Address>>& senders_;
  size_t next_ = 0;
  bool has_begun_ = false;
};

// The mark of an account without a key (development), which may hold code: no signature looks like it.
bool is_unsigned(const Transaction& tx) noexcept { return tx.s == U256{1} && tx.r == U256::from(tx.sender); }

class ForeseenSource final : public Foresight {
 public:
  explicit ForeseenSource(TransactionSource& source) : source_(source) {}
  bool next(Candidate& out) override {
    const Transaction* tx = source_.ahead();
    if (tx == nullptr) return false;
    out = {tx, tx->sender, is_unsigned(*tx)};
    return true;
  }

 private:
  TransactionSource& source_;
};

uint64_t now_ms() noexcept {
  return static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch()).count());
}

}  // namespace

BlockOutcome execute_block(const StateReader& parent_state, const Header& parent, const Block& block, const ChainConfig& config,
                           const Precompiles& precompiles, const BlockHashes& hashes, const RootOf& root_of, unsigned threads,
                           const Ancestry* ancestry, const Execution& execution) {
  BlockOutcome out;
  const Header& h = block.header;
  const auto refuse = [&](std::string why) {
    out.error = std::move(why);
    return std::move(out);
  };
  if (h.parent_hash != hash_of(parent)) return refuse("unknown ancestor");
  const Revision rev = config.revision_at(h.number, h.timestamp);
  const Block* parent_block = ancestry == nullptr ? nullptr : ancestry->ancestor(1);
  const bool parent_has_ommers = parent_block != nullptr ? !parent_block->ommers.empty() : parent.ommers_hash != empty_ommers_hash();
  if (auto why = check_header(parent, h, config, rev, parent_has_ommers); !why.empty()) return refuse(std::move(why));
  if (auto why = check_body(block, config, rev); !why.empty()) return refuse(std::move(why));
  if (auto why = check_ommers(block, config, ancestry); !why.empty()) return refuse(std::move(why));

  const auto senders = senders_of(block.transactions, rev, threads);
  WorkingState state(parent_state);
  const BlockEnv env = env_of(h, config, rev, hashes);
  if (config.dao_fork && config.dao_block == h.number) {
    state.begin_transaction();
    apply_dao_fork(state);
    state.finish_transaction(rev);
  }
  before_block(state, h, rev, env, precompiles);

  uint64_t gas = 0;
  uint64_t blob_gas = 0;
  Bloom bloom{};
  const uint64_t most_blob_gas = rev >= Revision::cancun ? config.blobs_at(h.timestamp, rev).max * kGasPerBlob : 0;
  out.receipts.reserve(block.transactions.size());
  ForeseenList foresight(block.transactions, senders);
  BlockRunner runner(state, parent_state, config, rev, env, precompiles, execution, &foresight);
  for (size_t i = 0; i < block.transactions.size(); ++i) {
    const Transaction& tx = block.transactions[i];
    const std::string where = "could not apply tx " + std::to_string(i) + " [" + to_hex(tx.hash) + "]: ";
    if (!senders[i]) return refuse(where + "invalid sender");
    TransitionOptions options;
    options.gas_available = h.gas_limit - gas;
    options.blob_gas_available = most_blob_gas - blob_gas;
    options.sender = &*senders[i];
    foresight.at(i);
    TxOutcome outcome = runner.run(tx, options);
    if (outcome.refusal != TxRefusal::none) return refuse(where + outcome.text);
    gas += outcome.gas_used;
    blob_gas += tx.blob_hashes.size() * kGasPerBlob;
    out.receipts.push_back(receipt_of(tx, std::move(outcome), gas));
    if (rev < Revision::byzantium) out.receipts.back().post_state = root_of(state.take_diff());
    join(bloom, out.receipts.back().bloom);
  }
  runner.finish();
  out.figures = runner.figures();
  if (auto why = collect_requests(state, config, rev, env, precompiles, out.receipts, out.requests); !why.empty()) return refuse(std::move(why));
  if (block.withdrawals) credit_withdrawals(state, *block.withdrawals, rev);
  pay_rewards(state, block, rev);

  if (gas != h.gas_used) return refuse("invalid gas used (remote: " + std::to_string(h.gas_used) + " local: " + std::to_string(gas) + ")");
  if (bloom != h.logs_bloom) return refuse("invalid bloom");
  if (const Hash want = receipts_root(out.receipts); want != h.receipts_root) return refuse(mismatch("receipt root hash", h.receipts_root, want));
  if (h.requests_hash)
    if (const Hash want = requests_hash(out.requests); want != *h.requests_hash) return refuse(mismatch("requests hash", *h.requests_hash, want));
  out.diff = state.take_diff();
  if (const Hash want = root_of(out.diff); want != h.state_root) return refuse(mismatch("merkle root", h.state_root, want));
  return out;
}

BuiltBlock build_block(const StateReader& parent_state, const Header& parent, const BlockAttributes& attributes, const ChainConfig& config,
                       const Precompiles& precompiles, const BlockHashes& hashes, const RootOf& root_of, TransactionSource& source,
                       uint64_t deadline_ms, const Execution& execution) {
  BuiltBlock built;
  Header& h = built.block.header;
  h.parent_hash = hash_of(parent);
  h.ommers_hash = empty_ommers_hash();
  h.beneficiary = attributes.fee_recipient;
  h.number = parent.number + 1;
  h.timestamp = attributes.timestamp;
  h.extra_data = attributes.extra_data;
  h.mix_hash = attributes.prev_randao;
  const Revision rev = config.revision_at(h.number, h.timestamp);
  // As near to the wish as one block may move; who sets a base fee (development) may jump.
  const uint64_t room = parent.gas_limit / 1024 == 0 ? 0 : parent.gas_limit / 1024 - 1;
  const uint64_t wish = attributes.gas_limit == 0 ? parent.gas_limit : attributes.gas_limit;
  const uint64_t near = attributes.base_fee ? wish : std::clamp(wish, parent.gas_limit - room, parent.gas_limit + room);
  h.gas_limit = std::max(near, config.gas_limit_floor);
  if (rev >= Revision::london) h.base_fee = attributes.base_fee ? *attributes.base_fee : next_base_fee(parent);
  if (rev >= Revision::cancun) {
    h.excess_blob_gas = next_excess_blob_gas(parent, config, h.timestamp);
    h.parent_beacon_root = attributes.parent_beacon_root;
  }

  WorkingState state(parent_state);
  const BlockEnv env = env_of(h, config, rev, hashes);
  before_block(state, h, rev, env, precompiles);
  uint64_t gas = 0;
  uint64_t blob_gas = 0;
  size_t bytes = kBodySlack + attributes.withdrawals.size() * 64;
  const uint64_t most_blob_gas = rev >= Revision::cancun ? config.blobs_at(h.timestamp, rev).max * kGasPerBlob : 0;
  constexpr uint64_t kLeastTxGas = 21'000;
  ForeseenSource foresight(source);
  BlockRunner runner(state, parent_state, config, rev, env, precompiles, execution, &foresight);
  while (h.gas_limit - gas >= kLeastTxGas && now_ms() < deadline_ms) {
    const Transaction* tx = source.next();
    if (tx == nullptr) break;
    const size_t size = tx->raw.size() + 9;
    if (bytes + size > kMostBlockBytes || tx->gas_limit > h.gas_limit - gas) {
      source.settle(TransactionSource::Fate::no_room, "gas limit reached");
      continue;
    }
    TransitionOptions options;
    options.gas_available = h.gas_limit - gas;
    options.blob_gas_available = most_blob_gas - blob_gas;
    options.any_sender = is_unsigned(*tx);
    TxOutcome outcome = runner.run(*tx, options);
    if (outcome.refusal != TxRefusal::none) {
      source.settle(TransactionSource::Fate::invalid, outcome.text);
      continue;
    }
    gas += outcome.gas_used;
    blob_gas += tx->blob_hashes.size() * kGasPerBlob;
    bytes += size;
    built.receipts.push_back(receipt_of(*tx, std::move(outcome), gas));
    join(h.logs_bloom, built.receipts.back().bloom);
    built.block.transactions.push_back(*tx);
    source.settle(TransactionSource::Fate::included, {});
  }
  runner.finish();
  built.figures = runner.figures();
  // A deposit contract with logs of another layout, or system contracts that fail, would make every block invalid: then there are no requests.
  if (!collect_requests(state, config, rev, env, precompiles, built.receipts, built.requests).empty()) built.requests.clear();
  if (rev >= Revision::shanghai) {
    built.block.withdrawals = attributes.withdrawals;
    credit_withdrawals(state, attributes.withdrawals, rev);
    h.withdrawals_root = withdrawals_root(attributes.withdrawals);
  }
  if (rev >= Revision::cancun) h.blob_gas_used = blob_gas;
  if (rev >= Revision::prague) h.requests_hash = requests_hash(built.requests);
  h.gas_used = gas;
  h.transactions_root = transactions_root(built.block.transactions);
  h.receipts_root = receipts_root(built.receipts);
  built.diff = state.take_diff();
  h.state_root = root_of(built.diff);
  built.block.hash = hash_of(h);
  return built;
}

}  // namespace zg
