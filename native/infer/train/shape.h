// What is trained: the shape of a model of any architecture that the engine knows (inference.md sections 3 and 4), its parameters as
// one flat array of named tensors in GGUF's row order, and the low-rank matrices that may be trained in their place.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "../det/det_model.h"

namespace zg::train {

struct Config {
  det::Architecture architecture{};
  long vocab = 0;
  long width = 0;
  long layers = 0;
  long heads = 0;
  long kv_heads = 0;
  long head_size = 0;
  long hidden = 0;   // of the feed-forward part, or of each expert
  long context = 0;  // longest sequence in tokens
  long experts = 0;  // 0: dense
  long experts_used = 0;
  bool tied = true;  // the output matrix is the embedding
  bool q_bias = false, k_bias = false, v_bias = false, o_bias = false;
  double epsilon = 1e-5;
  double score_scale = 1;
  double score_cap = 0;  // 0: none
  double logit_cap = 0;
  double embedding_scale = 1;
  std::vector<det::RopeParameters> rope;
  std::vector<uint32_t> rope_of;  // per layer
  std::vector<long> window_of;    // per layer, 0: all

  long q_width() const { return heads * head_size; }
  long kv_width() const { return kv_heads * head_size; }
  long qkv_width() const { return q_width() + 2 * kv_width(); }
  long rope_dims() const { return static_cast<long>(rope[0].dims); }
  /// Empty when sound, else what is wrong.
  std::string fault() const;
};

/// Rules of `architecture` with the sizes that `sizes` names: windows, scales and RoPE as files of that kind have them. The fault, or empty.
std::string new_config(const std::string& architecture, const Config& sizes, long window, double rope_base, Config* out);
/// The shape of a model that was read; sequences of at most `context` tokens (0: as many as the model takes).
Config config_of(const det::Model& model, long context);

enum class Kind { kMatrix, kNorm, kBias };

/// One named tensor: `depth` times `rows` rows of `columns` values at `offset` of the flat array. Vectors have one row.
struct Tensor {
  std::string name;
  long rows;
  long columns;
  long depth;
  long offset;
  Kind kind;
  long count() const { return rows * columns * depth; }
};

/// Where each layer's parts begin; -1 what it has not. q, k, v lie behind one another, as do gate and up of a dense layer.
struct LayerOffsets {
  long attn_norm = -1, qkv = -1, q_norm = -1, k_norm = -1, q_bias = -1, k_bias = -1, v_bias = -1, attn_out = -1, o_bias = -1;
  long post_attn = -1, ffn_norm = -1, router = -1, gate_up = -1, up = -1, down = -1, post_ffn = -1;
};

struct Layout {
  std::vector<Tensor> tensors;
  std::vector<LayerOffsets> layers;
  long embedding = 0;
  long output_norm = 0;
  long output = 0;  // the embedding's when tied
  long count = 0;
};

Layout layout_of(const Config& config);

/// Fills parameters for a seed: norms 1, biases 0, matrices normal with 0.6 / sqrt(columns), those that add to the stream divided
/// by sqrt(2 layers), embedding 0.03.
void initialize(const Config& config, const Layout& layout, uint64_t seed, float* parameters);
/// The values of a model's file in this layout. The fault, or empty.
std::string load_parameters(const det::Model& model, const Layout& layout, std::vector<float>* parameters);

// ---- LoRA: y = W x + (alpha / rank) B A x, W as it is. A is [rank, columns], B [rows, rank], of experts one pair each.

struct AdapterConfig {
  long rank = 0;  // 0: none
  double alpha = 0;
  std::vector<std::string> targets;  // of kTargets
  double scale() const { return alpha / static_cast<double>(rank); }
};

inline constexpr const char* kTargets[] = {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"};

/// Where the pair of one matrix begins; a < 0: none.
struct PairOffsets {
  long a = -1;
  long b = -1;
};
struct LayerPairs {
  PairOffsets q, k, v, o, gate, up, down;
};
struct AdapterLayout {
  std::vector<Tensor> tensors;  // NAME.lora_a before NAME.lora_b
  std::vector<LayerPairs> layers;
  long rank = 0;
  double scale = 0;
  long count = 0;
};

AdapterLayout adapter_layout_of(const Config& config, const AdapterConfig& adapter);
/// A normal with 1 / sqrt(columns), B zero, so that training begins at the model as it is.
void initialize(const AdapterLayout& layout, uint64_t seed, float* parameters);

}  // namespace zg::train
