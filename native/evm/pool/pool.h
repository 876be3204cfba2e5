// Transactions that wait for a block (chain.md 9.6).
//
//   sender ──▶ next nonce 7:  7 8 9 │ 11 12          pending: gapless from the next nonce    queued: behind a gap
//
// Refusals carry geth's words. Bounds: count and bytes over all, queued a sender; when full, the tail of the sender that pays least goes, queued ones
// before pending ones, and a newcomer that pays no more than it is refused. Thread safe: one mutex, held for microseconds; decoding and
// recovery happen before it.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "exec/block.h"
#include "exec/transaction.h"
#include "state/reader.h"

namespace zg {

struct PoolLimits {
  size_t count = 32'768;
  size_t bytes = 128u << 20;
  size_t queued_per_sender = 64;
};

using PooledTx = std::shared_ptr<const Transaction>;

class Pool {
 public:
  struct Options {
    U256 chain_id;
    PoolLimits limits;
    bool dev = false;  // accepts transactions of impersonated accounts
  };
  explicit Pool(const Options& options);
  ~Pool();

  // What the head is: state for nonces and balances, the next block's base fee and gas limit, its rules. `touched`: accounts whose transactions must
  // be looked at again; none: all. Returns what was dropped.
  void set_head(std::shared_ptr<const StateReader> state, const U256& base_fee, uint64_t gas_limit, Revision rev,
                const std::vector<Address>* touched);

  // Admits decoded transactions with known senders, in order. One answer each: empty text: accepted. Accepted ones are in the pool; the caller makes them
  // durable before it tells anybody (and removes them when it cannot).
  struct Answer {
    Hash hash;
    std::string refusal;
  };
  std::vector<Answer> add(std::span<const PooledTx> txs);

  [[nodiscard]] PooledTx get(const Hash& hash) const;
  // Next nonce after the sender's gapless transactions.
  [[nodiscard]] uint64_t pending_nonce(const Address& sender) const;
  struct Counts {
    size_t pending = 0, queued = 0, bytes = 0;
  };
  [[nodiscard]] Counts counts() const;
  struct Content {
    std::vector<PooledTx> pending, queued;  // by sender, by nonce
  };
  [[nodiscard]] Content content() const;
  [[nodiscard]] Content content_of(const Address& sender) const;
  bool remove(const Hash& hash);
  void clear();
  // Oldest first: for the journal.
  [[nodiscard]] std::vector<PooledTx> all() const;
  // True when a block at the head's base fee could hold something.
  [[nodiscard]] bool has_executable() const;
  // Hashes that became pending since the last call, in order, at most 100 000 (for newPendingTransactions).
  std::vector<Hash> take_announced();

  // What the next block is assumed to be, when it is not what set_head said (an operator's gas limit, a development base fee).
  void set_next(const U256& base_fee, uint64_t gas_limit);

  // For a block at this base fee: best first by effective tip, nonces of a sender in order, first come first on ties; only what pays the base fee; a
  // snapshot taken now. What turns out invalid is removed from the pool, which must outlive the source.
  std::unique_ptr<TransactionSource> select(const U256& base_fee);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace zg
