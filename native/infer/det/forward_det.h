// The forward pass of the deterministic mode (inference.md 4 and 12), plain and scalar: what every faster engine is compared with,
// bit for bit. A position's logits depend on the model and the tokens before it, on nothing else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "../pool.h"
#include "det_model.h"

namespace zg::det {

// Tokens a page of the cache holds, and positions of a block of attention.
constexpr uint32_t kPage = 16;
constexpr uint32_t kKeyBlock = 64;

// One position to compute. Rows of a sequence stand in ascending order, right behind what was computed before.
struct Row {
  uint32_t sequence = 0;
  uint32_t position = 0;
  uint32_t token = 0;
  bool wants_logits = false;
};

class Forward {
 public:
  // model outlives the object. positions: of the longest sequence. half_cache false keeps keys and values as floats: not zg-k1, for
  // comparison with an exact reference.
  Forward(const Model& model, uint32_t positions, unsigned threads, bool half_cache = true);

  // Forgets a sequence's positions from `position` on.
  void cut(uint32_t sequence, uint32_t position);

  // Computes the rows. logits: a vector of the vocabulary's size for each row that wants them, in order. hidden (or nullptr): the
  // final-norm states of the same rows. failed[i] = layer, from 1 (layers + 1: the output), in which row i stopped being finite; 0: none.
  void run(const std::vector<Row>& rows, std::vector<float>* logits, std::vector<float>* hidden, std::vector<uint32_t>* failed);

 private:
  float* key(size_t layer, uint32_t page) { return pages_.data() + (size_t{page} * 2 * model_.layers.size() + 2 * layer) * plane_; }
  float* value(size_t layer, uint32_t page) { return key(layer, page) + plane_; }
  void reserve(const Row& row);
  void norm(const std::vector<float>& weight, const float* x, float* out, size_t n) const;
  void multiply(const Matrix& w, size_t first_row, size_t rows, const float* x, size_t count, const std::vector<float>& bias, float* y);
  void rotate(const Layer& layer, uint32_t position, float* heads, size_t count) const;
  void append(size_t layer, const Row& row, const float* k, const float* v);
  void attend(size_t layer, const Row& row, size_t head, const float* q, float* out);
  void mixture(const Layer& layer, const float* h, float* y);
  void dense(const Matrix& gate, const Matrix& up, const Matrix& down, size_t expert, const float* h, size_t count, float* y);
  float stored(float v) const { return half_cache_ ? half_float(float_half(v)) : v; }

  const Model& model_;
  bool half_cache_;
  infer::Pool pool_;
  std::vector<std::vector<float>> tables_;
  // Floats of one layer's keys (or values) in one page.
  size_t plane_;
  std::vector<float> pages_;
  uint32_t page_count_ = 0;
  std::vector<uint32_t> free_;
  // Page numbers of each sequence.
  std::vector<std::vector<uint32_t>> sequences_;
};

}  // namespace zg::det
