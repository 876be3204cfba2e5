#include "pool/pool.h"

#include <algorithm>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "pool/pool_impl.h"

namespace zg {

Pool::Pool(const Options& options) : impl_(std::make_unique<Impl>(options)) {}
Pool::~Pool() = default;

void Pool::set_head(std::shared_ptr<const StateReader> state, const U256& base_fee, uint64_t gas_limit, Revision rev,
                    const std::vector<Address>* touched) {
  Impl& p = *impl_;
  // The accounts are read between two short locks: new senders see the new state at once, known ones a moment later.
  std::vector<Address> wanted;
  std::shared_ptr<const StateReader> before;
  {
    const std::lock_guard lock(p.mutex);
    ++p.generation;
    before = std::exchange(p.state, state);
    p.rev = rev;
    p.set_next(base_fee, gas_limit);
    if (touched == nullptr) {
      wanted.reserve(p.senders.size());
      for (const auto& [address, sender] : p.senders) wanted.push_back(address);
    } else {
      for (const Address& a : *touched)
        if (p.senders.contains(a)) wanted.push_back(a);
    }
  }
  std::vector<SenderState> states(wanted.size());
  for (size_t i = 0; i < wanted.size(); ++i) states[i] = sender_state(state.get(), wanted[i]);
  constexpr size_t kChunk = 256;  // a lock is held for some tens of microseconds
  for (size_t at = 0; at < wanted.size(); at += kChunk) {
    const std::lock_guard lock(p.mutex);
    for (size_t i = at; i < std::min(at + kChunk, wanted.size()); ++i) {
      const auto found = p.senders.find(wanted[i]);
      if (found != p.senders.end()) p.revalidate(*found->second, states[i]);
    }
  }
}

void Pool::set_next(const U256& base_fee, uint64_t gas_limit) {
  const std::lock_guard lock(impl_->mutex);
  impl_->set_next(base_fee, gas_limit);
}

std::vector<Pool::Answer> Pool::add(std::span<const PooledTx> txs) {
  Impl& p = *impl_;
  std::vector<Answer> out(txs.size());
  std::vector<Newcomer> newcomers(txs.size());
  std::shared_ptr<const StateReader> state;
  uint64_t generation = 0;
  {
    const std::lock_guard lock(p.mutex);
    state = p.state;
    generation = p.generation;
    for (size_t i = 0; i < txs.size(); ++i) {
      const Transaction& tx = *txs[i];
      out[i].hash = tx.hash;
      if (p.by_hash.contains(tx.hash)) out[i].refusal = "already known";
      else if (out[i].refusal = p.check_alone(tx); out[i].refusal.empty()) newcomers[i].known_sender = p.senders.contains(tx.sender);
    }
  }
  // Account reads and recoveries of authorities happen without the lock.
  for (size_t i = 0; i < txs.size(); ++i) {
    if (!out[i].refusal.empty()) continue;
    const Transaction& tx = *txs[i];
    Newcomer& n = newcomers[i];
    n.tx = txs[i];
    n.cost = cost_of(tx);
    if (!n.known_sender || !tx.authorizations.empty()) n.state = sender_state(state.get(), tx.sender);
    if (tx.authorizations.empty()) continue;
    // A list fills a block with a thousand recoveries: only for who can pay it.
    if (n.cost > n.state.balance) {
      out[i].refusal = "insufficient funds for gas * price + value";
      continue;
    }
    for (const Authorization& a : tx.authorizations)
      if (const auto who = recover_authority(a)) n.authorities.push_back(*who);
  }
  constexpr size_t kChunk = 256;
  for (size_t at = 0; at < txs.size(); at += kChunk) {
    const std::lock_guard lock(p.mutex);
    for (size_t i = at; i < std::min(at + kChunk, txs.size()); ++i) {
      if (!out[i].refusal.empty()) continue;
      Newcomer& n = newcomers[i];
      // The head moved meanwhile, or the sender left the pool: what was read of the account is stale, or was not read.
      if (!p.senders.contains(n.tx->sender) && (n.known_sender || generation != p.generation))
        n.state = sender_state(p.state.get(), n.tx->sender);
      out[i].refusal = p.admit(n);
    }
  }
  return out;
}

PooledTx Pool::get(const Hash& hash) const {
  const std::lock_guard lock(impl_->mutex);
  const auto it = impl_->by_hash.find(hash);
  return it == impl_->by_hash.end() ? nullptr : it->second->tx;
}

uint64_t Pool::pending_nonce(const Address& sender) const {
  std::shared_ptr<const StateReader> state;
  {
    const std::lock_guard lock(impl_->mutex);
    const auto it = impl_->senders.find(sender);
    if (it != impl_->senders.end()) return it->second->next;
    state = impl_->state;
  }
  return sender_state(state.get(), sender).nonce;
}

Pool::Counts Pool::counts() const {
  const std::lock_guard lock(impl_->mutex);
  return {impl_->pending, impl_->by_hash.size() - impl_->pending, impl_->bytes};
}

Pool::Content Pool::content() const {
  const std::lock_guard lock(impl_->mutex);
  std::vector<const Sender*> order;
  order.reserve(impl_->senders.size());
  for (const auto& [address, sender] : impl_->senders) order.push_back(sender.get());
  std::sort(order.begin(), order.end(), [](const Sender* a, const Sender* b) { return a->address < b->address; });
  Content out;
  for (const Sender* s : order)
    for (const auto& [nonce, e] : s->txs) (nonce < s->next ? out.pending : out.queued).push_back(e.tx);
  return out;
}

Pool::Content Pool::content_of(const Address& sender) const {
  const std::lock_guard lock(impl_->mutex);
  Content out;
  const auto it = impl_->senders.find(sender);
  if (it == impl_->senders.end()) return out;
  for (const auto& [nonce, e] : it->second->txs) (nonce < it->second->next ? out.pending : out.queued).push_back(e.tx);
  return out;
}

bool Pool::remove(const Hash& hash) {
  const std::lock_guard lock(impl_->mutex);
  const auto it = impl_->by_hash.find(hash);
  if (it == impl_->by_hash.end()) return false;
  impl_->drop(*it->second->sender, it->second->tx->nonce);
  return true;
}

void Pool::clear() {
  const std::lock_guard lock(impl_->mutex);
  impl_->clear();
}

std::vector<PooledTx> Pool::all() const {
  std::vector<std::pair<uint64_t, PooledTx>> order;
  {
    const std::lock_guard lock(impl_->mutex);
    order.reserve(impl_->by_hash.size());
    for (const auto& [hash, e] : impl_->by_hash) order.emplace_back(e->seq, e->tx);
  }
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<PooledTx> out;
  out.reserve(order.size());
  for (auto& [seq, tx] : order) out.push_back(std::move(tx));
  return out;
}

bool Pool::has_executable() const {
  const std::lock_guard lock(impl_->mutex);
  if (!impl_->executable) {
    impl_->executable = std::any_of(impl_->senders.begin(), impl_->senders.end(), [&](const auto& s) {
      const auto first = s.second->txs.find(s.second->nonce);
      return first != s.second->txs.end() && first->second.tx->max_fee() >= impl_->base_fee;
    });
  }
  return *impl_->executable;
}

std::vector<Hash> Pool::take_announced() {
  const std::lock_guard lock(impl_->mutex);
  return std::exchange(impl_->announced, {});
}

namespace {

class Selection final : public TransactionSource {
 public:
  Selection(Pool& pool, const U256& base_fee) : pool_(pool), base_fee_(base_fee) {}

  // One sender's gapless transactions, in order: [begin, end) of txs_.
  struct Run {
    size_t at, end;
    Tip tip;
    uint64_t seq;
  };
  struct Candidate {
    PooledTx tx;
    uint64_t seq;
  };

  void begin_run() { begin_ = txs_.size(); }
  void offer(const PooledTx& tx, uint64_t seq) { txs_.push_back({tx, seq}); }
  void end_run() {
    Run run{begin_, txs_.size(), {}, 0};
    if (rank(run)) heap_.push_back(run);
  }
  void ready() { std::make_heap(heap_.begin(), heap_.end(), later); }

  const Transaction* next() override {
    if (has_last_) advance();
    if (heap_.empty()) return nullptr;
    std::pop_heap(heap_.begin(), heap_.end(), later);
    last_ = heap_.back();
    heap_.pop_back();
    has_last_ = true;
    is_dead_ = false;
    return txs_[last_.at].tx.get();
  }

  void settle(Fate fate, const std::string& text) override {
    (void)text;
    if (!has_last_) return;
    // Whatever was not included, the sender's later nonces cannot be either.
    if (fate != Fate::included) is_dead_ = true;
    if (fate == Fate::invalid) pool_.remove(txs_[last_.at].tx->hash);
  }

  // A second heap runs ahead: whoever drops out of the first leaves the order of all others as it is.
  const Transaction* ahead() override {
    if (!has_shadow_) {
      has_shadow_ = true;
      shadow_ = heap_;
      if (has_last_) push_next(shadow_, last_);
    }
    if (shadow_.empty()) return nullptr;
    std::pop_heap(shadow_.begin(), shadow_.end(), later);
    const Run run = shadow_.back();
    shadow_.pop_back();
    push_next(shadow_, run);
    return txs_[run.at].tx.get();
  }

 private:
  static bool later(const Run& a, const Run& b) { return a.tip != b.tip ? a.tip < b.tip : a.seq > b.seq; }

  bool rank(Run& run) const {
    if (run.at == run.end) return false;
    run.tip = tip_of(*txs_[run.at].tx, base_fee_);
    run.seq = txs_[run.at].seq;
    return run.tip.pays;
  }

  void advance() {
    has_last_ = false;
    if (!is_dead_) push_next(heap_, last_);
  }

  // The one behind a sender's, if it pays.
  void push_next(std::vector<Run>& heap, Run run) const {
    ++run.at;
    if (!rank(run)) return;
    heap.push_back(run);
    std::push_heap(heap.begin(), heap.end(), later);
  }

  Pool& pool_;
  U256 base_fee_;
  std::vector<Candidate> txs_;
  std::vector<Run> heap_, shadow_;
  Run last_{};
  size_t begin_ = 0;
  bool has_last_ = false, is_dead_ = false, has_shadow_ = false;
};

}  // namespace

std::unique_ptr<TransactionSource> Pool::select(const U256& base_fee) {
  auto out = std::make_unique<Selection>(*this, base_fee);
  {
    const std::lock_guard lock(impl_->mutex);
    for (const auto& [address, s] : impl_->senders) {
      out->begin_run();
      for (auto it = s->txs.begin(); it != s->txs.end() && it->first < s->next; ++it) out->offer(it->second.tx, it->second.seq);
      out->end_run();
    }
  }
  out->ready();
  return out;
}

}  // namespace zg
