// The forward pass on CPUs: the bits of native/infer/det (inference.md 12, zg-k1) at the speed of memory. Rows of any number of sequences
// go through one pass, so prompts in chunks and decoded tokens share the reading of the weights.
//
// A position's logits depend on the model and the tokens before it: not on the rows beside it, the chunks, threads or level of CPU.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "../det/det_model.h"
#include "adapter.h"
#include "layout.h"
#include "pace.h"
#include "packed.h"
#include "pages.h"
#include "tokens.h"
#include "workers.h"

namespace zg::cpu {

class Turns;

struct Options {
  // The caller's own included.
  unsigned threads = 1;
  bool pin = false;
  // Cores to keep to, instead of all the process may use.
  std::vector<uint32_t> cpus{};
  // nullptr: the widest this machine has.
  const ZgLevel* level = nullptr;
  // Of the cache; each holds 16 positions.
  uint32_t pages = 4'096;
  // Keys and values as floats: not zg-k1, for comparison with engines that keep them so.
  bool float_cache = false;
  // New pages full of NaN: for tests.
  bool poison = false;
  // Only so many of the model's first layers, when others compute the rest: a row's result is its residual behind them, wanted or not.
  uint32_t layers = UINT32_MAX;
};

// One position to compute. Rows of a sequence ascend without gaps behind what was computed before; the sequence has room for them.
struct Row {
  const Sequence* sequence = nullptr;
  uint32_t position = 0;
  uint32_t token = 0;
  bool wants_logits = false;
  // Changes to the weights that this row sees; outlives the run. nullptr: none. All rows of a sequence have the same.
  const AdapterSet* adapters = nullptr;
  // Results, valid until the next run; nullptr when not wanted or failed. hidden: the state behind the final norm (of an engine of the
  // first layers alone: behind these, and there when failed, too).
  const float* logits = nullptr;
  const float* hidden = nullptr;
  // Values stopped being finite in this layer (counted from 1; layers + 1: the output). 0: all is well.
  uint32_t failed_layer = 0;
};

// Levels of this machine, narrowest first, nullptr behind the last.
const ZgLevel* const* available_levels() noexcept;
// "generic", "avx2", "avx512"; "" the widest; nullptr when unknown or missing here.
const ZgLevel* level_by_name(const char* name) noexcept;

class Engine {
 public:
  // Packs the weights, which takes about as much memory as the file; of the model's own only norms and embedding are read again.
  // nullptr with the reason in error.
  static std::unique_ptr<Engine> load(std::shared_ptr<const det::Model> model, const Options& options, std::string* error);
  ~Engine();

  // Computes the rows. False when *cancel became true (rows hold no results, positions may have been written) or memory ran out.
  bool run(std::vector<Row>* rows, const std::atomic<bool>* cancel = nullptr);

  // Whether steps of few rows are shared between the threads; measured unless told otherwise. Not beside run.
  void set_sharing(Sharing sharing) { pace_.set(sharing); }

  // The thread that is going to call run keeps to the first core, when threads keep to theirs.
  void pin_caller() const { workers_.pin_caller(); }
  // For other work of the same thread, between runs.
  Workers& workers() { return workers_; }

  // The cache's pages; used by the same thread as run, between runs.
  Pages& pages() { return *pages_; }
  static PageShape page_shape(const det::Model& model, bool floats = false, uint32_t layers = UINT32_MAX);
  // Memory that packed weights take: all of them, or those of the first layers.
  static uint64_t weight_bytes(const det::Model& model, uint32_t layers = UINT32_MAX);
  const det::Model& model() const { return *model_; }
  const std::shared_ptr<const det::Model>& shared_model() const { return model_; }
  const ZgLevel& level() const { return level_; }
  unsigned threads() const { return workers_.threads(); }
  // Of packed weights; and of those that one decoded token reads (a mixture's: all of them).
  uint64_t packed_bytes() const { return packed_bytes_; }

 private:
  struct Layer {
    Packed q, k, v, o, gate, up, down, router;
  };
  struct Product {
    ZgMatrix w;
    float* y;
    size_t stride;
    const std::vector<float>* bias;
  };

  Engine(std::shared_ptr<const det::Model> model, const Options& options);
  bool pack_weights(std::string* error);
  // The output is somebody else's.
  bool partial() const { return layers_.size() < model_->layers.size(); }
  void resize(size_t rows);
  bool run_rows(Row* rows, size_t n, const std::atomic<bool>* cancel);
  void attention(size_t layer, Row* rows, size_t n);
  // Rows of a pass, of one sequence and at ascending positions.
  struct Stretch {
    size_t first;
    size_t count;
  };
  void attend(size_t layer, const Row& row, const Stretch& stretch, size_t kv_head);
  void feed_forward(size_t layer, size_t n);
  // of: which row of the pass each is; nullptr: they are the pass's.
  void gated(size_t layer, size_t expert, size_t n, const uint32_t* of);
  void mixture(size_t layer, size_t n);
  void choose(const float* router, uint32_t* experts, float* weights) const;
  void multiply(const Product* products, size_t count, const Tokens& x, size_t n);
  // Rows of y that adapters change: y row i += what they make of a row of x.
  struct Change {
    const float* x;
    size_t x_stride;
    float* y;
    size_t y_stride;
    size_t n;
    // Row of the pass that row i of y belongs to; nullptr: i itself. x_of: rows of x are counted like the pass's, not like y's.
    const uint32_t* of = nullptr;
    bool x_of = false;
    // Which matrix of a mixture.
    size_t expert = 0;
  };
  using Pair = Adapter::Pair Adapter::Layer::*;
  // Notes which adapters the rows of a pass have (adapt.cpp).
  void find_adapters(const Row* rows, size_t n);
  bool adapts(size_t layer, Pair pair) const;
  // pair nullptr: the output's.
  void adapt(size_t layer, Pair pair, const Change& change);
  void adapt_embedding(const Row* rows, size_t n);
  // y row i += strength · scale · B · x row i, for the rows that have this adapter.
  void add_change(const Adapter::Pair& pair, const Tokens& low, const std::vector<uint32_t>& rows, const std::vector<float>& factors,
                  const Change& change);
  void output(Row* rows, size_t n, float* logits, float* hidden);
  // Keeps the residual of all rows of a pass.
  void hand_over(Row* rows, size_t n, float* hidden);
  // body(i) for every row, shared when there are enough.
  template <typename Body>
  void each_row(size_t n, const Body& body);

  const std::shared_ptr<const det::Model> model_;
  const ZgLevel& level_;
  Workers workers_;
  Pace pace_;
  std::unique_ptr<Pages> pages_;
  std::vector<std::unique_ptr<Memory>> memory_;
  uint64_t packed_bytes_ = 0;
  std::vector<Layer> layers_;
  Packed output_;
  std::vector<std::unique_ptr<Turns>> turns_;

  size_t capacity_ = 0;
  // Row by row, widths padded to 16: residual; normed; q, k, v; attention's result; gate, up; a branch's result.
  std::vector<float> x_, h_, q_, k_, v_, o_, gate_, up_, y_;
  size_t x_stride_, q_stride_, kv_stride_, feed_stride_, vocabulary_stride_;
  Tokens normed_, attended_, gated_;
  // Of a mixture: router outputs; chosen experts with weights; rows of one expert and where their results lie.
  std::vector<float> router_, expert_weights_, expert_out_;
  std::vector<uint32_t> experts_;
  std::vector<float> logits_, hidden_;
  // By place in their sets: the adapter of each row of a pass, or nullptr. Empty when no row has one.
  std::vector<std::vector<const AdapterUse*>> adapters_;
  Tokens adapter_in_, adapter_mid_;
  std::vector<float> adapter_low_, adapter_out_;
};

}  // namespace zg::cpu
