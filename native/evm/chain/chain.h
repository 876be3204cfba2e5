// The execution client in one object: pool, blocks, receipts, logs, state. Consensus (JavaScript, or an engine API client) says when to build and what to
// commit; nothing here decides that. The boundary is Ethereum's Engine API: build, new_payload, commit.
//
// Threads. `build`, `new_payload`, `commit`, `revert_to`, `write_state` are for one thread at a time (the chain's own worker); everything else may be called
// from any thread at any time and sees the last committed block.
//
// Durability. A block is committed in two synced steps: its record in the block log (bodies, receipts), then one batch: state, trie, history, indexes, head.
// Before the second it never happened, after it it is final. Accepted transactions are in the pool's journal, synced in groups, before anybody is told.
// A failed write or sync is final: the chain refuses everything from then on.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "db/kv.h"
#include "db/state_store.h"
#include "exec/block.h"
#include "exec/config.h"
#include "pool/pool.h"
#include "precompiles/precompiles.h"

namespace zg {

struct GenesisAccount {
  Address address;
  AccountData account;
  Bytes code;
  std::vector<std::pair<U256, U256>> storage;
};

struct Genesis {
  ChainConfig config;
  Header header;  // state root is computed
  std::vector<GenesisAccount> alloc;
  Bytes config_bytes;  // the whole genesis as it was given; its hash is kept with the chain: another one is another network
};

struct StoredBlock {
  Block block;
  std::vector<Receipt> receipts;
  size_t size = 0;  // of the block's RLP
};

struct PlacedLog {
  Log log;
  Hash block_hash{}, transaction_hash{};
  uint64_t block_number = 0, block_timestamp = 0;
  uint32_t transaction_index = 0, log_index = 0;
};

struct LogFilter {
  uint64_t from = 0, to = 0;
  std::vector<Address> addresses;
  std::vector<std::vector<Hash>> topics;
  size_t limit = 20'000;
};

enum class ChainError : uint8_t { none, locked, corrupt, wrong_network, io, not_found, rejected, pruned, stopped };

struct Failure {
  ChainError error = ChainError::none;
  std::string message;
  explicit operator bool() const noexcept { return error != ChainError::none; }
};

class Chain {
 public:
  struct Options {
    std::string dir;
    Genesis genesis;
    StateStore::Options state;
    KvStore::Options kv;
    PoolLimits pool;
    Precompiles precompiles;
    bool dev = false;
    unsigned threads = 2;
    Execution execution{2};    // of the transactions of a block
    bool sync = true;          // tests may turn syncs off
    uint64_t log_segment_bytes = 256u << 20;
    std::string snapshot;      // a file to begin from when the directory is empty
  };
  static Failure open(Options options, std::unique_ptr<Chain>& out);
  virtual ~Chain() = default;

  // ---- the head
  struct Head {
    Header header;
    Hash hash{};
    uint64_t version = 0;  // of the state
    std::shared_ptr<const StateView> state;
  };
  [[nodiscard]] virtual std::shared_ptr<const Head> head() const = 0;
  [[nodiscard]] virtual const Hash& genesis_hash() const = 0;
  [[nodiscard]] virtual const ChainConfig& config() const = 0;
  [[nodiscard]] virtual const Precompiles& precompiles() const = 0;

  // ---- blocks
  // Null: there is none, or it does not read (`read` says why; the chain stops then).
  virtual std::shared_ptr<const StoredBlock> by_number(uint64_t number) = 0;
  virtual Failure read(uint64_t number, std::shared_ptr<const StoredBlock>& out) = 0;
  // Alone, without its block: one look-up.
  virtual bool header(uint64_t number, Header& out) = 0;
  virtual std::shared_ptr<const StoredBlock> by_hash(const Hash& hash) = 0;  // canonical ones
  virtual bool number_of(const Hash& hash, uint64_t& number) = 0;
  struct Place {
    uint64_t number = 0;
    uint32_t index = 0;
  };
  virtual std::optional<Place> locate(const Hash& tx_hash) = 0;
  // Nonce → mined transaction of a sender.
  virtual std::optional<Hash> by_sender_and_nonce(const Address& sender, uint64_t nonce) = 0;
  // State after a block; null and a failure when it is pruned.
  virtual std::shared_ptr<const StateView> state_at(uint64_t number, Failure& failure) = 0;
  // The state after `diff` on a state of this chain, with its root; nothing durable. Null: too far in the past for its tries to be made.
  virtual std::shared_ptr<StateLayer> apply(std::shared_ptr<const StateView> parent, StateDiff diff) {
    (void)parent, (void)diff;
    return nullptr;
  }
  // By block then log index. `rejected` with the last block that fits in the message when there are too many.
  virtual Failure logs(const LogFilter& filter, std::vector<PlacedLog>& out) = 0;
  virtual const BlockHashes& hashes() const = 0;

  // ---- the pool
  virtual Pool& pool() = 0;
  // What the next block is assumed to be. The base fee holds until the next commit, the gas limit until the next call.
  virtual void set_next(const U256& base_fee, uint64_t gas_limit) = 0;
  // Decodes, recovers, admits, journals (one sync for all). Answers in order.
  virtual std::vector<Pool::Answer> submit(std::span<const ByteView> raw) = 0;
  // From an impersonated account (development): no signature.
  virtual Pool::Answer submit_unsigned(Transaction tx) = 0;

  // ---- consensus
  // Builds on the head from the pool. Not durable; kept until commit or the next build (a few at most).
  // `budget_ms` from now.
  virtual Failure build(const BlockAttributes& attributes, uint64_t budget_ms, std::shared_ptr<const StoredBlock>& out) = 0;
  // A block made elsewhere on the head or on a kept one. `rejected`: invalid, and why. `not_found`: its parent is unknown.
  virtual Failure new_payload(ByteView raw_block, Hash& hash) = 0;
  // A built or accepted block that is not committed yet, and its EIP-7685 requests. Any thread.
  virtual std::shared_ptr<const StoredBlock> kept(const Hash& hash, std::vector<Bytes>* requests) = 0;
  // A built or accepted block whose parent is the head becomes the head, durable. The pool follows.
  virtual Failure commit(const Hash& hash, std::shared_ptr<const StoredBlock>& out) = 0;
  // Back to a block (development): blocks above are gone, the state as it was after `version`. Returned highest first.
  virtual Failure revert_to(uint64_t number, uint64_t version, std::vector<std::shared_ptr<const StoredBlock>>& gone) = 0;
  // Development: changes accounts on the head without a block.
  struct AccountWrite {
    Address address;
    std::optional<uint64_t> nonce;
    std::optional<U256> balance;
    std::optional<Bytes> code;
    std::vector<std::pair<U256, U256>> storage;
  };
  virtual Failure write_state(std::span<const AccountWrite> writes) = 0;

  // ---- whole states
  // Writes the state of the head with its block and the last 256 hashes into a new file. Any thread. See chain/snapshot.h.
  virtual Failure save_snapshot(const std::string& path) = 0;

  // The root of the head's state from its flat values alone: scrub, tests. Reads everything.
  virtual Hash recompute_state_root() const = 0;

  // Figures for metrics: name, value.
  virtual std::vector<std::pair<std::string, double>> stats() const = 0;
  // Where memory is, in bytes: each bounded structure by itself, and what the allocator holds in all.
  virtual std::vector<std::pair<std::string, double>> memory() = 0;
  // Waits for what is running, writes nothing more.
  virtual void close() = 0;
};

}  // namespace zg
