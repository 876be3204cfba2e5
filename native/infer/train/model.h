// A transformer and its derivative, one sequence window at a time, so that threads share nothing but the parameters. One graph for
// every architecture, driven by the model's rules. A window may hold several sequences one behind another: they do not see each other
// and each begins at position 0, as it will when it is served.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels.h"
#include "shape.h"

namespace zg::train {

/// Tokens with their targets (the token that should follow; negative: not counted) and where sequences begin (starts[0] = 0).
struct Window {
  std::vector<int32_t> tokens;
  std::vector<int32_t> targets;
  std::vector<long> starts;
  long size() const { return static_cast<long>(tokens.size()); }
};

/// Parameters, or room for their gradient; null: none (of an adapter) or not wanted (of a gradient).
template <class T>
struct Weights {
  const T* base;
  const T* adapter;
};
template <class T>
struct Gradient {
  T* base;
  T* adapter;
};

/// Everything one thread needs for one window; allocated once.
template <class T>
struct Workspace {
  Workspace(const Config& config, long rank);
  /// Bytes that one takes.
  static uint64_t bytes(const Config& config, long rank);

  struct Layer {
    std::vector<T> in, normed, raw, qkv, mixed, attn_y, middle, normed2, gate_up, act, ffn_y;
    std::vector<T> r1, r2, r3, r4, head_r, log_sum;
    // Of a mixture: rows of gate_up and act in the order of the experts, the token and the weight of each, and where experts begin.
    std::vector<int32_t> token_of, start_of;
    std::vector<T> share;
  };
  std::vector<Layer> layers;
  std::vector<T> out, final_normed, final_r;
  // scratch
  std::vector<T> logits, picked, keys_t, values_t, scores, dscores, slopes, dx, dh, dqkv, dgate_up, dact, dmixed, dbranch, rows, rows2;
  std::vector<T> low, dlow, router, drouter;
  std::vector<std::vector<T>> cosines, sines;  // per RoPE table: [context][dims / 2]
};

template <class T>
class Model {
 public:
  Model(const Config& config, const AdapterConfig& adapter, const Kernels<T>& kernels);

  /// Forward over a window (at most config.context tokens), states left in `w`. Writes nothing else.
  void forward(const Weights<T>& weights, const Window& window, Workspace<T>& w) const;
  /// Sum of cross-entropy in nats of the counted targets. Adds the gradient of (scale * sum) to what `gradient` points at.
  double loss(const Weights<T>& weights, const Window& window, Workspace<T>& w, const Gradient<T>& gradient, double scale) const;
  /// Logits [vocab] at position `at` of the last forward.
  void logits_at(const Weights<T>& weights, long at, const Workspace<T>& w, T* out) const;

  const Config& config() const { return config_; }
  const Layout& layout() const { return layout_; }
  const AdapterLayout& adapter_layout() const { return adapter_; }

 private:
  using Layer = typename Workspace<T>::Layer;
  /// A matrix's low-rank pair, of one expert or of all; absent when a is null.
  struct Pair {
    const T* a = nullptr;
    const T* b = nullptr;
    T* da = nullptr;
    T* db = nullptr;
  };
  Pair pair_of(const PairOffsets& at, const Weights<T>& weights, const Gradient<T>& gradient, long in, long out, long expert) const;
  /// y += s B A x for n rows.
  void add_low(const Pair& pair, long n, const T* x, long ldx, long in, T* y, long ldy, long out, Workspace<T>& w) const;
  /// The derivative of that: dx += …, and of A and B.
  void add_low_back(const Pair& pair, long n, const T* x, long ldx, long in, const T* dy, long ldy, long out, T* dx, long lddx,
                    Workspace<T>& w) const;

  void backward(const Weights<T>& weights, const Window& window, Workspace<T>& w, const Gradient<T>& gradient) const;
  void rope(size_t layer, T* qkv, const Window& window, const Workspace<T>& w, bool back) const;
  void head_norms(size_t layer, long n, const T* base, Workspace<T>& w) const;
  void head_norms_back(size_t layer, long n, const T* base, T* gradient, Workspace<T>& w) const;
  void attention(size_t layer, long begin, long n, Workspace<T>& w) const;
  void attention_back(size_t layer, long begin, long n, Workspace<T>& w) const;
  void dense(size_t layer, const Weights<T>& weights, long n, T* y, Workspace<T>& w) const;
  void dense_back(size_t layer, const Weights<T>& weights, long n, const T* dy, Workspace<T>& w, const Gradient<T>& gradient) const;
  void choose_experts(size_t layer, const T* base, long n, Workspace<T>& w) const;
  void mixture(size_t layer, const Weights<T>& weights, long n, T* y, Workspace<T>& w) const;
  void mixture_back(size_t layer, const Weights<T>& weights, long n, const T* dy, Workspace<T>& w, const Gradient<T>& gradient) const;

  Config config_;
  Layout layout_;
  AdapterLayout adapter_;
  const Kernels<T>& k_;
};

/// Positions whose logits are held at a time.
long logit_rows(const Config& config);
inline constexpr long kQueryRows = 64;  // rows of scores at a time, so that they stay in the second cache

extern template struct Workspace<float>;
extern template struct Workspace<double>;

}  // namespace zg::train
