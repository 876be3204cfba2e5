// Blocks: bytes, execution, checking and building.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "exec/config.h"
#include "exec/header.h"
#include "exec/parallel.h"
#include "exec/transaction.h"
#include "exec/transition.h"
#include "state/diff.h"

namespace zg {

struct Withdrawal {
  uint64_t index = 0, validator = 0;
  Address address{};
  uint64_t amount_gwei = 0;
};

struct Block {
  Header header;
  Hash hash{};
  std::vector<Transaction> transactions;
  std::vector<Header> ommers;
  std::optional<std::vector<Withdrawal>> withdrawals;
};

struct Receipt {
  uint8_t type = 0;
  bool success = false;
  std::optional<Hash> post_state;  // before Byzantium
  uint64_t cumulative_gas = 0;
  uint64_t gas_used = 0;
  U256 effective_gas_price;
  Bloom bloom{};
  std::vector<Log> logs;
  std::optional<Address> created;
};

// Error: why, in words a person can use; nullptr: all is well.
const char* decode_block(ByteView raw, Block& out);
Bytes encode_block(const Block& block);
// Consensus form, as hashed into the receipts root: type ‖ rlp([status or post-state, cumulative gas, bloom, logs]).
Bytes encode_receipt(const Receipt& r);
void add_to_bloom(Bloom& bloom, const Log& log) noexcept;
Hash transactions_root(std::span<const Transaction> txs);
Hash receipts_root(std::span<const Receipt> receipts);
Hash withdrawals_root(std::span<const Withdrawal> withdrawals);
// EIP-1559 with elasticity 2 and denominator 8.
U256 next_base_fee(const Header& parent) noexcept;
uint64_t next_excess_blob_gas(const Header& parent, const ChainConfig& config, uint64_t timestamp) noexcept;

// Computes the root of a diff on top of the parent's state: the store's business, given in as a function.
using RootOf = std::function<Hash(const StateDiff&)>;

struct BlockOutcome {
  std::string error;  // empty: valid
  std::vector<Receipt> receipts;
  std::vector<Bytes> requests;  // EIP-7685, type byte first, empty ones left out
  StateDiff diff;
  ExecutionFigures figures;
};

// Headers of the past, for rules about ommers (before Paris). `depth` 1 is the block's parent. Null: beyond the first block, or not kept.
class Ancestry {
 public:
  virtual ~Ancestry() = default;
  virtual const Block* ancestor(uint64_t depth) const = 0;
};

// Checks a block made elsewhere against its parent and executes it: header rules of the fork, senders, transactions, ommers and rewards of old forks,
// system calls, withdrawals, requests, and all roots. The seal of proof of work is not checked. A block with ommers is refused without `ancestry`.
// `threads`: for senders. With `execution` on several threads, parent_state, hashes and precompiles are read by all of them.
BlockOutcome execute_block(const StateReader& parent_state, const Header& parent, const Block& block, const ChainConfig& config,
                           const Precompiles& precompiles, const BlockHashes& hashes, const RootOf& root_of, unsigned threads,
                           const Ancestry* ancestry = nullptr, const Execution& execution = {});

struct BlockAttributes {
  uint64_t timestamp = 0;
  Hash prev_randao{};
  Address fee_recipient{};
  Hash parent_beacon_root{};
  std::vector<Withdrawal> withdrawals;
  uint64_t gas_limit = 0;
  Bytes extra_data;
  std::optional<U256> base_fee;  // development only
};

// Where a builder takes its transactions from, best first. Single threaded.
class TransactionSource {
 public:
  virtual ~TransactionSource() = default;
  // The next to try, or null. Its sender is known. The pointer lives until the block is built.
  virtual const Transaction* next() = 0;
  // What became of the one `next` gave last. `invalid`: it cannot be included on this state (text as in TxOutcome): the sender's later ones are skipped.
  // `no_room`: its gas does not fit into what is left of the block.
  enum class Fate : uint8_t { included, invalid, no_room };
  virtual void settle(Fate fate, const std::string& text) = 0;
  // What `next` will give if all of them are included: the first time behind the one it gave last, then behind the last answer. Null: nothing, or not known.
  virtual const Transaction* ahead() { return nullptr; }
};

struct BuiltBlock {
  Block block;
  std::vector<Receipt> receipts;
  std::vector<Bytes> requests;
  StateDiff diff;
  ExecutionFigures figures;
};

// Executes until the source is dry, the gas limit reached, or `deadline_ms` of monotonic time is past; seals. Never fails.
BuiltBlock build_block(const StateReader& parent_state, const Header& parent, const BlockAttributes& attributes, const ChainConfig& config,
                       const Precompiles& precompiles, const BlockHashes& hashes, const RootOf& root_of, TransactionSource& source,
                       uint64_t deadline_ms, const Execution& execution = {});

}  // namespace zg
