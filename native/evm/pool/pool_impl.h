// The pool's inside: senders, their transactions, what must hold between them. Everything here is called under the pool's mutex, except the free functions.
#pragma once

#include <algorithm>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <unordered_map>

#include "pool/pool.h"

namespace zg {

// What a transaction pays its block a unit of gas: min(tip cap, fee cap − base fee). One whose fee cap is below the base fee pays less than one whose is not,
// and the less the further it is below.
struct Tip {
  bool pays = false;
  U256 amount;  // or 2^256 − 1 − what is missing
  friend bool operator==(const Tip&, const Tip&) = default;
  friend bool operator<(const Tip& a, const Tip& b) noexcept { return a.pays != b.pays ? b.pays : a.amount < b.amount; }
};
Tip tip_of(const Transaction& tx, const U256& base_fee) noexcept;

// gas limit × fee cap + value, 2^256 − 1 when it is more.
U256 cost_of(const Transaction& tx) noexcept;

struct SenderState {
  uint64_t nonce = 0;
  U256 balance;
  bool delegated = false;  // its code is a delegation (EIP-7702): one transaction in flight
};
SenderState sender_state(const StateReader* state, const Address& address);

struct Newcomer {
  PooledTx tx;
  U256 cost;
  SenderState state;  // of the sender, when the pool did not know it
  std::vector<Address> authorities;
  bool known_sender = false;
};

struct Sender;

struct Entry {
  PooledTx tx;
  uint64_t seq = 0;  // order of arrival
  U256 cost;
  bool announced = false;
  std::vector<Address> authorities;  // accounts it delegates
  Sender* sender = nullptr;
};

// The last transaction of a sender, as a candidate to be evicted: worst first.
struct Tail {
  bool queued = false;
  Tip tip;
  uint64_t seq = 0;
  Sender* sender = nullptr;
  friend bool operator<(const Tail& a, const Tail& b) noexcept {
    if (a.queued != b.queued) return a.queued;
    if (!(a.tip == b.tip)) return a.tip < b.tip;
    return a.seq > b.seq;
  }
};

struct Sender : SenderState {
  Address address{};
  std::map<uint64_t, Entry> txs;  // by nonce
  uint64_t next = 0;              // the nonce behind the gapless ones
  U256 pending_cost;              // of the gapless ones
  U256 cost_max;                  // no transaction costs, or allows, more than these
  uint64_t gas_max = 0;
  std::optional<Tail> tail;       // as it stands in `tails`
};

struct Pool::Impl {
  explicit Impl(const Options& o) : options(o) {
    // A newcomer may push out the last of its own sender, who must have another one then.
    options.limits.queued_per_sender = std::max<size_t>(options.limits.queued_per_sender, 2);
  }

  Options options;
  mutable std::mutex mutex;
  std::shared_ptr<const StateReader> state;
  U256 base_fee;
  uint64_t gas_limit = 30'000'000;
  Revision rev = Revision::prague;
  uint64_t generation = 0;  // grows with every change of the head: an account read before it is stale

  std::unordered_map<Address, std::unique_ptr<Sender>, AddressHasher> senders;
  std::unordered_map<Hash, Entry*, HashHasher> by_hash;
  std::unordered_map<Address, uint32_t, AddressHasher> reserved;  // how many pool transactions delegate an account
  size_t pending = 0, bytes = 0;
  uint64_t seq = 0;
  std::vector<Hash> announced;
  std::optional<bool> executable;  // cached answer
  // Tails of all senders; kept only while the pool is full, since nobody asks otherwise.
  std::set<Tail> tails;
  bool tails_kept = false;

  // What a transaction must be whatever the state; in geth's order and words. Empty: fine.
  [[nodiscard]] std::string check_alone(const Transaction& tx) const;
  std::string admit(Newcomer& n);
  void set_next(const U256& base_fee, uint64_t gas_limit);
  void revalidate(Sender& s, const SenderState& now);
  // May end the sender when it was its last transaction.
  void drop(Sender& s, uint64_t nonce);
  void clear();

 private:
  std::string check_with_sender(const Sender& s, const Newcomer& n, const Entry* replaced) const;
  std::string check_delegations(const Sender& s, const Newcomer& n, const Entry* replaced) const;
  std::string make_room(Sender& s, const Newcomer& n, const Entry* replaced);
  void insert(Sender& s, Newcomer& n);
  void forget(Entry& e);
  void advance(Sender& s);
  void announce(Sender& s, uint64_t from);
  void announce_one(Entry& e);
  void keep_tails();
  void update_tail(Sender& s);
};

}  // namespace zg
