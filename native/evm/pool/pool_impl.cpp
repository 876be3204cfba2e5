#include "pool/pool_impl.h"

#include <algorithm>

namespace zg {

namespace {

constexpr size_t kTxBytesMax = 128 * 1024;     // geth's bound
constexpr size_t kInitcodeBytesMax = 49'152;   // EIP-3860
constexpr uint64_t kTxGasMax = 16'777'216;     // EIP-7825
constexpr size_t kAnnouncedMax = 100'000;
const U256 kMax256 = ~U256{};

// Ten per cent more, and more at all. Numbers near 2^256 count as not enough.
bool outbids(const U256& now, const U256& before) noexcept {
  U256 a, b;
  return now > before && mul_checked(now, U256{100}, a) && mul_checked(before, U256{110}, b) && a >= b;
}

}  // namespace

Tip tip_of(const Transaction& tx, const U256& base_fee) noexcept {
  if (tx.max_fee() < base_fee) return {false, kMax256 - (base_fee - tx.max_fee())};
  return {true, std::min(tx.max_priority_fee, tx.max_fee() - base_fee)};
}

U256 cost_of(const Transaction& tx) noexcept {
  U256 gas, sum;
  if (!mul_checked(U256{tx.gas_limit}, tx.max_fee(), gas) || !add_checked(gas, tx.value, sum)) return kMax256;
  return sum;
}

SenderState sender_state(const StateReader* state, const Address& address) {
  SenderState out;
  AccountData account;
  if (state == nullptr || !state->account(address, account)) return out;
  out.nonce = account.nonce;
  out.balance = account.balance;
  Address target;
  if (account.code_hash != empty_code_hash()) out.delegated = state->code(account.code_hash)->delegation(target);
  return out;
}

std::string Pool::Impl::check_alone(const Transaction& tx) const {
  using std::to_string;
  if (tx.type != 0 && tx.type != 1 && tx.type != 2 && tx.type != 4) return "transaction type not supported";
  if (tx.raw.size() > kTxBytesMax)
    return "oversized data: transaction size " + to_string(tx.raw.size()) + ", limit " + to_string(kTxBytesMax);
  if (tx.has_chain_id && tx.chain_id != options.chain_id)
    return "invalid chain id for signer: have " + to_decimal(tx.chain_id) + " want " + to_decimal(options.chain_id);
  if (tx.nonce == ~uint64_t{0}) return "nonce has max value: 18446744073709551615";
  if (tx.type == 4) {
    if (!tx.to) return "set code transaction must not be a create transaction";
    if (tx.authorizations.empty()) return "set code tx must have at least one authorization tuple";
  }
  if (!tx.sender_known) return "invalid sender";
  if (!tx.to && tx.data.size() > kInitcodeBytesMax)
    return "max initcode size exceeded: code size " + to_string(tx.data.size()) + ", limit " + to_string(kInitcodeBytesMax);
  if (tx.gas_limit > gas_limit) return "exceeds block gas limit";
  if (rev >= Revision::osaka && tx.gas_limit > kTxGasMax)
    return "transaction gas limit too high (cap: " + to_string(kTxGasMax) + ", tx: " + to_string(tx.gas_limit) + ")";
  if (tx.max_priority_fee > tx.max_fee())
    return "max priority fee per gas higher than max fee per gas: address " + to_hex(tx.sender) +
           ", maxPriorityFeePerGas: " + to_decimal(tx.max_priority_fee) + ", maxFeePerGas: " + to_decimal(tx.max_fee());
  if (const uint64_t least = intrinsic_gas(tx, rev); tx.gas_limit < least)
    return "intrinsic gas too low: gas " + to_string(tx.gas_limit) + ", minimum needed " + to_string(least);
  if (const uint64_t least = floor_gas(tx, rev); tx.gas_limit < least)
    return "insufficient gas for floor data gas cost: gas " + to_string(tx.gas_limit) + ", minimum needed " + to_string(least);
  return {};
}

std::string Pool::Impl::admit(Newcomer& n) {
  const Transaction& tx = *n.tx;
  if (by_hash.contains(tx.hash)) return "already known";
  // The gas limit may have moved since it was looked at alone.
  if (tx.gas_limit > gas_limit) return "exceeds block gas limit";
  std::unique_ptr<Sender> fresh;
  const auto known = senders.find(tx.sender);
  Sender* s = nullptr;
  if (known != senders.end()) {
    s = known->second.get();
  } else {
    fresh = std::make_unique<Sender>();
    static_cast<SenderState&>(*fresh) = n.state;
    fresh->address = tx.sender;
    fresh->next = n.state.nonce;
    s = fresh.get();
  }
  const auto at = s->txs.find(tx.nonce);
  const Entry* replaced = at == s->txs.end() ? nullptr : &at->second;
  if (std::string no = check_with_sender(*s, n, replaced); !no.empty()) return no;
  if (std::string no = make_room(*s, n, replaced); !no.empty()) return no;
  if (fresh != nullptr) senders.emplace(tx.sender, std::move(fresh));
  if (replaced != nullptr) {
    // In place: the gapless ones behind it stay so.
    Entry& e = at->second;
    if (tx.nonce < s->next) s->pending_cost = s->pending_cost - e.cost + n.cost;
    forget(e);
    e = Entry{n.tx, seq++, n.cost, false, std::move(n.authorities), s};
    by_hash.emplace(tx.hash, &e);
    bytes += tx.raw.size();
    for (const Address& a : e.authorities) ++reserved[a];
    s->cost_max = std::max(s->cost_max, n.cost);
    s->gas_max = std::max(s->gas_max, tx.gas_limit);
  } else {
    insert(*s, n);
  }
  // Nothing behind a replaced one is new.
  if (replaced == nullptr || tx.nonce >= s->next) announce(*s, tx.nonce);
  else announce_one(at->second);
  // Paying makes the answer certain; a replacement pays more than what it replaced.
  if (tx.nonce == s->nonce && tx.max_fee() >= base_fee) executable = true;
  update_tail(*s);
  return {};
}

std::string Pool::Impl::check_with_sender(const Sender& s, const Newcomer& n, const Entry* replaced) const {
  const Transaction& tx = *n.tx;
  if (tx.nonce < s.nonce) return "nonce too low: next nonce " + std::to_string(s.nonce) + ", tx nonce " + std::to_string(tx.nonce);
  if (n.cost > s.balance)
    return "insufficient funds for gas * price + value: balance " + to_decimal(s.balance) + ", tx cost " + to_decimal(n.cost) + ", overshot " +
           to_decimal(n.cost - s.balance);
  if (tx.nonce <= s.next) {
    const U256 others = s.pending_cost - (tx.nonce < s.next ? replaced->cost : U256{});
    U256 sum;
    if (!add_checked(others, n.cost, sum)) sum = kMax256;
    if (sum > s.balance)
      return "insufficient funds for gas * price + value: balance " + to_decimal(s.balance) + ", queued cost " + to_decimal(s.pending_cost) +
             ", tx cost " + to_decimal(n.cost) + ", overshot " + to_decimal(sum - s.balance);
  }
  if (replaced != nullptr) {
    const Transaction& old = *replaced->tx;
    if (!outbids(tx.max_fee(), old.max_fee()) || !outbids(tx.max_priority_fee, old.max_priority_fee))
      return "replacement transaction underpriced";
  }
  return check_delegations(s, n, replaced);
}

// A delegated account's balance may be moved by others: one transaction in flight keeps what it can void small.
std::string Pool::Impl::check_delegations(const Sender& s, const Newcomer& n, const Entry* replaced) const {
  if (s.delegated || reserved.contains(s.address)) {
    const bool has_pending = s.next > s.nonce;
    if (has_pending && replaced == nullptr) return "in-flight transaction limit reached for delegated accounts";
    if (!has_pending && n.tx->nonce != s.nonce) return "gapped-nonce tx from delegated accounts";
  }
  for (const Address& a : n.authorities) {
    const auto it = senders.find(a);
    if (it != senders.end() && it->second->txs.size() > 1) return "authority already reserved";
  }
  return {};
}

// Evicts until the newcomer fits, or refuses it.
std::string Pool::Impl::make_room(Sender& s, const Newcomer& n, const Entry* replaced) {
  const Transaction& tx = *n.tx;
  const bool gapped = tx.nonce > s.next;
  if (gapped && replaced == nullptr) {
    const size_t queued = s.txs.size() - static_cast<size_t>(s.next - s.nonce);
    if (queued >= options.limits.queued_per_sender) {
      const uint64_t last = s.txs.rbegin()->first;
      if (last < tx.nonce) return "txpool is full: too many queued transactions of the sender";
      drop(s, last);
    }
  }
  const size_t spared = replaced == nullptr ? 0 : 1;
  const size_t spared_bytes = replaced == nullptr ? 0 : replaced->tx->raw.size();
  const auto fits = [&] {
    return by_hash.size() - spared < options.limits.count && bytes - spared_bytes + tx.raw.size() <= options.limits.bytes;
  };
  if (fits()) {
    // Well below the bound nobody asks for the worst: stop keeping the order.
    if (tails_kept && by_hash.size() + by_hash.size() / 8 < options.limits.count && bytes + bytes / 8 < options.limits.bytes) {
      tails.clear();
      for (auto& [address, sender] : senders) sender->tail.reset();
      tails_kept = false;
    }
    return {};
  }
  keep_tails();
  const Tip tip = tip_of(tx, base_fee);
  while (!fits()) {
    auto worst = tails.begin();
    if (worst != tails.end() && worst->sender == &s) ++worst;
    if (worst == tails.end() || (gapped && !worst->queued)) return "txpool is full";
    if ((!worst->queued || gapped) && !(worst->tip < tip)) return "transaction underpriced";
    Sender& victim = *worst->sender;
    drop(victim, victim.txs.rbegin()->first);
  }
  return {};
}

void Pool::Impl::insert(Sender& s, Newcomer& n) {
  const uint64_t nonce = n.tx->nonce;
  Entry& e = s.txs.emplace(nonce, Entry{n.tx, seq++, n.cost, false, std::move(n.authorities), &s}).first->second;
  by_hash.emplace(e.tx->hash, &e);
  bytes += e.tx->raw.size();
  for (const Address& a : e.authorities) ++reserved[a];
  s.cost_max = std::max(s.cost_max, e.cost);
  s.gas_max = std::max(s.gas_max, e.tx->gas_limit);
  advance(s);
}

// Extends what is gapless as far as it goes.
void Pool::Impl::advance(Sender& s) {
  for (auto it = s.txs.find(s.next); it != s.txs.end() && it->first == s.next; ++it) {
    s.pending_cost = s.pending_cost + it->second.cost;
    ++s.next;
    ++pending;
  }
}

// Takes a transaction out of everything but its sender's map.
void Pool::Impl::forget(Entry& e) {
  by_hash.erase(e.tx->hash);
  bytes -= e.tx->raw.size();
  for (const Address& a : e.authorities) {
    const auto it = reserved.find(a);
    if (--it->second == 0) reserved.erase(it);
  }
}

void Pool::Impl::drop(Sender& s, uint64_t nonce) {
  const auto it = s.txs.find(nonce);
  if (nonce >= s.nonce && nonce < s.next) {
    for (auto x = it; x != s.txs.end() && x->first < s.next; ++x) s.pending_cost = s.pending_cost - x->second.cost;
    pending -= static_cast<size_t>(s.next - nonce);
    s.next = nonce;
  }
  if (nonce == s.nonce) executable.reset();
  forget(it->second);
  s.txs.erase(it);
  if (!s.txs.empty()) {
    update_tail(s);
    return;
  }
  if (s.tail) tails.erase(*s.tail);
  // A sender that is being admitted for the first time is not in the map yet, and has nothing to drop.
  senders.erase(Address{s.address});
}

void Pool::Impl::revalidate(Sender& s, const SenderState& now) {
  const uint64_t old = s.nonce;
  uint64_t news = s.next;
  executable.reset();
  if (now.nonce < old || now.nonce > s.next) {
    // Back in time, or ahead of all that is gapless: count anew.
    pending -= static_cast<size_t>(s.next - s.nonce);
    s.pending_cost = {};
    news = s.next = now.nonce;
  } else {
    pending -= static_cast<size_t>(now.nonce - old);
    for (auto it = s.txs.begin(); it != s.txs.end() && it->first < now.nonce; ++it)
      if (it->first >= old) s.pending_cost = s.pending_cost - it->second.cost;
  }
  static_cast<SenderState&>(s) = now;
  while (!s.txs.empty() && s.txs.begin()->first < s.nonce) {
    forget(s.txs.begin()->second);
    s.txs.erase(s.txs.begin());
  }
  advance(s);
  if (s.cost_max > s.balance || s.gas_max > gas_limit) {
    std::vector<uint64_t> dead;
    s.cost_max = {};
    s.gas_max = 0;
    for (const auto& [nonce, e] : s.txs) {
      if (e.cost > s.balance || e.tx->gas_limit > gas_limit) {
        dead.push_back(nonce);
        continue;
      }
      s.cost_max = std::max(s.cost_max, e.cost);
      s.gas_max = std::max(s.gas_max, e.tx->gas_limit);
    }
    if (dead.size() == s.txs.size() && !dead.empty()) {
      while (dead.size() > 1) {
        drop(s, dead.back());
        dead.pop_back();
      }
      drop(s, dead.front());  // ends the sender
      return;
    }
    for (auto it = dead.rbegin(); it != dead.rend(); ++it) drop(s, *it);
  }
  if (s.txs.empty()) {
    if (s.tail) tails.erase(*s.tail);
    senders.erase(Address{s.address});
    return;
  }
  announce(s, news);
  update_tail(s);
}

// Tells of transactions from a nonce on that have become pending.
void Pool::Impl::announce(Sender& s, uint64_t from) {
  for (auto it = s.txs.lower_bound(from); it != s.txs.end() && it->first < s.next; ++it) announce_one(it->second);
}

void Pool::Impl::announce_one(Entry& e) {
  if (e.announced) return;
  e.announced = true;
  if (announced.size() < kAnnouncedMax) announced.push_back(e.tx->hash);
}

void Pool::Impl::set_next(const U256& fee, uint64_t limit) {
  if (fee != base_fee) {
    executable.reset();
    tails.clear();
    for (auto& [address, sender] : senders) sender->tail.reset();
    tails_kept = false;
  }
  base_fee = fee;
  gas_limit = limit;
}

void Pool::Impl::keep_tails() {
  if (tails_kept) return;
  tails_kept = true;
  for (auto& [address, s] : senders) update_tail(*s);
}

void Pool::Impl::update_tail(Sender& s) {
  if (!tails_kept || s.txs.empty()) return;
  const Entry& e = s.txs.rbegin()->second;
  const Tail now{e.tx->nonce >= s.next, tip_of(*e.tx, base_fee), e.seq, &s};
  if (s.tail) {
    if (!(now < *s.tail) && !(*s.tail < now)) return;
    tails.erase(*s.tail);
  }
  s.tail = now;
  tails.insert(now);
}

void Pool::Impl::clear() {
  senders.clear();
  by_hash.clear();
  reserved.clear();
  tails.clear();
  tails_kept = false;
  announced.clear();
  executable.reset();
  pending = bytes = 0;
  ++generation;
}

}  // namespace zg
