// A llama-architecture transformer and its derivative: parameters as one flat array in GGUF's row order, one sequence at
// a time, so that threads share nothing but the parameters. Tied output, RMS norms, adjacent-pair RoPE, grouped heads.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels.h"

namespace zg::train {

struct Config {
  long vocab = 0;
  long width = 0;
  long layers = 0;
  long heads = 0;
  long kv_heads = 0;
  long hidden = 0;   // of the feed-forward part
  long context = 0;  // longest sequence in tokens
  double rope_base = 10000;
  double epsilon = 1e-5;

  long head_size() const { return width / heads; }
  long kv_width() const { return kv_heads * head_size(); }
  long qkv_width() const { return width + 2 * kv_width(); }
  /// Empty when sound, else what is wrong.
  const char* fault() const;
};

/// One named tensor: rows of `columns` values at `offset` of the flat array. A norm has one row.
struct Tensor {
  char name[48];
  long rows;
  long columns;
  long offset;
  bool norm;
};

/// Where each layer's parts begin. q, k, v lie behind one another, as do gate and up, so that each is one product.
struct LayerOffsets {
  long attn_norm, qkv, attn_out, ffn_norm, gate_up, down;
};

struct Layout {
  std::vector<Tensor> tensors;
  std::vector<LayerOffsets> layers;
  long embedding = 0;
  long output_norm = 0;
  long count = 0;
};

Layout layout_of(const Config& config);

/// Fills parameters for a seed: norms 1, matrices normal with 0.6 / sqrt(columns), those that add to the stream divided
/// by sqrt(2 layers), embedding 0.03.
void initialize(const Config& config, const Layout& layout, uint64_t seed, float* parameters);

/// Everything one thread needs for one sequence; allocated once.
template <class T>
struct Workspace {
  explicit Workspace(const Config& config);

  struct Layer {
    std::vector<T> in, normed, qkv, mixed, middle, normed2, gate_up, act;
    std::vector<T> r1, r2, log_sum;
  };
  std::vector<Layer> layers;
  std::vector<T> out, final_normed, final_r;
  // scratch
  std::vector<T> logits, keys_t, values_t, scores, dscores, dx, dh, dqkv, dgate_up, dact, dmixed, mean_of;
  std::vector<T> cosines, sines;  // [context][head_size / 2]
};

template <class T>
class Model {
 public:
  Model(const Config& config, const Kernels<T>& kernels);

  /// Forward over n tokens (n <= context), states left in `w`. Writes nothing else.
  void forward(const T* parameters, const int32_t* tokens, long n, Workspace<T>& w) const;
  /// Sum of cross-entropy in nats of targets[i] after tokens[0…i]; a negative target is not counted.
  /// With `gradient` adds the gradient of (scale * sum) to it.
  double loss(const T* parameters, const int32_t* tokens, const int32_t* targets, long n, Workspace<T>& w, T* gradient,
              double scale) const;
  /// Logits [vocab] at position `at` of the last forward.
  void logits_at(const T* parameters, long at, const Workspace<T>& w, T* out) const;

  const Config& config() const { return config_; }
  const Layout& layout() const { return layout_; }

 private:
  void backward(const T* parameters, const int32_t* tokens, long n, Workspace<T>& w, T* gradient) const;
  void attention(long n, typename Workspace<T>::Layer& layer, Workspace<T>& w) const;
  void attention_back(long n, const typename Workspace<T>::Layer& layer, Workspace<T>& w) const;
  void rope(T* qkv, long n, const Workspace<T>& w, bool back) const;

  Config config_;
  Layout layout_;
  const Kernels<T>& k_;
};

}  // namespace zg::train
