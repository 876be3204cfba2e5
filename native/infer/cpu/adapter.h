// Low-rank changes to a model's matrices (LoRA): y = W·x becomes y + s·B·(A·x), s = strength · alpha / rank. They stand beside the weights
// and are chosen by request, so requests with different ones share a step. A and B are kept as floats; the products follow the rules of
// float weights, so a row's bits depend on its own adapters and their order alone.
//
// Files: GGUF with general.type "adapter", adapter.type "lora", tensors NAME.lora_a [columns, rank] and NAME.lora_b [rank, rows].
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "../det/det_model.h"
#include "packed.h"

namespace zg::cpu {

// Immutable once open; any number of threads.
class Adapter {
 public:
  // What is added to one matrix, or to each of a mixture's.
  struct Pair {
    Packed a, b;
    // alpha / rank, or 1.
    float scale = 1;
    bool present() const { return a.present(); }
  };
  struct Layer {
    Pair q, k, v, o, gate, up, down, router;
  };

  // nullptr with the reason in error: no adapter, one of another model, or what it adapts is not adapted here.
  static std::unique_ptr<const Adapter> open(const char* path, const det::Model& model, gguf::Error* error);
  // The same of a file that is open; nothing of it is needed afterwards.
  static std::unique_ptr<const Adapter> load(const gguf::File& file, const det::Model& model, gguf::Error* error);

  // general.name, or empty.
  const std::string& name() const { return name_; }
  const Layer& layer(size_t index) const { return layers_[index]; }
  const Pair& output() const { return output_; }
  // B of the embedding's pair; A's row of a token, of rank floats.
  const Pair& embedding() const { return embedding_; }
  const float* embedding_row(uint32_t token) const { return embedding_rows_.data() + size_t{token} * embedding_.b.first.columns; }
  uint64_t bytes() const { return bytes_; }
  // Largest rank.
  uint32_t rank() const { return rank_; }

 private:
  friend class AdapterLoader;
  std::string name_;
  std::vector<Layer> layers_;
  Pair output_, embedding_;
  std::vector<float> embedding_rows_;
  struct Free {
    void operator()(uint8_t* p) const { std::free(p); }
  };
  std::vector<std::unique_ptr<uint8_t, Free>> memory_;
  uint64_t bytes_ = 0;
  uint32_t rank_ = 0;
};

// What a request asked for, applied in this order.
struct AdapterUse {
  std::shared_ptr<const Adapter> adapter;
  float strength = 1;
};
using AdapterSet = std::vector<AdapterUse>;

}  // namespace zg::cpu
