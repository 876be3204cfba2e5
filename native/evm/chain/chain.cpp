#include <algorithm>
#include <chrono>
#include <utility>

#include "base/rlp.h"
#include "chain/chain_impl.h"
#include "chain/files.h"
#include "chain/records.h"
#include "chain/snapshot.h"
#include "crypto/parallel.h"
#include "db/pread_env.h"
#include "leveldb/env.h"
#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace zg {

namespace {

constexpr size_t kDecodeGrain = 64;
constexpr size_t kTxBytesMax = 128 * 1024;
constexpr size_t kRestoreChunk = 1024;
#ifdef __GLIBC__
constexpr int kMappedFrom = 128 * 1024, kTrimFrom = 8 * 1024 * 1024;
#endif

uint64_t now_us() {
  return static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now().time_since_epoch()).count());
}

// A development transaction of an account whose key nobody has: r holds the sender and s is 1, which no signer makes.
bool is_impersonated(const Transaction& tx, const Address& sender) { return tx.s == U256{1} && tx.r == U256::from(sender); }

}  // namespace

Stopwatch::Stopwatch() : at_(now_us()) {}
uint64_t Stopwatch::lap() {
  const uint64_t before = std::exchange(at_, now_us());
  return at_ - before;
}

bool SenderCache::find(const Hash& tx_hash, Address& out) const {
  const std::lock_guard lock(mutex_);
  for (const auto* half : {&young_, &old_}) {
    const auto it = half->find(tx_hash);
    if (it == half->end()) continue;
    out = it->second;
    return true;
  }
  return false;
}

void SenderCache::add(const Hash& tx_hash, const Address& sender) {
  const std::lock_guard lock(mutex_);
  if (young_.size() >= kHalf) old_ = std::exchange(young_, {});
  young_.emplace(tx_hash, sender);
}

std::shared_ptr<const StoredBlock> BlockCache::find(uint64_t number) {
  const std::lock_guard lock(mutex_);
  const auto it = items_.find(number);
  if (it == items_.end()) return nullptr;
  it->second.used = ++clock_;
  return it->second.block;
}

void BlockCache::add(const std::shared_ptr<const StoredBlock>& block) {
  size_t bytes = 4096 + 2 * block->size + block->block.transactions.size() * (sizeof(Transaction) + sizeof(Receipt));
  for (const Receipt& r : block->receipts)
    for (const Log& log : r.logs) bytes += sizeof(Log) + log.topics.size() * 32 + log.data.size();
  const std::lock_guard lock(mutex_);
  auto& item = items_[block->block.header.number];
  bytes_ += bytes - item.bytes;
  item = {block, bytes, ++clock_};
  while (bytes_ > kBytesMax && items_.size() > 2) {
    auto oldest = items_.begin();
    for (auto it = items_.begin(); it != items_.end(); ++it)
      if (it->second.used < oldest->second.used) oldest = it;
    bytes_ -= oldest->second.bytes;
    items_.erase(oldest);
  }
}

void BlockCache::remove_above(uint64_t number) {
  const std::lock_guard lock(mutex_);
  for (auto it = items_.upper_bound(number); it != items_.end(); it = items_.erase(it)) bytes_ -= it->second.bytes;
}

// ---- opening

Failure Chain::open(Options options, std::unique_ptr<Chain>& out) {
#ifdef __GLIBC__
  // The caches are filled by whatever thread comes: with an arena for each of them the holes that entries leave add up to hundreds of
  // megabytes under load. Before the first thread of ours allocates; what others have is left as it is.
  mallopt(M_ARENA_MAX, 2);
  // Bodies of requests and blocks come and go: left alone, the allocator learns to cut them from the arenas (its threshold follows the largest one
  // that was freed), whose holes grew to 100 MB within half a million transactions. Mapped alone they go back at once.
  mallopt(M_MMAP_THRESHOLD, kMappedFrom);
  mallopt(M_TRIM_THRESHOLD, kTrimFrom);
#endif
  auto chain = std::make_unique<ChainImpl>(std::move(options));
  if (Failure f = chain->start()) return f;
  out = std::move(chain);
  return {};
}

ChainImpl::ChainImpl(Options options) : options_(std::move(options)) {
  if (options_.kv.env == nullptr) options_.kv.env = pread_env();
}

ChainImpl::~ChainImpl() {
  // Views go before the store that they look into.
  pool_.reset();
  kept_.clear();
  head_.reset();
}

Hash ChainImpl::identity() const {
  Bytes all;
  const Hash id = options_.genesis.config.chain_id.be();
  all.insert(all.end(), id.b, id.b + 32);
  const Bytes header = encode_header(options_.genesis.header);
  all.insert(all.end(), header.begin(), header.end());
  all.insert(all.end(), options_.genesis.config_bytes.begin(), options_.genesis.config_bytes.end());
  return keccak(all);
}

Failure ChainImpl::start() {
  Pool::Options pool;
  pool.chain_id = options_.genesis.config.chain_id;
  pool.limits = options_.pool;
  pool.dev = options_.dev;
  pool_ = std::make_unique<Pool>(pool);
  if (Failure f = open_store()) return f;
  index::MetaEntry meta;
  switch (index::read_meta(*kv_, meta)) {
    case index::Found::malformed:
      return {ChainError::corrupt, "the directory's own record is damaged, or of a newer version"};
    case index::Found::yes:
      if (Failure f = check_meta(meta, identity())) return f;
      break;
    case index::Found::absent:
      if (store_->head()->version() != 0) return {ChainError::corrupt, "there is a state but no record of the chain it belongs to"};
      if (Failure f = options_.snapshot.empty() ? make_genesis() : load_snapshot()) return f;
      break;
  }
  if (Failure f = load_head()) return f;
  pool_follows(nullptr);
  if (Failure f = load_journal()) return f;
  return stopped();
}

Failure ChainImpl::open_store() {
  make_directory(options_.kv.env, options_.dir);
  std::string message;
  bool is_held = false;
  if (!lock_.take(options_.kv.env, options_.dir, is_held, message)) {
    if (is_held) return {ChainError::locked, "another process has the directory '" + options_.dir + "' open"};
    return {ChainError::io, message};
  }
  switch (KvStore::open(options_.dir + "/state", options_.kv, kv_, message)) {
    case KvStore::Error::none:
      break;
    case KvStore::Error::locked:
      return {ChainError::locked, "another process has the directory '" + options_.dir + "' open"};
    case KvStore::Error::corrupt:
      return {ChainError::corrupt, message};
    case KvStore::Error::io:
      return {ChainError::io, message};
  }
  kv_->on_error = [this](const std::string& what) { (void)fail(ChainError::corrupt, what); };
  if (!StateStore::open(*kv_, options_.state, store_, message)) return {ChainError::corrupt, message};
  return {};
}

Failure ChainImpl::check_meta(const index::MetaEntry& meta, const Hash& identity) {
  if (meta.identity == identity) {
    genesis_hash_ = meta.genesis_hash;
    return {};
  }
  return {ChainError::wrong_network, "the directory '" + options_.dir + "' belongs to chain " + to_decimal(meta.chain_id) + " with genesis " +
                                         to_hex(meta.genesis_hash) + ", which is not the genesis of chain " +
                                         to_decimal(options_.genesis.config.chain_id) + " that was asked for"};
}

Failure ChainImpl::make_genesis() {
  StateDiff diff;
  std::vector<const GenesisAccount*> order;
  for (const GenesisAccount& a : options_.genesis.alloc) order.push_back(&a);
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) { return a->address < b->address; });
  for (const GenesisAccount* a : order) {
    AccountChange change;
    change.address = a->address;
    change.exists = true;
    change.after = a->account;
    if (!a->code.empty()) {
      auto code = Code::make(a->code);
      change.after.code_hash = code->hash();
      diff.codes.push_back(std::move(code));
    }
    auto slots = a->storage;
    std::sort(slots.begin(), slots.end(), [](const auto& x, const auto& y) { return x.first < y.first; });
    for (const auto& [slot, value] : slots)
      if (!value.is_zero()) change.slots.push_back({slot, U256{}, value});
    diff.accounts.push_back(std::move(change));
  }
  const auto layer = store_->apply(store_->head(), std::move(diff));
  auto block = std::make_shared<StoredBlock>();
  Header& h = block->block.header;
  h = options_.genesis.header;
  h.state_root = view_of(*layer).root();
  if (h.withdrawals_root) block->block.withdrawals.emplace();
  block->block.hash = hash_of(h);
  block->size = encode_block(block->block).size();

  std::string message;
  if (BlockLog::open(options_.kv.env, options_.dir + "/blocks", options_.log_segment_bytes, options_.sync, std::nullopt, log_, message) !=
      BlockLog::Error::none)
    return {ChainError::corrupt, message};
  if (options_.sync && !sync_directory(options_.kv.env, options_.dir)) return {ChainError::io, "the directory does not sync"};
  index::BlockEntry entry{{}, store_->head()->version() + 1, block->block.hash};
  if (!log_->append(h.number, encode_record(*block, false), entry.place, message) || !log_->sync(message)) return {ChainError::io, message};
  const auto batch = kv_->batch();
  store_->prepare(*layer, *batch);
  index::put_block(*batch, *block, entry);
  index::put_head(*batch, {h.number, block->block.hash, entry.version, h.state_root});
  index::put_meta(*batch, {options_.genesis.config.chain_id, block->block.hash, identity()});
  if (!kv_->write(*batch, options_.sync, message)) return {ChainError::io, message};
  store_->committed(layer);
  genesis_hash_ = block->block.hash;
  return {};
}

Failure ChainImpl::load_head() {
  index::HeadEntry head;
  index::BlockEntry entry;
  if (index::read_head(*kv_, head) != index::Found::yes || index::read_block(*kv_, head.number, entry) != index::Found::yes ||
      entry.hash != head.hash)
    return {ChainError::corrupt, "the record of the last block is missing or damaged"};
  auto state = store_->head();
  if (state->version() != head.version || state->root() != head.state_root)
    return {ChainError::corrupt, "the state (version " + std::to_string(state->version()) + ", root " + to_hex(state->root()) +
                                     ") is not that of the last block (version " + std::to_string(head.version) + ", root " +
                                     to_hex(head.state_root) + ")"};
  std::string message;
  if (log_ == nullptr) {
    const auto error =
        BlockLog::open(options_.kv.env, options_.dir + "/blocks", options_.log_segment_bytes, options_.sync, entry.place, log_, message);
    if (error != BlockLog::Error::none) return {error == BlockLog::Error::io ? ChainError::io : ChainError::corrupt, message};
  }
  std::shared_ptr<const StoredBlock> block;
  if (Failure f = read(head.number, block)) return f;
  if (block->block.hash != head.hash) return {ChainError::corrupt, "the last block in the log is another one than the index says"};
  publish(std::make_shared<Head>(Head{block->block.header, head.hash, head.version, std::move(state)}));
  return {};
}

Failure ChainImpl::load_journal() {
  std::vector<Journal::Record> records;
  std::string message;
  if (!Journal::open(options_.kv.env, options_.dir, options_.sync, records, journal_, message)) return {ChainError::io, message};
  for (size_t at = 0; at < records.size(); at += kRestoreChunk) {
    std::vector<PooledTx> txs;
    for (size_t i = at; i < std::min(at + kRestoreChunk, records.size()); ++i) {
      auto tx = std::make_shared<Transaction>();
      if (decode_transaction(records[i].raw, *tx) != nullptr) continue;
      if (!options_.dev && is_impersonated(*tx, records[i].sender)) continue;
      tx->sender = records[i].sender;
      tx->sender_known = true;
      txs.push_back(std::move(tx));
    }
    (void)pool_->add(txs);  // what is no longer valid is dropped
  }
  return {};
}

// ---- stopping

Failure ChainImpl::stopped() const {
  if (!is_stopped_.load(std::memory_order_acquire)) return {};
  const std::lock_guard lock(failure_mutex_);
  return {failure_.error == ChainError::stopped ? ChainError::stopped : failure_.error, failure_.message};
}

Failure ChainImpl::fail(ChainError error, const std::string& message) {
  const std::lock_guard lock(failure_mutex_);
  if (!failure_) failure_ = {error, message};
  is_stopped_.store(true, std::memory_order_release);
  return failure_;
}

void ChainImpl::close() { (void)fail(ChainError::stopped, "the chain is closed"); }

// ---- reads

std::shared_ptr<const Chain::Head> ChainImpl::head() const {
  const std::lock_guard lock(head_mutex_);
  return head_;
}

void ChainImpl::publish(std::shared_ptr<const Head> head) {
  {
    const std::lock_guard lock(head_mutex_);
    head_.swap(head);
  }
  // The one before ends here, outside of the lock.
}

Failure ChainImpl::read(uint64_t number, std::shared_ptr<const StoredBlock>& out) {
  out = cache_.find(number);
  if (out != nullptr) return {};
  index::BlockEntry entry;
  const index::Found found = index::read_block(*kv_, number, entry);
  if (found == index::Found::absent) return {ChainError::not_found, "there is no block " + std::to_string(number)};
  if (found == index::Found::yes && entry.place.segment == 0)
    return {ChainError::pruned, "block " + std::to_string(number) + " is from before the snapshot that this node began with"};
  Bytes record;
  std::string message = "the index entry of block " + std::to_string(number) + " is damaged";
  auto error = BlockLog::Error::corrupt;
  if (found == index::Found::yes) error = log_->read(entry.place, number, record, message);
  auto block = std::make_shared<StoredBlock>();
  if (error == BlockLog::Error::none && (!decode_record(record, *block) || block->block.hash != entry.hash)) {
    error = BlockLog::Error::corrupt;
    message = "block " + std::to_string(number) + " in the log is another one than the index says";
  }
  if (error != BlockLog::Error::none) return fail(error == BlockLog::Error::io ? ChainError::io : ChainError::corrupt, message);
  out = block;
  cache_.add(out);
  return {};
}

std::shared_ptr<const StoredBlock> ChainImpl::by_number(uint64_t number) {
  std::shared_ptr<const StoredBlock> out;
  (void)read(number, out);
  return out;
}

bool ChainImpl::header(uint64_t number, Header& out) {
  const auto now = head();
  if (number == now->header.number) {
    out = now->header;
    return true;
  }
  return number < now->header.number && index::read_header(*kv_, number, out) == index::Found::yes;
}

std::shared_ptr<const StoredBlock> ChainImpl::by_hash(const Hash& hash) {
  uint64_t number = 0;
  return number_of(hash, number) ? by_number(number) : nullptr;
}

bool ChainImpl::number_of(const Hash& hash, uint64_t& number) {
  const auto now = head();
  if (hash == now->hash) {
    number = now->header.number;
    return true;
  }
  const auto found = index::number_of(*kv_, hash);
  if (!found) return false;
  number = *found;
  return true;
}

std::optional<Chain::Place> ChainImpl::locate(const Hash& tx_hash) { return index::locate(*kv_, tx_hash); }

std::optional<Hash> ChainImpl::by_sender_and_nonce(const Address& sender, uint64_t nonce) {
  const auto place = index::locate(*kv_, sender, nonce);
  if (!place) return std::nullopt;
  const auto block = by_number(place->number);
  if (block == nullptr || place->index >= block->block.transactions.size()) return std::nullopt;
  return block->block.transactions[place->index].hash;
}

// What is older than the setting says is refused, though it is let go later: tries on disk that are behind need it. So the answer depends on the heights alone.
uint64_t ChainImpl::oldest_state(uint64_t head_number) const {
  const uint64_t history = std::max<uint64_t>(options_.state.history, 1);
  return options_.state.archive || head_number < history ? 0 : head_number - history;
}

uint64_t ChainImpl::keep_from(uint64_t head_number) const {
  if (options_.state.archive) return 0;
  index::BlockEntry entry;
  return index::read_block(*kv_, oldest_state(head_number), entry) == index::Found::yes ? entry.version : 0;
}

std::shared_ptr<const StateView> ChainImpl::state_at(uint64_t number, Failure& failure) {
  const auto now = head();
  if (number == now->header.number) return now->state;
  index::BlockEntry entry;
  if (number > now->header.number || index::read_block(*kv_, number, entry) != index::Found::yes) {
    failure = {ChainError::not_found, "there is no block " + std::to_string(number)};
    return nullptr;
  }
  auto view = number < oldest_state(now->header.number) ? nullptr : store_->at(entry.version);
  if (view == nullptr) failure = {ChainError::pruned, "the state of block " + std::to_string(number) + " is pruned"};
  return view;
}

Failure ChainImpl::logs(const LogFilter& filter, std::vector<PlacedLog>& out) {
  LogFilter f = filter;
  f.to = std::min(f.to, head()->header.number);
  Failure failure;
  index::candidates(*kv_, f, [&](uint64_t number) {
    if ((failure = stopped())) return false;
    std::shared_ptr<const StoredBlock> block;
    if ((failure = read(number, block))) {
      // A block that went away meanwhile (development) has no logs.
      if (failure.error == ChainError::not_found) failure = {};
      return !failure;
    }
    uint32_t log_index = 0;
    for (uint32_t i = 0; i < block->receipts.size(); ++i)
      for (const Log& log : block->receipts[i].logs) {
        const uint32_t at = log_index++;
        if (!index::matches(f, log)) continue;
        if (out.size() >= f.limit) {
          failure = {ChainError::rejected, std::to_string(number == 0 ? 0 : number - 1)};
          return false;
        }
        out.push_back({log, block->block.hash, block->block.transactions[i].hash, number, block->block.header.timestamp, i, at});
      }
    return true;
  });
  return failure;
}

Hash ChainImpl::block_hash(uint64_t number) const {
  const auto now = head();
  if (number == now->header.number) return now->hash;
  index::BlockEntry entry;
  return index::read_block(*kv_, number, entry) == index::Found::yes ? entry.hash : Hash{};
}

// ---- the pool

void ChainImpl::set_next(const U256& base_fee, uint64_t gas_limit) {
  next_gas_limit_ = gas_limit;
  pool_->set_next(base_fee, gas_limit);
}

void ChainImpl::pool_follows(const std::vector<Address>* touched) {
  const auto now = head();
  const Header& h = now->header;
  const uint64_t wanted = next_gas_limit_;
  pool_->set_head(now->state, h.base_fee ? next_base_fee(h) : U256{}, wanted == 0 ? h.gas_limit : wanted,
                  config().revision_at(h.number + 1, h.timestamp), touched);
}

std::vector<Pool::Answer> ChainImpl::submit(std::span<const ByteView> raw) {
  std::vector<Pool::Answer> out(raw.size());
  if (const Failure f = stopped()) {
    for (auto& a : out) a.refusal = f.message;
    return out;
  }
  Stopwatch watch;
  std::vector<std::shared_ptr<Transaction>> txs(raw.size());
  parallel_for(
      raw.size(), kDecodeGrain,
      [&](size_t begin, size_t end) {
        for (size_t i = begin; i < end; ++i) {
          if (raw[i].size() > kTxBytesMax) {
            out[i].refusal = "oversized data: transaction size " + std::to_string(raw[i].size()) + ", limit " + std::to_string(kTxBytesMax);
          } else if (raw[i].empty()) {
            out[i].refusal = "typed transaction too short";
          } else {
            txs[i] = std::make_shared<Transaction>();
            if (const char* why = decode_transaction(raw[i], *txs[i])) out[i].refusal = why;
          }
        }
      },
      options_.threads);
  std::vector<Transaction*> unknown;
  std::vector<size_t> which;
  for (size_t i = 0; i < txs.size(); ++i) {
    if (!out[i].refusal.empty()) continue;
    out[i].hash = txs[i]->hash;
    if (pool_->get(txs[i]->hash) != nullptr) {
      out[i].refusal = "already known";
      continue;
    }
    which.push_back(i);
    unknown.push_back(txs[i].get());
  }
  figures_.decode_us += watch.lap();
  recover_senders(unknown, options_.threads);
  figures_.recover_us += watch.lap();
  std::vector<PooledTx> pooled;
  pooled.reserve(which.size());
  for (const size_t i : which) pooled.push_back(std::move(txs[i]));
  auto answers = pool_->add(pooled);
  std::vector<PooledTx> accepted;
  std::vector<size_t> accepted_at;
  for (size_t k = 0; k < which.size(); ++k) {
    out[which[k]] = std::move(answers[k]);
    if (!out[which[k]].refusal.empty()) continue;
    accepted.push_back(std::move(pooled[k]));
    accepted_at.push_back(which[k]);
  }
  figures_.admit_us += watch.lap();
  journal_accepted(accepted, out, accepted_at);
  figures_.journal_us += watch.lap();
  figures_.submitted += raw.size();
  figures_.accepted += accepted.size();
  return out;
}

// Durable before anybody is told; what cannot be made so leaves the pool again.
void ChainImpl::journal_accepted(std::span<const PooledTx> txs, std::vector<Pool::Answer>& answers, std::span<const size_t> which) {
  std::string message;
  if (journal_->append(txs, message)) return;
  (void)fail(ChainError::io, message);
  for (size_t k = 0; k < txs.size(); ++k) {
    (void)pool_->remove(txs[k]->hash);
    answers[which[k]].refusal = message;
  }
}

Pool::Answer ChainImpl::submit_unsigned(Transaction tx) {
  if (const Failure f = stopped()) return {{}, f.message};
  if (!options_.dev) return {{}, "invalid sender"};
  tx.has_chain_id = true;
  tx.chain_id = config().chain_id;
  tx.r = U256::from(tx.sender);
  tx.s = U256{1};
  tx.y_parity = 0;
  tx.v = tx.type == 0 ? tx.chain_id * U256{2} + U256{35} : U256{};
  tx.raw = encode_transaction(tx);
  tx.hash = keccak(tx.raw);
  tx.sender_known = true;
  const PooledTx pooled = std::make_shared<const Transaction>(std::move(tx));
  auto answers = pool_->add({&pooled, 1});
  if (answers[0].refusal.empty()) {
    const size_t first = 0;
    journal_accepted({&pooled, 1}, answers, {&first, 1});
  }
  return answers[0];
}

std::vector<std::pair<std::string, double>> ChainImpl::stats() const {
  const auto now = head();
  const Pool::Counts pool = pool_->counts();
  const Figures& f = figures_;
  const auto n = [](const std::atomic<uint64_t>& x) { return static_cast<double>(x.load()); };
  return {{"height", static_cast<double>(now->header.number)},
          {"version", static_cast<double>(now->version)},
          {"poolPending", static_cast<double>(pool.pending)},
          {"poolQueued", static_cast<double>(pool.queued)},
          {"poolBytes", static_cast<double>(pool.bytes)},
          {"submitted", n(f.submitted)},
          {"accepted", n(f.accepted)},
          {"decodeUs", n(f.decode_us)},
          {"recoverUs", n(f.recover_us)},
          {"admitUs", n(f.admit_us)},
          {"journalUs", n(f.journal_us)},
          {"journalSyncs", static_cast<double>(journal_->syncs())},
          {"built", n(f.built)},
          {"buildUs", n(f.build_us)},
          {"selectUs", n(f.select_us)},
          {"rootUs", n(f.root_us)},
          {"payloads", n(f.payloads)},
          {"payloadUs", n(f.payload_us)},
          {"speculated", n(f.speculated)},
          {"repeated", n(f.repeated)},
          {"committed", n(f.committed)},
          {"transactions", n(f.transactions)},
          {"gas", n(f.gas)},
          {"recordUs", n(f.record_us)},
          {"logUs", n(f.log_us)},
          {"prepareUs", n(f.prepare_us)},
          {"indexUs", n(f.index_us)},
          {"writeUs", n(f.write_us)},
          {"applyUs", n(f.apply_us)},
          {"poolUs", n(f.pool_us)}};
}

}  // namespace zg
