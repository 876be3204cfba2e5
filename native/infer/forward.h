// The forward pass: tokens of one or more sequences in, logits out (inference.md section 4). Activations are floats throughout.
//
// A row's result depends on its own sequence only and on no chunking: every sum has an order of its own (kernels.h; attention adds
// positions ascending), so a prompt fed whole, in pieces or beside others gives the same bits on every level of CPU.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels.h"
#include "model.h"
#include "pool.h"

namespace zg::infer {

// Keys and values of one sequence as floats, in blocks of positions that are allocated as it grows.
class Cache {
 public:
  static constexpr size_t kBlock = 64;

  explicit Cache(const Model& model);
  // Bytes that a sequence of this many positions takes.
  static uint64_t bytes(const Model& model, uint64_t positions);
  // Room for positions 0 … positions − 1; false when there is no memory.
  bool reserve(size_t positions);
  float* key(size_t layer, size_t position) { return row(2 * layer, position); }
  float* value(size_t layer, size_t position) { return row(2 * layer + 1, position); }

 private:
  float* row(size_t plane, size_t position) {
    return blocks_[position / kBlock].get() + (plane * kBlock + position % kBlock) * kv_width_;
  }

  size_t planes_;
  size_t kv_width_;
  std::vector<std::unique_ptr<float[]>> blocks_;
};

// One position to compute. Rows of a sequence stand in ascending order of position, behind everything computed before.
struct Row {
  Cache* cache = nullptr;
  uint32_t position = 0;
  uint32_t token = 0;
  bool wants_logits = false;
  // Results. logits: vocabulary floats, valid until the next run; nullptr when not wanted or failed.
  const float* logits = nullptr;
  // Values stopped being finite in this layer (counted from 1; layers + 1: the output). 0: all is well.
  uint32_t failed_layer = 0;
};

class Runner {
 public:
  // model and kernels outlive the runner.
  Runner(const Model& model, const Kernels& kernels, unsigned threads);

  // Computes the rows. Caches must have room for their positions. False when there is no memory or *cancel became true.
  bool run(std::vector<Row>& rows, const std::atomic<bool>* cancel = nullptr);

  const Kernels& kernels() const { return kernels_; }

 private:
  bool resize(size_t rows);
  void embed(const std::vector<Row>& rows);
  void attention(size_t layer, std::vector<Row>& rows);
  void attend(size_t layer, const Row& row, const float* q, size_t kv_head, float* out);
  void feed_forward(const Layer& layer, size_t rows);
  void output(std::vector<Row>& rows);
  void norm(const std::vector<float>& w, const float* x, float* out, size_t rows);
  void norm_heads(const std::vector<float>& w, float* heads, size_t count) const;
  void multiply(const Matrix& w, const std::vector<float>& bias, const float* x, size_t rows, float* y);
  void rotate(float* heads, size_t count, const float* turns) const;
  void mark_broken(std::vector<Row>& rows, uint32_t layer) const;

  const Model& model_;
  const Kernels& kernels_;
  Pool pool_;
  size_t capacity_ = 0;
  // Row by row: residual, normed input, q, k, v, attention's result, gate, up, a branch's output; cosine and sine of each pair.
  std::vector<float> x_, h_, q_, k_, v_, o_, gate_, up_, y_, turns_, logits_;
};

}  // namespace zg::infer
