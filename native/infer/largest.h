// The first of many logits in the order of inference.md 7.1, larger first and then by index, without sorting all: the k-th largest of blocks' maxima is
// reached by at least k values, and by few others.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/layout.h"

namespace zg::infer {

class Largest {
 public:
  // x[0 … n − 1], n > 0, must outlive this; no value is a NaN.
  Largest(const ZgLevel& level, const float* x, size_t n);

  float top() const { return top_; }
  // Where it stands first.
  uint32_t first() const;
  // A value that at least k of them reach, −∞ when that cannot be told from the blocks.
  float bound(size_t k) const;
  // take(i) for every value that reaches the bound, by ascending i.
  template <typename Take>
  void each(float bound, const Take& take) const {
    for (size_t b = 0; b < blocks_; b++) {
      if (!(maxima_[b] >= bound)) continue;
      const size_t end = b + 1 == blocks_ ? n_ : (b + 1) * block_;
      for (size_t i = b * block_; i < end; i++) {
        if (x_[i] >= bound) take(static_cast<uint32_t>(i));
      }
    }
  }

 private:
  static constexpr size_t kBlocks = 2'048;

  const float* x_;
  size_t n_;
  size_t block_;
  size_t blocks_;
  float top_;
  // The last block may be shorter.
  float maxima_[kBlocks];
};

// The level that everything outside the engine computes with: the best, or what ZG_CPU asks for.
const ZgLevel& default_level() noexcept;

}  // namespace zg::infer
