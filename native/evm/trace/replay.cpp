#include "trace/replay.h"

#include "exec/block_parts.h"

namespace zg {

namespace {

// All results of one request together.
constexpr size_t kMostJson = size_t{128} << 20;

Failure unknown_tracer(const TraceRequest& request) {
  return {ChainError::rejected, "unknown tracer or configuration: " + request.name.substr(0, 64)};
}

Failure why_stopped(const JsonTracer& tracer, const std::atomic<bool>& stop) {
  if (tracer.overflow()) return {ChainError::rejected, "trace is larger than " + std::to_string(JsonTracer::kLimit >> 20) + " MiB"};
  if (stop.load(std::memory_order_relaxed)) return {ChainError::stopped, "execution timeout"};
  return {};
}

void begin_block(WorkingState& state, Chain& chain, const Header& h, Revision rev, const BlockEnv& env) {
  const ChainConfig& config = chain.config();
  if (config.dao_fork && config.dao_block == h.number) {
    state.begin_transaction();
    apply_dao_fork(state);
    state.finish_transaction(rev);
  }
  before_block(state, h, rev, env, chain.precompiles());
}

// Executes a block up to and with `index` and traces that transaction, or all of them.
Failure replay(Chain& chain, const Block& block, std::optional<uint32_t> index, const StateView& parent, const TraceRequest& request,
               std::string& json) {
  if (index && *index >= block.transactions.size()) return {ChainError::not_found, "transaction not found"};
  const auto tracer = make_tracer(request.name, request.config);
  if (tracer == nullptr) return unknown_tracer(request);
  const ChainConfig& config = chain.config();
  const Header& h = block.header;
  const Revision rev = config.revision_at(h.number, h.timestamp);
  const BlockEnv env = env_of(h, config, rev, chain.hashes());
  WorkingState state(parent);
  std::atomic<bool>& stop = *request.stop;
  begin_block(state, chain, h, rev, env);

  JsonText out(kMostJson);
  if (!index) out.raw("[");
  uint64_t logs = 0;
  uint64_t gas = 0;
  for (size_t i = 0; i < block.transactions.size(); ++i) {
    const Transaction& tx = block.transactions[i];
    const auto sender = tx.sender_known ? std::optional(tx.sender) : sender_of(tx, rev < Revision::homestead);
    if (!sender) return {ChainError::rejected, "transaction " + std::to_string(i) + " failed: invalid sender"};
    const bool traced = !index || *index == i;
    TransitionOptions options;
    options.sender = &*sender;
    options.gas_available = h.gas_limit - gas;
    options.stop = &stop;
    if (traced) {
      TraceSubject subject;
      subject.tx = &tx;
      subject.from = *sender;
      subject.coinbase = h.beneficiary;
      subject.revision = rev;
      subject.precompiles = &chain.precompiles();
      subject.config = &config;
      subject.block_hash = block.hash;
      subject.block_number = h.number;
      subject.tx_hash = tx.hash;
      subject.index = static_cast<uint32_t>(i);
      subject.first_log = logs;
      options.tracer = tracer.get();
      tracer->begin(state, subject, stop);
    }
    const TxOutcome outcome = run_transaction(state, config, rev, env, chain.precompiles(), tx, options);
    if (Failure f = why_stopped(*tracer, stop)) return f;
    if (outcome.refusal != TxRefusal::none)
      return {ChainError::rejected, "transaction " + std::to_string(i) + " failed: " + outcome.text};
    gas += outcome.gas_used;
    logs += outcome.logs.size();
    if (!traced) continue;
    if (!index) out.raw(i == 0 ? "{\"txHash\":" : ",{\"txHash\":").hex(tx.hash).raw(",\"result\":");
    tracer->end(outcome, out);
    if (Failure f = why_stopped(*tracer, stop)) return f;
    if (index) break;
    out.raw("}");
  }
  if (!index) out.raw("]");
  if (out.full()) return {ChainError::rejected, "trace is larger than " + std::to_string(kMostJson >> 20) + " MiB"};
  json = out.take();
  return {};
}

}  // namespace

Failure trace_block(Chain& chain, uint64_t number, std::optional<uint32_t> index, const TraceRequest& request, std::string& json) {
  if (number == 0) return {ChainError::rejected, "genesis is not traceable"};
  std::shared_ptr<const StoredBlock> stored;
  if (Failure f = chain.read(number, stored)) return f;
  if (stored == nullptr) return {ChainError::not_found, "block not found"};
  Failure failure;
  // With the development changes after the parent.
  const auto parent = chain.state_at(number - 1, failure);
  if (parent == nullptr) return failure;
  return replay(chain, stored->block, index, *parent, request, json);
}

Failure trace_raw(Chain& chain, ByteView raw, const TraceRequest& request, std::string& json) {
  Block block;
  if (const char* why = decode_block(raw, block)) return {ChainError::rejected, why};
  if (block.header.number == 0) return {ChainError::rejected, "genesis is not traceable"};
  uint64_t parent_number = 0;
  if (!chain.number_of(block.header.parent_hash, parent_number) || parent_number + 1 != block.header.number)
    return {ChainError::not_found, "parent " + to_hex(block.header.parent_hash) + " not found"};
  Failure failure;
  const auto parent = chain.state_at(parent_number, failure);
  if (parent == nullptr) return failure;
  return replay(chain, block, {}, *parent, request, json);
}

Failure storage_within(Chain& chain, uint64_t number, uint32_t count, const Address& address, const std::atomic<bool>& stop, bool& cleared,
                       std::vector<std::pair<U256, U256>>& slots) {
  std::shared_ptr<const StoredBlock> stored;
  if (number == 0) return {ChainError::rejected, "nothing is executed in genesis"};
  if (Failure f = chain.read(number, stored)) return f;
  Failure failure;
  const auto parent = chain.state_at(number - 1, failure);
  if (parent == nullptr) return failure;
  const ChainConfig& config = chain.config();
  const Header& h = stored->block.header;
  const Revision rev = config.revision_at(h.number, h.timestamp);
  const BlockEnv env = env_of(h, config, rev, chain.hashes());
  WorkingState state(*parent);
  begin_block(state, chain, h, rev, env);
  uint64_t gas = 0;
  for (size_t i = 0; i < count && i < stored->block.transactions.size(); ++i) {
    const Transaction& tx = stored->block.transactions[i];
    const auto sender = tx.sender_known ? std::optional(tx.sender) : sender_of(tx, rev < Revision::homestead);
    if (!sender) return {ChainError::rejected, "transaction " + std::to_string(i) + " failed: invalid sender"};
    TransitionOptions options;
    options.sender = &*sender;
    options.gas_available = h.gas_limit - gas;
    options.stop = &stop;
    const TxOutcome outcome = run_transaction(state, config, rev, env, chain.precompiles(), tx, options);
    if (stop.load(std::memory_order_relaxed)) return {ChainError::stopped, "execution timeout"};
    if (outcome.refusal != TxRefusal::none) return {ChainError::rejected, "transaction " + std::to_string(i) + " failed: " + outcome.text};
    gas += outcome.gas_used;
  }
  for (const AccountChange& change : state.take_diff().accounts) {
    if (change.address != address) continue;
    cleared = change.storage_cleared || !change.exists;
    if (change.exists)
      for (const SlotChange& s : change.slots) slots.emplace_back(s.slot, s.after);
  }
  return {};
}

}  // namespace zg
