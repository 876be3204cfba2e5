// A model: what a GGUF file says of its shape, checked, and where its weights lie in the mapping. Nothing is unpacked except norms
// and biases, so a model costs little memory beyond the page cache.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "gguf.h"

namespace zg::infer {

// Rows of whole blocks, one behind the other.
struct Matrix {
  const uint8_t* data = nullptr;
  const TypeInfo* type = nullptr;
  size_t columns = 0;
  size_t rows = 0;
  size_t row_bytes = 0;

  bool present() const { return data != nullptr; }
};

// What sets one architecture apart from the plain layer (inference.md section 3).
struct Architecture {
  const char* name;
  // Pairs of RoPE: elements i and i + n/2 instead of 2i and 2i + 1.
  bool half_split;
  // RMS norm of each head of q and k before RoPE.
  bool head_norms;
};

struct Layer {
  std::vector<float> attention_norm;
  std::vector<float> feed_norm;
  // Empty when the architecture has none.
  std::vector<float> q_norm, k_norm;
  Matrix q, k, v, o, gate, up, down;
  // Empty: no bias.
  std::vector<float> q_bias, k_bias, v_bias, o_bias;
};

struct Model {
  std::unique_ptr<gguf::File> file;
  const Architecture* architecture = nullptr;
  std::string name;
  uint32_t context = 0;
  uint32_t width = 0;
  uint32_t feed = 0;
  uint32_t heads = 0;
  uint32_t kv_heads = 0;
  uint32_t head_size = 0;
  uint32_t rope_dims = 0;
  uint32_t vocabulary = 0;
  float epsilon = 0;
  // Angle per position of each RoPE pair, scaling included, and the factor on cosine and sine.
  std::vector<double> frequencies;
  float rope_magnitude = 1;
  std::vector<Layer> layers;
  std::vector<float> output_norm;
  Matrix embedding;
  // The embedding again where the file has no matrix of its own.
  Matrix output;
  uint64_t parameters = 0;
  std::vector<std::string> warnings;

  // Opens and checks a model, or nullptr with the reason in error. A file that holds a vocabulary only is refused.
  static std::unique_ptr<Model> open(const char* path, gguf::Error* error) noexcept;
  // The same for a file that is open already.
  static std::unique_ptr<Model> load(std::unique_ptr<gguf::File> file, gguf::Error* error) noexcept;
};

}  // namespace zg::infer
