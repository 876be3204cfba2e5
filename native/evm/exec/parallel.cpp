#include "exec/parallel.h"

#include <algorithm>
#include <chrono>

#include "crypto/parallel.h"

namespace zg {

namespace {

// Looks at an empty queue before a thread sleeps: some microseconds.
constexpr int kSpins = 400;
// Above so many misses in 256 the block is not worth guessing at.
constexpr int kMissesMax = 192;
constexpr uint8_t kLeaveAlone = 16;
// So many transactions' time is looked at together, and so many while others help.
constexpr unsigned kFew = 8, kMany = 32;
// One that is looked at alone.
constexpr uint64_t kHeavyGas = 200'000;
constexpr unsigned kBestMax = 8;

uint64_t now_ns() noexcept {
  return static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count());
}

inline void relax() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

unsigned best_execution_threads() noexcept { return std::min(parallel_threads(), kBestMax); }

BlockRunner::BlockRunner(WorkingState& state, const StateReader& base, const ChainConfig& config, Revision rev, const BlockEnv& block,
                         const Precompiles& precompiles, const Execution& execution, Foresight* foresight)
    : state_(state), base_(base), config_(config), rev_(rev), block_(block), precompiles_(precompiles), execution_(execution), foresight_(foresight) {
  // Before Byzantium each receipt has the state's root, which costs more than its transaction.
  is_over_ = execution.threads <= 1 || foresight == nullptr || rev < Revision::byzantium;
  if (is_over_) return;
  if (execution_.eager) engage();
  else since_ns_ = now_ns();
}

BlockRunner::~BlockRunner() { finish(); }

TxOutcome BlockRunner::run(const Transaction& tx, const TransitionOptions& options) {
  if (is_over_) return run_here(tx, options);
  if (is_engaged_) return run_ahead(tx, options);
  TxOutcome out = run_here(tx, options);
  // The first heavy one is enough; else two looks in a row, since a thread may just have been off its core.
  const bool is_heavy = out.gas_used >= kHeavyGas;
  if (++ran_ < kFew && !is_heavy) return out;
  const uint64_t now = now_ns();
  const uint64_t each = (now - since_ns_) / ran_;
  since_ns_ = now;
  ran_ = 0;
  if (std::min(each, is_heavy ? each : before_ns_) >= execution_.worth_ns) engage();
  before_ns_ = each;
  return out;
}

TxOutcome BlockRunner::run_here(const Transaction& tx, const TransitionOptions& options) {
  return run_transaction(state_, config_, rev_, block_, precompiles_, tx, options);
}

TxOutcome BlockRunner::run_ahead(const Transaction& tx, const TransitionOptions& options) {
  TxOutcome out;
  if (execution_.eager)
    while (Task* const next = claim()) speculate(*next);
  Task* const task = find(tx);
  bool is_done = false;
  if (task != nullptr) {
    Status open = Status::open;
    if (!task->status.compare_exchange_strong(open, Status::own) && open != Status::own) {
      help_until_done(*task);
      if (task->status.load() == Status::done) {
        ++figures_.speculated;
        ++ran_;
        guessed_ns_ += task->took_ns;
        is_done = take_over(*task, tx, options, out);
        if (!is_done) ++figures_.repeated;
        judge(*task, is_done);
      }
      task->status.store(Status::own);
    } else {
      // Left alone, or nobody came to it: a little trust comes back.
      auto& score = score_of(task->what);
      const uint8_t s = score.load(std::memory_order_relaxed);
      if (s > 0) score.store(static_cast<uint8_t>(s - 1), std::memory_order_relaxed);
    }
  }
  if (!is_done) out = run_here(tx, options);
  if (out.refusal == TxRefusal::none) overlay_.put(state_.changes());
  if (execution_.eager || (misses_ <= kMissesMax && is_worth_it())) refill();
  else finish();
  return out;
}

// By what guesses take, copying included. A little below the price of beginning, so that it does not go to and fro.
bool BlockRunner::is_worth_it() {
  if (ran_ < kMany) return true;
  const uint64_t each = guessed_ns_ / ran_;
  ran_ = 0;
  guessed_ns_ = 0;
  return each >= execution_.worth_ns * 2 / 3;
}

bool BlockRunner::take_over(Task& task, const Transaction& tx, const TransitionOptions& options, TxOutcome& out) {
  // What a refusal says depends on more than what is compared; and what the block has left is known only now.
  if (task.outcome.refusal != TxRefusal::none || task.view.unsure() || task.stop.load() || tx.gas_limit > options.gas_available) return false;
#ifndef ZG_TEST_UNCHECKED
  // A nonce that was guessed is compared with the state's, whether it was loaded or not.
  if (task.view.guessed()) (void)state_.account(task.what.sender);
  if (!state_.agrees(task.state)) return false;
#endif
  state_.absorb(task.state);
  out = std::move(task.outcome);
  return true;
}

// The task of `tx`; those before it never came.
BlockRunner::Task* BlockRunner::find(const Transaction& tx) {
  const size_t tail = tail_.load(std::memory_order_relaxed);
  size_t at = head_;
  while (at != tail && tasks_[at % kAhead]->what.tx != &tx) ++at;
  if (at == tail) return nullptr;
  for (; head_ != at; ++head_) {
    Task& gone = *tasks_[head_ % kAhead];
    Status open = Status::open;
    if (!gone.status.compare_exchange_strong(open, Status::own) && open == Status::running) gone.stop.store(true);
  }
  ++head_;
  return tasks_[at % kAhead].get();
}

void BlockRunner::engage() {
  if (!Crew::instance().begin(execution_.threads - 1, [](void* self) { static_cast<BlockRunner*>(self)->help(); }, this)) {
    is_over_ = true;
    return;
  }
  is_engaged_ = true;
  ran_ = 0;
  for (auto& task : tasks_) task = std::make_unique<Task>(overlay_, base_);
  WorkingState::Changes so_far;
  state_.list_all(so_far);
  overlay_.put(so_far);
  state_.list_changes(true);
  refill();
}

void BlockRunner::refill() {
  size_t tail = tail_.load(std::memory_order_relaxed);
  if (is_dry_ || tail - head_ > kAhead / 2) return;
  while (tail - head_ < kAhead) {
    Task& task = *tasks_[tail % kAhead];
    // One that never came and still runs: it is told to stop.
    if (task.status.load() == Status::running) break;
    if (!foresight_->next(task.what)) {
      is_dry_ = true;
      break;
    }
    task.stop.store(false, std::memory_order_relaxed);
    task.status.store(task.what.tx->type == 3 ? Status::own : Status::open);
    tail_.store(++tail);
  }
  if (asleep_.load() == 0) return;
  { const std::lock_guard lock(mutex_); }
  work_.notify_all();
}

void BlockRunner::finish() {
  is_over_ = true;
  if (!is_engaged_) return;
  is_engaged_ = false;
  is_closing_.store(true);
  for (auto& task : tasks_) {
    Status open = Status::open;
    if (!task->status.compare_exchange_strong(open, Status::own)) task->stop.store(true);
  }
  { const std::lock_guard lock(mutex_); }
  work_.notify_all();
  Crew::instance().end();
  state_.list_changes(false);
}

// ---- on all threads

std::atomic<uint8_t>& BlockRunner::score_of(const Foresight::Candidate& what) noexcept {
  return scores_[AddressHasher{}(what.tx->to ? *what.tx->to : what.sender) % kScores];
}

BlockRunner::Task* BlockRunner::claim() {
  for (;;) {
    size_t at = next_.load();
    if (at >= tail_.load()) return nullptr;
    if (!next_.compare_exchange_weak(at, at + 1)) continue;
    // By now its place may belong to a later one, which is as good.
    Task& task = *tasks_[at % kAhead];
    Status open = Status::open;
    if (!task.status.compare_exchange_strong(open, Status::running)) continue;
    if (execution_.eager || score_of(task.what).load(std::memory_order_relaxed) < kLeaveAlone) return &task;
    task.status.store(Status::own);
    if (is_waiting_.load()) {
      { const std::lock_guard lock(mutex_); }
      done_.notify_all();
    }
  }
}

void BlockRunner::speculate(Task& task) {
  const uint64_t began = now_ns();
  task.state.restart();
  task.view.begin(task.what.sender, task.what.tx->nonce);
  TransitionOptions options;
  options.sender = &task.what.sender;
  options.any_sender = task.what.any_sender;
  options.stop = &task.stop;
  task.outcome = run_transaction(task.state, config_, rev_, block_, precompiles_, *task.what.tx, options);
  task.took_ns = now_ns() - began;
  task.status.store(Status::done);
  if (!is_waiting_.load()) return;
  { const std::lock_guard lock(mutex_); }
  done_.notify_all();
}

void BlockRunner::help() {
  while (!is_closing_.load()) {
    if (Task* const task = claim()) {
      speculate(*task);
      continue;
    }
    const auto any = [this] { return is_closing_.load() || next_.load() < tail_.load(); };
    int spins = kSpins;
    while (!any() && --spins > 0) relax();
    if (spins > 0) continue;
    std::unique_lock lock(mutex_);
    asleep_.fetch_add(1);
    work_.wait(lock, any);
    asleep_.fetch_sub(1);
  }
}

// ---- the caller's

void BlockRunner::help_until_done(Task& task) {
  const auto ready = [&task] { return task.status.load() != Status::running; };
  while (!ready()) {
    if (Task* const other = claim()) {
      speculate(*other);
      continue;
    }
    int spins = kSpins;
    while (!ready() && --spins > 0) relax();
    if (spins > 0) return;
    is_waiting_.store(true);
    std::unique_lock lock(mutex_);
    done_.wait(lock, ready);
    lock.unlock();
    is_waiting_.store(false);
  }
}

void BlockRunner::judge(Task& task, bool held) {
  misses_ += ((held ? 0 : 256) - misses_) / 16;
  auto& score = score_of(task.what);
  const unsigned s = score.load(std::memory_order_relaxed);
  score.store(static_cast<uint8_t>(held ? s - std::min(s, 8U) : std::min(255U, 3 * s + 8)), std::memory_order_relaxed);
}

}  // namespace zg
