// The transactions of a block on several threads, with the results of one (docs/decisions/0061-parallel-execution.md).
//
//   run(tx 0) run(tx 1) run(tx 2) …        in order, on the block's state: what the caller sees is run_transaction, transaction by transaction
//        ▲         ▲ taken over
//        │   ┌─────┴──────┐
//   not begun│ helper: tx 1, on a state of its own over what the block has changed so far
//
// When a transaction's turn comes and nobody has begun it, it runs on the block's state. When a helper ran it, all that it looked at is compared with that
// state: its changes are taken over if nothing differs, and forgotten if anything does: it then runs where it stands. So no guess can change a result, and
// what no comparison covers (EIP-7610's question for storage, blob gas, gas of the block) is not guessed.
//
// One thread calls; the helpers are exec/crew.h's.
#pragma once

#include <array>
#include <atomic>
#include <memory>

#include "exec/crew.h"
#include "exec/overlay.h"
#include "exec/transition.h"

namespace zg {

struct Execution {
  // That execute a block, the caller's among them; 1: one after the other.
  unsigned threads = 1;
  // What a transaction must cost, of late and on average, for others to be called: below it their waking and the copying cost more than they bring
  // (measured: native/evm/test/parallel_bench.cpp).
  uint64_t worth_ns = 15'000;
  // For tests: all that is foreseen is guessed at before its turn, from the first transaction on, whatever it costs and however often they meet.
  bool eager = false;
};

// On the cores that this process may run on. As few as gain: beyond them threads wait for the one that takes over.
unsigned best_execution_threads() noexcept;

// What may come next, in order. A guess: one that never comes costs its time, and one that was not foreseen runs on the block's state.
class Foresight {
 public:
  struct Candidate {
    const Transaction* tx = nullptr;  // lives as long as the block is worked on
    Address sender{};
    bool any_sender = false;          // TransitionOptions
  };
  virtual ~Foresight() = default;
  // The next one behind the transaction that run() is about (the first time) or behind the last answer. False: there is none.
  virtual bool next(Candidate& out) = 0;
};

struct ExecutionFigures {
  uint64_t speculated = 0;  // ready or under way when their turn came
  uint64_t repeated = 0;    // of these, run again
};

class BlockRunner {
 public:
  // `base`: the reader of `state`, thread safe. Without `foresight`, or on one thread: run_transaction and nothing else.
  BlockRunner(WorkingState& state, const StateReader& base, const ChainConfig& config, Revision rev, const BlockEnv& block,
              const Precompiles& precompiles, const Execution& execution, Foresight* foresight);
  ~BlockRunner();
  BlockRunner(const BlockRunner&) = delete;
  BlockRunner& operator=(const BlockRunner&) = delete;

  // As run_transaction on the block's state. `options`: gas and blob gas available, sender, any_sender; no tracer.
  TxOutcome run(const Transaction& tx, const TransitionOptions& options);
  // All helpers have left. Afterwards the state may be used otherwise, and run() goes on alone.
  void finish();
  [[nodiscard]] const ExecutionFigures& figures() const noexcept { return figures_; }

 private:
  enum class Status : uint8_t { open, running, done, own };  // own: the caller's, or nobody's
  struct Task {
    Task(const Overlay& overlay, const StateReader& base) : view(overlay, base), state(view) { state.track(); }
    std::atomic<Status> status{Status::own};
    std::atomic<bool> stop{false};
    Foresight::Candidate what;
    TxOutcome outcome;
    uint64_t took_ns = 0;
    SpeculativeView view;
    WorkingState state;
  };
  // Tasks that are foreseen, done ones that wait for their turn among them.
  static constexpr size_t kAhead = 64;
  static constexpr size_t kScores = 256;

  TxOutcome run_here(const Transaction& tx, const TransitionOptions& options);
  TxOutcome run_ahead(const Transaction& tx, const TransitionOptions& options);
  bool take_over(Task& task, const Transaction& tx, const TransitionOptions& options, TxOutcome& out);
  bool is_worth_it();
  void engage();
  void refill();
  Task* find(const Transaction& tx);
  Task* claim();
  void speculate(Task& task);
  void help_until_done(Task& task);
  void help();
  std::atomic<uint8_t>& score_of(const Foresight::Candidate& what) noexcept;
  void judge(Task& task, bool held);

  WorkingState& state_;
  const StateReader& base_;
  const ChainConfig& config_;
  const Revision rev_;
  const BlockEnv& block_;
  const Precompiles& precompiles_;
  const Execution execution_;
  Foresight* foresight_;
  ExecutionFigures figures_;

  // The caller's alone.
  bool is_engaged_ = false, is_over_ = false, is_dry_ = false;
  unsigned ran_ = 0;                 // since their time was looked at
  uint64_t since_ns_ = 0, before_ns_ = 0, guessed_ns_ = 0;  // when that was; what each took then; what guesses took since
  int misses_ = 0;                   // of the last speculations, in 1/256

  Overlay overlay_;
  std::array<std::unique_ptr<Task>, kAhead> tasks_;
  size_t head_ = 0;                  // the next turn
  std::atomic<size_t> next_{0};      // the next to be begun
  std::atomic<size_t> tail_{0};      // behind the last foreseen
  // How often transactions to an account were run again of late: they are left alone for a while.
  std::array<std::atomic<uint8_t>, kScores> scores_{};

  std::mutex mutex_;
  std::condition_variable work_, done_;
  std::atomic<unsigned> asleep_{0};
  std::atomic<bool> is_waiting_{false}, is_closing_{false};
};

}  // namespace zg
