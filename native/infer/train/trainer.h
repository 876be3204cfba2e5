// The training loop: windows spread over threads, gradients summed in the order of the windows, clipping by global norm,
// AdamW, warm-up then cosine. The result depends on seed, options and SIMD level, not on the number of threads.
#pragma once

#include <functional>
#include <string>

#include "checkpoint.h"
#include "corpus.h"
#include "kernels.h"
#include "pool.h"

namespace zg::train {

struct TrainOptions {
  uint64_t steps = 1000;        // of the whole run, also when resumed
  uint64_t stop_after = 0;      // leave at this step (0: at the end): the schedule stays that of `steps`
  long batch = 16;              // windows a step; each has a gradient of its own
  double rate = 3e-3;
  double final_rate = 0.05;     // share of rate at the end
  uint64_t warmup = 100;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double decay = 0.1;
  double clip = 1.0;
  uint64_t log_every = 10;
  uint64_t check_every = 200;   // validation
  long check_windows = 64;      // at most, spread over the held-out text; 0 = all
  double save_seconds = 60;
  std::string out;              // checkpoint; empty: none
};

struct SetLoss {
  std::string name;
  double nats = 0;      // per token
  double bits = 0;      // per byte of text
  uint64_t tokens = 0;
};

/// Loss of the held-out text per set, over at most `windows` windows of the context's length (0 = all).
std::vector<SetLoss> validate(const Model<float>& model, const float* parameters, const Corpus& corpus, long windows,
                              Pool& pool, std::vector<Workspace<float>>& spaces);
/// The same as a JSON array.
std::string json_of(const std::vector<SetLoss>& losses);

/// Runs from state.step to the end; `print` gets one JSON object at a time. The fault, or empty.
std::string train(RunState& state, const Corpus& corpus, const TrainOptions& options, const Kernels<float>& kernels,
                  Pool& pool, const std::function<void(const std::string&)>& print);

}  // namespace zg::train
