#include "trace/simulate.h"

#include <algorithm>

#include "base/rlp.h"
#include "chain/call.h"
#include "exec/block_parts.h"
#include "trace/tracer.h"

namespace zg {

namespace {

constexpr uint64_t kMostBlocks = 256;
constexpr uint64_t kSecondsApart = 12;
constexpr size_t kMostAnswer = size_t{64} << 20;
constexpr int kServer = -32000, kInternal = -32603, kParams = -32602, kBlockGas = -38015, kNumber = -38020, kTime = -38021, kTooMany = -38026, kPruned = 4444;

struct SimulationError {
  int code = 0;  // of JSON-RPC: −38010 …; 0: none
  std::string text;
};

struct SimCall {
  Address from{};
  std::optional<Address> to;
  std::optional<uint64_t> gas;
  std::optional<U256> gas_price, max_fee, tip, max_blob_fee;
  U256 value;
  Bytes data;
  std::optional<std::vector<AccessEntry>> access_list;
  std::optional<std::vector<Authorization>> authorizations;
  std::optional<uint64_t> nonce;
  std::optional<std::vector<Hash>> blob_hashes;
};

struct SimBlock {
  std::optional<uint64_t> number, timestamp, gas_limit;
  std::optional<Address> beneficiary;
  std::optional<Hash> prev_randao;
  std::optional<U256> base_fee, blob_base_fee;
  std::vector<Withdrawal> withdrawals;
  Overrides overrides;
  std::vector<SimCall> calls;
};

struct Request {
  bool validation = false, trace_transfers = false;
  uint64_t gas_cap = 0;
  std::vector<SimBlock> blocks;
};

// A list of one item, or empty: `read` takes the item.
template <class T, class Read>
std::optional<T> maybe(rlp::Reader& r, Read read) {
  rlp::Reader x = r.list();
  if (x.empty()) return std::nullopt;
  T value = read(x);
  if (!x.done()) r.fail();
  return value;
}
std::optional<uint64_t> maybe_u64(rlp::Reader& r) {
  return maybe<uint64_t>(r, [](rlp::Reader& x) { return x.u64(); });
}
std::optional<U256> maybe_u256(rlp::Reader& r) {
  return maybe<U256>(r, [](rlp::Reader& x) { return x.u256(); });
}

std::vector<AccessEntry> read_access_list(rlp::Reader r, bool& ok) {
  std::vector<AccessEntry> out;
  while (r.ok() && !r.empty()) {
    rlp::Reader e = r.list();
    AccessEntry& entry = out.emplace_back();
    entry.address = e.address();
    rlp::Reader keys = e.list();
    while (keys.ok() && !keys.empty()) entry.keys.push_back(U256::from(keys.hash()));
    ok = ok && keys.done() && e.done();
  }
  ok = ok && r.done();
  return out;
}

std::vector<Authorization> read_authorizations(rlp::Reader r, bool& ok) {
  std::vector<Authorization> out;
  while (r.ok() && !r.empty()) {
    rlp::Reader a = r.list();
    Authorization& x = out.emplace_back();
    x.chain_id = a.u256();
    x.address = a.address();
    x.nonce = a.u64();
    x.y_parity = static_cast<uint8_t>(a.u64());
    x.r = a.u256();
    x.s = a.u256();
    ok = ok && a.done();
  }
  ok = ok && r.done();
  return out;
}

bool read_call(rlp::Reader r, SimCall& c) {
  bool ok = true;
  c.from = r.address();
  c.to = r.maybe_address();
  c.gas = maybe_u64(r);
  c.gas_price = maybe_u256(r);
  c.max_fee = maybe_u256(r);
  c.tip = maybe_u256(r);
  c.value = r.u256();
  const ByteView data = r.bytes();
  c.data.assign(data.begin(), data.end());
  c.access_list = maybe<std::vector<AccessEntry>>(r, [&](rlp::Reader& x) { return read_access_list(x.list(), ok); });
  c.authorizations = maybe<std::vector<Authorization>>(r, [&](rlp::Reader& x) { return read_authorizations(x.list(), ok); });
  c.nonce = maybe_u64(r);
  c.max_blob_fee = maybe_u256(r);
  c.blob_hashes = maybe<std::vector<Hash>>(r, [&](rlp::Reader& x) {
    std::vector<Hash> hashes;
    rlp::Reader list = x.list();
    while (list.ok() && !list.empty()) hashes.push_back(list.hash());
    ok = ok && list.done();
    return hashes;
  });
  return ok && r.done();
}

bool read_block(rlp::Reader r, SimBlock& b) {
  rlp::Reader o = r.list();
  b.number = maybe_u64(o);
  b.timestamp = maybe_u64(o);
  b.gas_limit = maybe_u64(o);
  b.beneficiary = maybe<Address>(o, [](rlp::Reader& x) { return x.address(); });
  b.prev_randao = maybe<Hash>(o, [](rlp::Reader& x) { return x.hash(); });
  b.base_fee = maybe_u256(o);
  b.blob_base_fee = maybe_u256(o);
  rlp::Reader withdrawals = o.list();
  while (withdrawals.ok() && !withdrawals.empty()) {
    rlp::Reader w = withdrawals.list();
    Withdrawal& x = b.withdrawals.emplace_back();
    x.index = w.u64();
    x.validator = w.u64();
    x.address = w.address();
    x.amount_gwei = w.u64();
    if (!w.done()) return false;
  }
  if (!withdrawals.done() || !o.done()) return false;
  if (decode_overrides(r.item().whole, b.overrides) != nullptr) return false;
  rlp::Reader calls = r.list();
  while (calls.ok() && !calls.empty())
    if (!read_call(calls.list(), b.calls.emplace_back())) return false;
  return calls.done() && r.done();
}

bool read_request(ByteView raw, Request& out) {
  rlp::Reader r(rlp::single(raw));
  out.validation = r.u64() != 0;
  out.trace_transfers = r.u64() != 0;
  out.gas_cap = r.u64();
  rlp::Reader blocks = r.list();
  while (blocks.ok() && !blocks.empty()) {
    if (out.blocks.size() > kMostBlocks) break;
    if (!read_block(blocks.list(), out.blocks.emplace_back())) return false;
  }
  return r.ok();
}

// Numbers and times in order; gaps between numbers become empty blocks.
SimulationError lay_out(const Header& base, std::vector<SimBlock>& blocks) {
  if (blocks.size() > kMostBlocks) return {kTooMany, "too many blocks"};
  std::vector<SimBlock> out;
  uint64_t number = base.number, time = base.timestamp;
  for (SimBlock& b : blocks) {
    if (!b.number) b.number = number + 1;
    if (*b.number <= number)
      return {kNumber, "block numbers must be in order: " + std::to_string(*b.number) + " <= " + std::to_string(number)};
    if (*b.number - base.number > kMostBlocks) return {kTooMany, "too many blocks"};
    for (++number; number < *b.number; ++number) {
      time += kSecondsApart;
      SimBlock& empty = out.emplace_back();
      empty.number = number;
      empty.timestamp = time;
    }
    if (!b.timestamp) b.timestamp = time + kSecondsApart;
    if (*b.timestamp <= time)
      return {kTime, "block timestamps must be in order: " + std::to_string(*b.timestamp) + " <= " + std::to_string(time)};
    time = *b.timestamp;
    out.push_back(std::move(b));
  }
  blocks = std::move(out);
  return {};
}

// Hashes of simulated blocks before those of the chain.
class SimHashes final : public BlockHashes {
 public:
  SimHashes(const BlockHashes& chain, uint64_t base, const Hash& base_hash) : chain_(chain), base_(base) { own_.push_back(base_hash); }
  void add(const Hash& hash) { own_.push_back(hash); }
  Hash block_hash(uint64_t number) const override {
    if (number < base_) return chain_.block_hash(number);
    return number - base_ < own_.size() ? own_[number - base_] : Hash{};
  }

 private:
  const BlockHashes& chain_;
  const uint64_t base_;
  std::vector<Hash> own_;
};

// The logs of one call; with `transfers` also those of the coin, under ERC-7528's address.
class LogTracer final : public Tracer {
 public:
  struct Numbered {
    Log log;
    uint64_t index;  // in the block
  };
  // `next`: number of the next log of the block. As in geth it counts logs of failed frames too.
  LogTracer(bool transfers, uint64_t& next) : transfers_(transfers), next_(next) {}
  std::vector<Numbered> logs;
  [[nodiscard]] bool wants_steps() const override { return false; }
  void on_enter(const Message& m, ByteView) override {
    marks_.push_back(logs.size());
    if (!transfers_ || m.value.is_zero() || m.kind == CallKind::delegatecall || m.kind == CallKind::staticcall) return;
    static constexpr uint8_t kTransfer[32] = {0xdd, 0xf2, 0x52, 0xad, 0x1b, 0xe2, 0xc8, 0x9b, 0x69, 0xc2, 0xb0, 0x68, 0xfc, 0x37, 0x8d, 0xaa,
                                              0x95, 0x2b, 0xa7, 0xf1, 0x63, 0xc4, 0xa1, 0x16, 0x28, 0xf5, 0x5a, 0x4d, 0xf5, 0x23, 0xb3, 0xef};
    Log log;
    std::memset(log.address.b, 0xee, 20);
    log.topics = {Hash::from(kTransfer), U256::from(m.sender).be(),
                  U256::from(m.kind == CallKind::callcode ? m.code_address : m.recipient).be()};
    const Hash value = m.value.be();
    log.data.assign(value.b, value.b + 32);
    on_log(log);
  }
  void on_exit(const Message&, const Result& r, uint64_t) override {
    if (r.status != Status::success) logs.resize(marks_.back());
    marks_.pop_back();
  }
  void on_log(const Log& log) override { logs.push_back({log, next_++}); }

 private:
  const bool transfers_;
  uint64_t& next_;
  std::vector<size_t> marks_;
};

int code_of(TxRefusal refusal) noexcept {
  switch (refusal) {
    case TxRefusal::nonce_too_low: return -38010;
    case TxRefusal::nonce_too_high: return -38011;
    case TxRefusal::fee_below_base: return -38012;
    case TxRefusal::tip_above_fee: return kParams;
    case TxRefusal::intrinsic_gas:
    case TxRefusal::floor_gas: return -38013;
    case TxRefusal::insufficient_funds: return -38014;
    case TxRefusal::gas_above_block: return kBlockGas;
    case TxRefusal::sender_not_eoa: return -38024;
    case TxRefusal::initcode_size: return -38025;
    default: return kInternal;
  }
}

class Simulation {
 public:
  Simulation(Chain& chain, const Request& request, const StateView& state, const Header& base, const Hash& base_hash, const std::atomic<bool>& stop)
      : chain_(chain),
        config_(chain.config()),
        request_(request),
        state_(state),
        parent_(base),
        parent_hash_(base_hash),
        hashes_(chain.hashes(), base.number, base_hash),
        gas_left_(request.gas_cap == 0 ? ~uint64_t{0} : request.gas_cap),
        stop_(stop) {}

  SimulationError block(const SimBlock& b, const std::shared_ptr<const StateView>& base, rlp::Writer& out);

 private:
  Header header_of(const SimBlock& b, Revision& rev) const;
  SimulationError transaction_of(const SimCall& c, const Header& h, uint64_t gas_used, Transaction& tx);

  Chain& chain_;
  const ChainConfig& config_;
  const Request& request_;
  WorkingState state_;
  Header parent_;
  Hash parent_hash_;
  SimHashes hashes_;
  uint64_t gas_left_;
  const std::atomic<bool>& stop_;
};

Header Simulation::header_of(const SimBlock& b, Revision& rev) const {
  Header h;
  h.parent_hash = parent_hash_;
  h.ommers_hash = empty_ommers_hash();
  h.beneficiary = b.beneficiary ? *b.beneficiary : parent_.beneficiary;
  h.difficulty = parent_.difficulty;
  h.number = *b.number;
  h.timestamp = *b.timestamp;
  h.gas_limit = b.gas_limit ? *b.gas_limit : parent_.gas_limit;
  if (b.prev_randao) h.mix_hash = *b.prev_randao;
  rev = config_.revision_at(h.number, h.timestamp);
  if (rev >= Revision::london) h.base_fee = b.base_fee ? *b.base_fee : request_.validation && parent_.base_fee ? next_base_fee(parent_) : U256{};
  if (rev >= Revision::cancun) {
    h.excess_blob_gas = parent_.excess_blob_gas ? next_excess_blob_gas(parent_, config_, h.timestamp) : 0;
    h.parent_beacon_root = Hash{};
  }
  return h;
}

SimulationError Simulation::transaction_of(const SimCall& c, const Header& h, uint64_t gas_used, Transaction& tx) {
  const uint64_t room = h.gas_limit - gas_used;
  const uint64_t gas = c.gas ? *c.gas : room;
  if (gas > room) return {kBlockGas, "block gas limit reached: " + std::to_string(gas_used) + " >= " + std::to_string(h.gas_limit)};
  tx.gas_limit = std::min(gas, gas_left_);
  tx.chain_id = config_.chain_id;
  tx.nonce = c.nonce ? *c.nonce : state_.account(c.from).nonce();
  tx.to = c.to;
  tx.value = c.value;
  tx.data = c.data;
  if (c.access_list) tx.access_list = *c.access_list;
  if (c.authorizations) tx.authorizations = *c.authorizations;
  if (c.blob_hashes) tx.blob_hashes = *c.blob_hashes;
  const bool london = h.base_fee.has_value();
  if (c.gas_price || !london) {
    // geth makes a legacy transaction of whatever names a gas price.
    tx.access_list.clear();
    tx.gas_price = tx.max_priority_fee = c.gas_price ? *c.gas_price : U256{};
    tx.has_chain_id = false;
  } else {
    tx.type = c.authorizations ? 4 : c.blob_hashes ? 3 : 2;
    tx.gas_price = c.max_fee ? *c.max_fee : U256{};
    tx.max_priority_fee = c.tip ? *c.tip : U256{};
    if (c.max_blob_fee) tx.max_blob_fee = *c.max_blob_fee;
  }
  tx.sender = c.from;
  tx.sender_known = true;
  tx.raw = encode_transaction(tx);
  tx.hash = keccak(tx.raw);
  return {};
}

void write_log(rlp::Writer& w, const LogTracer::Numbered& numbered) {
  const Log& log = numbered.log;
  const size_t at = w.open();
  w.address(log.address);
  const size_t topics = w.open();
  for (const Hash& t : log.topics) w.hash(t);
  w.close(topics);
  w.bytes(log.data);
  w.u64(numbered.index);
  w.close(at);
}

void write_call(rlp::Writer& w, const TxOutcome& o, const std::vector<LogTracer::Numbered>& logs) {
  const size_t at = w.open();
  const bool good = o.status == Status::success;
  w.bytes(good || o.status == Status::revert ? ByteView(o.output) : ByteView{});
  const size_t list = w.open();
  for (const auto& log : logs) write_log(w, log);
  w.close(list);
  w.u64(o.gas_used);
  w.u64(o.gas_peak);
  w.u64(good ? 1 : 0);
  std::string text;
  if (o.status == Status::revert) {
    std::string reason;
    text = revert_reason(o.output, reason) ? "execution reverted: " + reason : "execution reverted";
  } else if (!good) {
    text = message_of(o.status);
  }
  w.u64(o.status == Status::revert ? 3 : 0);
  w.bytes(as_bytes(text));
  w.bytes(o.status == Status::revert ? ByteView(o.output) : ByteView{});
  w.close(at);
}

SimulationError Simulation::block(const SimBlock& b, const std::shared_ptr<const StateView>& base, rlp::Writer& out) {
  Block block;
  Revision rev = Revision::frontier;
  block.header = header_of(b, rev);
  Header& h = block.header;
  BlockEnv env = env_of(h, config_, rev, hashes_);
  if (b.blob_base_fee) env.blob_base_fee = *b.blob_base_fee;
  Precompiles precompiles = chain_.precompiles();
  if (auto why = move_precompiles(precompiles, b.overrides, rev); !why.empty()) return {kServer, std::move(why)};
  apply_overrides(state_, b.overrides);
  before_block(state_, h, rev, env, precompiles);

  uint64_t gas = 0, blob_gas = 0, next_log = 0;
  std::vector<Receipt> receipts;
  rlp::Writer calls;
  const size_t all_calls = calls.open();
  for (const SimCall& c : b.calls) {
    Transaction tx;
    if (SimulationError e = transaction_of(c, h, gas, tx); e.code != 0) return e;
    LogTracer tracer(request_.trace_transfers, next_log);
    TransitionOptions options;
    options.is_call = !request_.validation;
    options.any_sender = true;
    options.sender = &c.from;
    options.stop = &stop_;
    options.tracer = &tracer;
    TxOutcome o = run_transaction(state_, config_, rev, env, precompiles, tx, options);
    if (o.refusal != TxRefusal::none)
      return {code_of(o.refusal), "err: " + o.text + " (supplied gas " + std::to_string(tx.gas_limit) + ")"};
    if (stop_.load(std::memory_order_relaxed)) return {kServer, "execution aborted (timeout)"};
    gas += o.gas_used;
    gas_left_ -= std::min(gas_left_, o.gas_used);
    blob_gas += tx.blob_hashes.size() * kGasPerBlob;
    write_call(calls, o, tracer.logs);
    if (calls.out.size() + out.out.size() > kMostAnswer) return {-32005, "the answer is larger than " + std::to_string(kMostAnswer >> 20) + " MiB"};
    Receipt& r = receipts.emplace_back();
    r.type = tx.type;
    r.success = o.status == Status::success;
    r.gas_used = o.gas_used;
    r.cumulative_gas = gas;
    r.effective_gas_price = o.gas_price;
    r.created = o.created;
    r.logs = std::move(o.logs);
    for (const Log& log : r.logs) add_to_bloom(r.bloom, log);
    for (size_t i = 0; i < sizeof h.logs_bloom.b; ++i) h.logs_bloom.b[i] |= r.bloom.b[i];
    block.transactions.push_back(std::move(tx));
  }
  calls.close(all_calls);

  std::vector<Bytes> requests;
  if (rev >= Revision::prague) {
    // System contracts that a state override broke leave no requests, as on a chain that never had them.
    if (!collect_requests(state_, config_, rev, env, precompiles, receipts, requests).empty()) requests.clear();
    h.requests_hash = requests_hash(requests);
  }
  if (rev >= Revision::shanghai) {
    block.withdrawals = b.withdrawals;
    credit_withdrawals(state_, b.withdrawals, rev);
    h.withdrawals_root = withdrawals_root(b.withdrawals);
  }
  pay_rewards(state_, block, rev);
  if (rev >= Revision::cancun) h.blob_gas_used = blob_gas;
  h.gas_used = gas;
  h.transactions_root = transactions_root(block.transactions);
  h.receipts_root = receipts_root(receipts);
  const auto layer = chain_.apply(base, state_.take_diff());
  if (layer == nullptr) return {kPruned, "the tries of this block are pruned"};
  h.state_root = view_of(*layer).root();
  block.hash = hash_of(h);

  const size_t at = out.open();
  out.raw(encode_block(block));
  out.hash(block.hash);
  const size_t senders = out.open();
  for (const Transaction& tx : block.transactions) out.address(tx.sender);
  out.close(senders);
  out.raw(calls.out);
  out.close(at);
  hashes_.add(block.hash);
  parent_ = h;
  parent_hash_ = block.hash;
  return {};
}

SimulationError run(Chain& chain, ByteView raw, std::optional<uint64_t> number, const std::atomic<bool>& stop, rlp::Writer& out) {
  Request request;
  if (!read_request(raw, request)) return {kParams, "malformed request"};
  if (request.blocks.empty()) return {kParams, "empty input"};
  const auto head = chain.head();
  Header base = head->header;
  Hash base_hash = head->hash;
  std::shared_ptr<const StateView> view = head->state;
  if (number && *number != head->header.number) {
    if (!chain.header(*number, base)) return {kServer, "header not found"};
    base_hash = hash_of(base);
    Failure failure;
    view = chain.state_at(*number, failure);
    if (view == nullptr) return {failure.error == ChainError::pruned ? kPruned : kServer, failure.message};
  }
  if (SimulationError e = lay_out(base, request.blocks); e.code != 0) return e;
  Simulation simulation(chain, request, *view, base, base_hash, stop);
  for (const SimBlock& b : request.blocks)
    if (SimulationError e = simulation.block(b, view, out); e.code != 0) return e;
  return {};
}

}  // namespace

Bytes simulate(Chain& chain, ByteView request, std::optional<uint64_t> number, const std::atomic<bool>& stop) {
  rlp::Writer blocks;
  const size_t all = blocks.open();
  const SimulationError error = run(chain, request, number, stop, blocks);
  if (error.code != 0) blocks.out.clear();
  blocks.close(all);
  rlp::Writer answer;
  const size_t at = answer.open();
  answer.u64(static_cast<uint64_t>(error.code < 0 ? -error.code : error.code));
  answer.bytes(as_bytes(error.text));
  answer.raw(blocks.out);
  answer.close(at);
  return std::move(answer.out);
}

}  // namespace zg
