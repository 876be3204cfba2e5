// Building, taking and committing blocks; development changes. One thread at a time.
#include <algorithm>
#include <chrono>

#include "chain/chain_impl.h"
#include "chain/records.h"

namespace zg {

namespace {

constexpr size_t kKeptMax = 16;

uint64_t now_ms() {
  return static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch()).count());
}

// Hashes below a block that is not committed: its own uncommitted ancestors, then the chain's.
class OverlayHashes final : public BlockHashes {
 public:
  explicit OverlayHashes(const BlockHashes& base) : base_(base) {}
  void add(uint64_t number, const Hash& hash) { over_.emplace_back(number, hash); }
  Hash block_hash(uint64_t number) const override {
    for (const auto& [n, hash] : over_)
      if (n == number) return hash;
    return base_.block_hash(number);
  }

 private:
  const BlockHashes& base_;
  std::vector<std::pair<uint64_t, Hash>> over_;
};

std::vector<Address> touched_by(const StateDiff& diff) {
  std::vector<Address> out;
  out.reserve(diff.accounts.size());
  for (const AccountChange& a : diff.accounts) out.push_back(a.address);
  return out;
}

}  // namespace

Failure ChainImpl::build(const BlockAttributes& attributes, uint64_t budget_ms, std::shared_ptr<const StoredBlock>& out) {
  if (Failure f = stopped()) return f;
  const auto parent = head();
  if (attributes.timestamp < parent->header.timestamp)
    return {ChainError::rejected, "timestamp " + std::to_string(attributes.timestamp) + " is before the parent's " + std::to_string(parent->header.timestamp)};
  if (!config().non_decreasing_time && attributes.timestamp == parent->header.timestamp)
    return {ChainError::rejected, "timestamp " + std::to_string(attributes.timestamp) + " is the parent's"};
  Stopwatch watch;
  const U256 base_fee = attributes.base_fee ? *attributes.base_fee : parent->header.base_fee ? next_base_fee(parent->header) : U256{};
  const auto source = pool_->select(base_fee);
  figures_.select_us += watch.lap();
  std::shared_ptr<StateLayer> layer;
  uint64_t root_us = 0;
  const RootOf root_of = [&](const StateDiff& diff) {
    Stopwatch root;
    layer = store_->apply(parent->state, diff);
    root_us += root.lap();
    return view_of(*layer).root();
  };
  BuiltBlock built = build_block(*parent->state, parent->header, attributes, config(), precompiles(), *this, root_of, *source, now_ms() + budget_ms,
                                 options_.execution);
  figures_.speculated += built.figures.speculated;
  figures_.repeated += built.figures.repeated;
  auto block = std::make_shared<StoredBlock>();
  block->block = std::move(built.block);
  block->receipts = std::move(built.receipts);
  block->size = encode_block(block->block).size();
  out = block;
  keep(block->block.hash, {block, std::move(built.requests), std::move(layer), touched_by(built.diff), 0});
  figures_.root_us += root_us;
  figures_.build_us += watch.lap() - root_us;
  ++figures_.built;
  return stopped();
}

namespace {

// The blocks before a payload, for its uncles: kept ones, then those of the chain.
class PayloadAncestry final : public Ancestry {
 public:
  PayloadAncestry(ChainImpl& chain, const Hash& parent) : chain_(chain), next_(parent) {}
  const Block* ancestor(uint64_t depth) const override {
    while (blocks_.size() < depth) {
      auto block = chain_.kept(next_, nullptr);
      if (block == nullptr) block = chain_.by_hash(next_);
      if (block == nullptr) return nullptr;
      next_ = block->block.header.parent_hash;
      blocks_.push_back(std::move(block));
    }
    return &blocks_[depth - 1]->block;
  }

 private:
  ChainImpl& chain_;
  mutable Hash next_;
  mutable std::vector<std::shared_ptr<const StoredBlock>> blocks_;
};

}  // namespace

Failure ChainImpl::new_payload(ByteView raw_block, Hash& hash) {
  if (Failure f = stopped()) return f;
  Stopwatch watch;
  auto block = std::make_shared<StoredBlock>();
  Block& b = block->block;
  if (const char* why = decode_block(raw_block, b)) return {ChainError::rejected, why};
  hash = b.hash;
  block->size = raw_block.size();
  uint64_t number = 0;
  if (kept(hash, nullptr) != nullptr || number_of(hash, number)) return {};

  const auto now = head();
  Header parent;
  std::shared_ptr<const StateView> parent_state;
  OverlayHashes overlay(*this);
  if (b.header.parent_hash == now->hash) {
    parent = now->header;
    parent_state = now->state;
  } else {
    // On a block that is not committed yet.
    const std::lock_guard lock(kept_mutex_);
    auto it = kept_.find(b.header.parent_hash);
    if (it == kept_.end()) return {ChainError::not_found, "the parent " + to_hex(b.header.parent_hash) + " is unknown"};
    parent = it->second.block->block.header;
    parent_state = as_view(it->second.layer);
    for (; it != kept_.end(); it = kept_.find(it->second.block->block.header.parent_hash))
      overlay.add(it->second.block->block.header.number, it->second.block->block.hash);
  }
  // No sender is recovered twice: the pool and what earlier payloads held know most.
  std::vector<Transaction*> unknown;
  for (Transaction& tx : b.transactions) {
    if (const PooledTx known = pool_->get(tx.hash)) {
      tx.sender = known->sender;
      tx.sender_known = true;
    } else if (senders_.find(tx.hash, tx.sender)) {
      tx.sender_known = true;
    } else {
      unknown.push_back(&tx);
    }
  }
  recover_senders(unknown, options_.threads);
  for (const Transaction* tx : unknown)
    if (tx->sender_known) senders_.add(tx->hash, tx->sender);

  std::shared_ptr<StateLayer> layer;
  const RootOf root_of = [&](const StateDiff& diff) {
    layer = store_->apply(parent_state, diff);
    return view_of(*layer).root();
  };
  const PayloadAncestry ancestry(*this, b.header.parent_hash);
  BlockOutcome outcome = execute_block(*parent_state, parent, b, config(), precompiles(), overlay, root_of, options_.threads,
                                       b.ommers.empty() ? nullptr : &ancestry, options_.execution);
  figures_.speculated += outcome.figures.speculated;
  figures_.repeated += outcome.figures.repeated;
  if (Failure f = stopped()) return f;
  if (!outcome.error.empty()) return {ChainError::rejected, outcome.error};
  // Signatures with a high s, valid in Frontier only.
  for (Transaction& tx : b.transactions)
    if (!tx.sender_known) (void)recover_sender(tx, true);
  block->receipts = std::move(outcome.receipts);
  keep(hash, {block, std::move(outcome.requests), std::move(layer), touched_by(outcome.diff), 0});
  ++figures_.payloads;
  figures_.payload_us += watch.lap();
  return {};
}

void ChainImpl::keep(const Hash& hash, Kept kept) {
  const std::lock_guard lock(kept_mutex_);
  kept.order = ++kept_order_;
  kept_.insert_or_assign(hash, std::move(kept));
  while (kept_.size() > kKeptMax) {
    auto oldest = kept_.begin();
    for (auto it = kept_.begin(); it != kept_.end(); ++it)
      if (it->second.order < oldest->second.order) oldest = it;
    kept_.erase(oldest);
  }
}

std::shared_ptr<const StoredBlock> ChainImpl::kept(const Hash& hash, std::vector<Bytes>* requests) {
  const std::lock_guard lock(kept_mutex_);
  const auto it = kept_.find(hash);
  if (it == kept_.end()) return nullptr;
  if (requests != nullptr) *requests = it->second.requests;
  return it->second.block;
}

Failure ChainImpl::write(const KvBatch& batch) {
  // A read that failed while the batch was made must not become durable.
  if (Failure f = stopped()) return f;
  std::string message;
  if (!kv_->write(batch, options_.sync, message)) return fail(ChainError::io, message);
  return {};
}

Failure ChainImpl::commit(const Hash& hash, std::shared_ptr<const StoredBlock>& out) {
  if (Failure f = stopped()) return f;
  const auto parent = head();
  Kept kept;
  {
    const std::lock_guard lock(kept_mutex_);
    const auto it = kept_.find(hash);
    if (it == kept_.end()) return {ChainError::not_found, "block " + to_hex(hash) + " was not built or taken here"};
    if (it->second.block->block.header.parent_hash != parent->hash)
      return {ChainError::rejected, "block " + to_hex(hash) + " does not stand on the head " + to_hex(parent->hash)};
    kept = it->second;
  }
  const StoredBlock& block = *kept.block;
  const Header& h = block.block.header;
  Stopwatch watch;
  const Bytes record = encode_record(block, false);
  figures_.record_us += watch.lap();
  std::string message;
  index::BlockEntry entry{{}, parent->version + 1, hash};
  if (!log_->append(h.number, record, entry.place, message) || !log_->sync(message)) return fail(ChainError::io, message);
  figures_.log_us += watch.lap();
  const auto batch = kv_->batch();
  store_->prepare(*kept.layer, *batch, keep_from(h.number));
  figures_.prepare_us += watch.lap();
  index::put_block(*batch, block, entry);
  index::put_head(*batch, {h.number, hash, entry.version, h.state_root});
  figures_.index_us += watch.lap();
  if (Failure f = write(*batch)) return f;
  figures_.write_us += watch.lap();
  store_->committed(kept.layer);
  cache_.add(kept.block);
  publish(std::make_shared<Head>(Head{h, hash, entry.version, store_->head()}));
  {
    // Its siblings can never be committed any more.
    const std::lock_guard lock(kept_mutex_);
    std::erase_if(kept_, [&](const auto& k) { return k.second.block->block.header.number <= h.number; });
  }
  figures_.apply_us += watch.lap();
  pool_follows(&kept.touched);
  out = kept.block;
  ++figures_.committed;
  figures_.transactions += block.block.transactions.size();
  figures_.gas += h.gas_used;
  // The block is final by now: a journal that fails stops the chain before the next one.
  if (!journal_->trim(pool_->counts().bytes, [this] { return pool_->all(); }, message)) (void)fail(ChainError::io, message);
  figures_.pool_us += watch.lap();
  return {};
}

Failure ChainImpl::revert_to(uint64_t number, uint64_t version, std::vector<std::shared_ptr<const StoredBlock>>& gone) {
  if (Failure f = stopped()) return f;
  const auto now = head();
  if (number > now->header.number || version > now->version)
    return {ChainError::not_found, "there is no block " + std::to_string(number) + " with state version " + std::to_string(version)};
  std::shared_ptr<const StoredBlock> to;
  if (Failure f = read(number, to)) return f;
  index::BlockEntry entry;
  if (index::read_block(*kv_, number, entry) != index::Found::yes) return fail(ChainError::corrupt, "the index entry of a block is damaged");
  const auto batch = kv_->batch();
  for (uint64_t n = now->header.number; n > number; --n) {
    std::shared_ptr<const StoredBlock> block;
    if (Failure f = read(n, block)) return f;
    index::del_block(*batch, *block);
    gone.push_back(std::move(block));
  }
  std::string message;
  if (version < now->version && !store_->prepare_revert(version, *batch, message)) return {ChainError::pruned, message};
  const auto at = version < now->version ? store_->at(version) : now->state;
  if (at == nullptr) return {ChainError::pruned, "the state of version " + std::to_string(version) + " is pruned"};
  entry.version = version;
  index::put_block_entry(*batch, number, entry);
  const Hash root = at->root();
  index::put_head(*batch, {number, to->block.hash, version, root});
  if (Failure f = write(*batch)) return f;
  if (version < now->version) store_->reverted();
  cache_.remove_above(number);
  {
    const std::lock_guard lock(kept_mutex_);
    kept_.clear();
  }
  publish(std::make_shared<Head>(Head{to->block.header, to->block.hash, version, store_->head()}));
  pool_follows(nullptr);
  return {};
}

Failure ChainImpl::write_state(std::span<const AccountWrite> writes) {
  if (Failure f = stopped()) return f;
  const auto now = head();
  StateDiff diff;
  std::vector<const AccountWrite*> order;
  for (const AccountWrite& w : writes) order.push_back(&w);
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) { return a->address < b->address; });
  for (size_t i = 0; i < order.size(); ++i) {
    const AccountWrite& w = *order[i];
    if (i > 0 && order[i - 1]->address == w.address) return {ChainError::rejected, "an account is written twice: " + to_hex(w.address)};
    AccountChange change;
    change.address = w.address;
    change.existed = now->state->account(w.address, change.before);
    change.after = change.before;
    if (w.nonce) change.after.nonce = *w.nonce;
    if (w.balance) change.after.balance = *w.balance;
    if (w.code) {
      auto code = Code::make(*w.code);
      change.after.code_hash = code->hash();
      if (!w.code->empty()) diff.codes.push_back(std::move(code));
    }
    auto slots = w.storage;
    std::sort(slots.begin(), slots.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    for (size_t k = 0; k < slots.size(); ++k) {
      if (k > 0 && slots[k - 1].first == slots[k].first) return {ChainError::rejected, "a slot is written twice"};
      const U256 before = now->state->storage(w.address, slots[k].first);
      if (before != slots[k].second) change.slots.push_back({slots[k].first, before, slots[k].second});
    }
    change.exists = change.existed || !change.after.empty() || !change.slots.empty();
    if (change.existed == change.exists && change.before == change.after && change.slots.empty()) continue;
    diff.accounts.push_back(std::move(change));
  }
  const auto touched = touched_by(diff);
  index::BlockEntry entry;
  if (index::read_block(*kv_, now->header.number, entry) != index::Found::yes)
    return fail(ChainError::corrupt, "the index entry of the last block is damaged");
  const auto layer = store_->apply(now->state, std::move(diff));
  const auto batch = kv_->batch();
  store_->prepare(*layer, *batch, keep_from(now->header.number));
  entry.version = now->version + 1;
  index::put_block_entry(*batch, now->header.number, entry);
  index::put_head(*batch, {now->header.number, now->hash, entry.version, view_of(*layer).root()});
  if (Failure f = write(*batch)) return f;
  store_->committed(layer);
  {
    // Built on the state before.
    const std::lock_guard lock(kept_mutex_);
    kept_.clear();
  }
  publish(std::make_shared<Head>(Head{now->header, now->hash, entry.version, store_->head()}));
  pool_follows(&touched);
  return {};
}

}  // namespace zg
