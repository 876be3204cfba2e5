// The chain's inside. chain.cpp: opening, reads, pool. chain_blocks.cpp: building, taking and committing blocks, development changes.
#pragma once

#include <atomic>
#include <deque>
#include <map>
#include <mutex>
#include <unordered_map>

#include "chain/block_log.h"
#include "chain/chain.h"
#include "chain/files.h"
#include "chain/index.h"
#include "chain/journal.h"

namespace zg {

// Senders of transactions that were recovered for blocks and are not in the pool. Bounded; forgets the older half. Thread safe.
class SenderCache {
 public:
  bool find(const Hash& tx_hash, Address& out) const;
  void add(const Hash& tx_hash, const Address& sender);
  [[nodiscard]] size_t count() const {
    const std::lock_guard lock(mutex_);
    return young_.size() + old_.size();
  }

 private:
  static constexpr size_t kHalf = 16'384;
  mutable std::mutex mutex_;
  std::unordered_map<Hash, Address, HashHasher> young_, old_;
};

// Decoded blocks by number, the newest and the last asked for, bounded by bytes. Thread safe.
class BlockCache {
 public:
  std::shared_ptr<const StoredBlock> find(uint64_t number);
  void add(const std::shared_ptr<const StoredBlock>& block);
  void remove_above(uint64_t number);
  [[nodiscard]] size_t bytes() {
    const std::lock_guard lock(mutex_);
    return bytes_;
  }

 private:
  static constexpr size_t kBytesMax = 16u << 20;
  struct Item {
    std::shared_ptr<const StoredBlock> block;
    size_t bytes;
    uint64_t used;
  };
  std::mutex mutex_;
  std::map<uint64_t, Item> items_;
  size_t bytes_ = 0;
  uint64_t clock_ = 0;
};

// Time spent and things done, for stats(). Microseconds.
struct Figures {
  std::atomic<uint64_t> submitted{0}, accepted{0}, decode_us{0}, recover_us{0}, admit_us{0}, journal_us{0};
  std::atomic<uint64_t> built{0}, build_us{0}, select_us{0}, root_us{0}, committed{0}, transactions{0}, gas{0}, record_us{0}, log_us{0}, prepare_us{0}, index_us{0},
      write_us{0}, apply_us{0}, pool_us{0}, payloads{0}, payload_us{0}, speculated{0}, repeated{0};
};

class ChainImpl final : public Chain, private BlockHashes {
 public:
  explicit ChainImpl(Options options);
  ~ChainImpl() override;
  Failure start();

  std::shared_ptr<const Head> head() const override;
  const Hash& genesis_hash() const override { return genesis_hash_; }
  const ChainConfig& config() const override { return options_.genesis.config; }
  const Precompiles& precompiles() const override { return options_.precompiles; }
  std::shared_ptr<const StoredBlock> by_number(uint64_t number) override;
  Failure read(uint64_t number, std::shared_ptr<const StoredBlock>& out) override;
  bool header(uint64_t number, Header& out) override;
  std::shared_ptr<const StoredBlock> by_hash(const Hash& hash) override;
  bool number_of(const Hash& hash, uint64_t& number) override;
  std::optional<Place> locate(const Hash& tx_hash) override;
  std::optional<Hash> by_sender_and_nonce(const Address& sender, uint64_t nonce) override;
  std::shared_ptr<const StateView> state_at(uint64_t number, Failure& failure) override;
  std::shared_ptr<StateLayer> apply(std::shared_ptr<const StateView> parent, StateDiff diff) override {
    return store_->apply(std::move(parent), std::move(diff));
  }
  Failure logs(const LogFilter& filter, std::vector<PlacedLog>& out) override;
  const BlockHashes& hashes() const override { return *this; }

  Pool& pool() override { return *pool_; }
  void set_next(const U256& base_fee, uint64_t gas_limit) override;
  std::vector<Pool::Answer> submit(std::span<const ByteView> raw) override;
  Pool::Answer submit_unsigned(Transaction tx) override;

  Failure build(const BlockAttributes& attributes, uint64_t budget_ms, std::shared_ptr<const StoredBlock>& out) override;
  Failure new_payload(ByteView raw_block, Hash& hash) override;
  std::shared_ptr<const StoredBlock> kept(const Hash& hash, std::vector<Bytes>* requests) override;
  Failure commit(const Hash& hash, std::shared_ptr<const StoredBlock>& out) override;
  Failure revert_to(uint64_t number, uint64_t version, std::vector<std::shared_ptr<const StoredBlock>>& gone) override;
  Failure write_state(std::span<const AccountWrite> writes) override;
  Failure save_snapshot(const std::string& path) override;

  Hash recompute_state_root() const override { return store_->recompute_root(); }
  std::vector<std::pair<std::string, double>> stats() const override;
  std::vector<std::pair<std::string, double>> memory() override;
  void close() override;

 private:
  struct Kept {
    std::shared_ptr<const StoredBlock> block;
    std::vector<Bytes> requests;
    std::shared_ptr<StateLayer> layer;
    std::vector<Address> touched;
    uint64_t order = 0;
  };

  Hash block_hash(uint64_t number) const override;

  Failure open_store();
  Failure make_genesis();
  Failure check_meta(const index::MetaEntry& meta, const Hash& identity);
  Failure load_head();
  Failure load_journal();
  Failure load_snapshot();
  [[nodiscard]] Hash identity() const;

  // None while all is well; else what every change is refused with from now on.
  Failure stopped() const;
  // Remembers the first one, for ever.
  Failure fail(ChainError error, const std::string& message);
  void publish(std::shared_ptr<const Head> head);
  // First block whose state is answered under a head; and the version of that state.
  [[nodiscard]] uint64_t oldest_state(uint64_t head_number) const;
  [[nodiscard]] uint64_t keep_from(uint64_t head_number) const;
  void pool_follows(const std::vector<Address>* touched);
  void keep(const Hash& hash, Kept kept);
  Failure write(const KvBatch& batch);
  void journal_accepted(std::span<const PooledTx> txs, std::vector<Pool::Answer>& answers, std::span<const size_t> which);

  Options options_;
  DirectoryLock lock_;  // first, so that it goes last
  std::unique_ptr<KvStore> kv_;
  std::unique_ptr<StateStore> store_;
  std::unique_ptr<BlockLog> log_;
  std::unique_ptr<Journal> journal_;
  std::unique_ptr<Pool> pool_;
  Hash genesis_hash_{};

  mutable std::mutex head_mutex_;
  std::shared_ptr<const Head> head_;
  mutable std::mutex failure_mutex_;
  Failure failure_;
  std::atomic<bool> is_stopped_{false};
  std::atomic<uint64_t> next_gas_limit_{0};  // 0: the head's
  std::mutex kept_mutex_;
  std::unordered_map<Hash, Kept, HashHasher> kept_;
  uint64_t kept_order_ = 0;
  BlockCache cache_;
  SenderCache senders_;
  Figures figures_;
};

// Microseconds since the last call of lap(), or since it was made.
class Stopwatch {
 public:
  Stopwatch();
  uint64_t lap();

 private:
  uint64_t at_;
};

}  // namespace zg
