// The training loop: windows spread over lanes of gradients, lanes over threads, gradients summed in the order of the lanes, clipping by
// global norm, AdamW, warm-up then cosine. The result depends on seed, options and SIMD level, not on the number of threads.
#pragma once

#include <csignal>
#include <functional>
#include <string>

#include "checkpoint.h"
#include "corpus.h"
#include "kernels.h"
#include "model.h"
#include "pool.h"

namespace zg::train {

struct TrainOptions {
  uint64_t steps = 1000;        // of the whole run, also when resumed
  uint64_t stop_after = 0;      // leave at this step (0: at the end): the schedule stays that of `steps`
  long batch = 16;              // windows a step
  double rate = 3e-3;
  double final_rate = 0.05;     // share of rate at the end
  uint64_t warmup = 100;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double decay = 0.1;
  double clip = 1.0;
  uint64_t log_every = 10;
  double log_seconds = 0;       // least time between two lines
  uint64_t check_every = 200;   // validation
  long check_windows = 64;      // at most, spread over the held-out text; 0 = all
  double save_seconds = 60;
  std::string out;              // checkpoint
  long parent = 0;              // process whose end ends the run; 0: none
};

/// What is trained: the base itself, or an adapter beside a base that stays.
struct Setup {
  Config config;
  AdapterConfig adapter;
  std::vector<float> base;  // empty when it is what is trained
};

struct SetLoss {
  std::string name;
  double nats = 0;      // per counted token
  double bits = 0;      // per byte of text; 0: unknown
  uint64_t tokens = 0;
};

/// Loss of held-out windows per set.
std::vector<SetLoss> validate(const Model<float>& model, const Weights<float>& weights, const Corpus& corpus,
                              const std::vector<HeldOutWindow>& windows, Pool& pool, std::vector<Workspace<float>>& spaces);
/// The same as a JSON array.
std::string json_of(const std::vector<SetLoss>& losses);

/// Buffers of gradients: as many as the batch has windows, fewer for large models; not a matter of threads.
long lanes_of(long values, long batch);
/// Bytes that a run needs, the corpus included.
uint64_t bytes_needed(const Config& config, const AdapterConfig& adapter, long batch, long threads, uint64_t corpus_bytes);

/// Runs from state.step to the end; `print` gets one JSON object at a time and returns false when nobody reads any more. The fault, or
/// empty. Once `stop` is set, or nobody reads, the step at hand is finished and saved.
std::string train(const Setup& setup, RunState& state, const Corpus& corpus, const TrainOptions& options, const Kernels<float>& kernels,
                  Pool& pool, const std::function<bool(const std::string&)>& print, const volatile std::sig_atomic_t* stop);

}  // namespace zg::train
