// A model as the deterministic engines see it: shape, rules of its architecture, where the weights lie. Weights stay in the mapping
// (or in owned memory); norms and biases are unpacked to floats.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "../gguf.h"
#include "blocks.h"
#include "rope_table.h"

namespace zg::det {

// Rows of whole blocks one behind the other; for experts, that many matrices behind one another.
struct Matrix {
  const uint8_t* data = nullptr;
  Type type = Type::kF32;
  size_t columns = 0;
  size_t rows = 0;
  size_t row_bytes = 0;

  bool present() const { return data != nullptr; }
  const uint8_t* row(size_t r) const { return data + r * row_bytes; }
};

// What sets one architecture apart from the plain layer (inference.md section 3).
struct Architecture {
  const char* name;
  // Pairs of RoPE: elements i and i + n/2 instead of 2i and 2i + 1.
  bool half_split;
  // RMS norm of each head of q and k before RoPE.
  bool head_norms;
  // GELU instead of SiLU, and embeddings times √width.
  bool gemma;
  // Norms of the branches before they are added.
  bool post_norms;
  // Layers i with i mod window_period ≠ window_full have the window; 0: no windows. Windows of gemma3 use base 10 000, unscaled.
  uint32_t window_period;
  uint32_t window_full;
  bool local_base;
};

// The rules of an architecture by its name in files, or nullptr.
const Architecture* architecture_by_name(std::string_view name) noexcept;
// Names of all, with commas between.
std::string architecture_names();

struct Layer {
  std::vector<float> attention_norm, feed_norm;
  // Empty where the architecture or the file has none.
  std::vector<float> q_norm, k_norm, post_attention_norm, post_feed_norm;
  std::vector<float> q_bias, k_bias, v_bias, o_bias;
  Matrix q, k, v, o;
  // Of a dense layer; of a mixture, expert after expert (rows: of all experts together), with the router.
  Matrix gate, up, down;
  Matrix router;
  // Tokens that a query sees, itself included; 0: all.
  uint32_t window = 0;
  // Index into Model::rope.
  uint32_t rope = 0;
};

struct Model {
  std::unique_ptr<gguf::File> file;
  // general.name, or empty.
  std::string name;
  uint64_t parameters = 0;
  // What is odd about the file but can be lived with.
  std::vector<std::string> warnings;
  // Weights that no file holds (random models).
  std::vector<std::unique_ptr<uint8_t[]>> owned;
  Architecture architecture{};
  uint32_t context = 0, width = 0, feed = 0, heads = 0, kv_heads = 0, head_size = 0, rope_dims = 0, vocabulary = 0;
  // 0: dense.
  uint32_t experts = 0, experts_used = 0;
  float epsilon = 0;
  float score_scale = 0;
  // 0: none.
  float score_cap = 0, logit_cap = 0;
  float embedding_scale = 1;
  std::vector<RopeParameters> rope;
  std::vector<Layer> layers;
  std::vector<float> output_norm;
  Matrix embedding;
  Matrix output;

  size_t q_width() const { return size_t{heads} * head_size; }
  size_t kv_width() const { return size_t{kv_heads} * head_size; }

  // Opens and checks a model, or nullptr with the reason in error. A file that holds a vocabulary only is refused.
  static std::unique_ptr<Model> open(const char* path, gguf::Error* error) noexcept;
  // The same for a file that is open already.
  static std::unique_ptr<Model> load(std::unique_ptr<gguf::File> file, gguf::Error* error) noexcept;
};

// What a random model looks like; weights are random bytes with sane scales, seeded.
struct RandomShape {
  uint32_t layers = 16, width = 2048, feed = 8192, heads = 32, kv_heads = 8, head_size = 64, vocabulary = 32'000, context = 4096;
  Type type = Type::kQ8_0;
  // Of attn_v and ffn_down in every second layer, and of the output (file recipe Q4_K_M: Q6_K).
  Type second = Type::kQ8_0;
};
std::unique_ptr<Model> random_model(const RandomShape& shape, uint64_t seed);

// Random blocks of a type for rows · columns values: quants are random bits, scales lie near 1 / (√columns · largest quant).
void random_blocks(Type type, size_t rows, size_t columns, uint64_t seed, uint8_t* out);

}  // namespace zg::det
