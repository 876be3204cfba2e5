// Activations of several tokens as products read them (layout.h): quantized, as floats, or both.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "layout.h"

namespace zg::cpu {

class Tokens {
 public:
  // Room for n tokens of this many columns.
  void prepare(size_t n, size_t columns, bool quants, bool floats);
  // Writes token i. Different tokens may be written at the same time.
  void put(const ZgLevel& level, size_t i, const float* x);

  const ZgTokens* groups() const { return groups_.data(); }
  uint32_t group_count() const { return static_cast<uint32_t>(groups_.size()); }

 private:
  size_t columns_ = 0;
  bool quants_ = false;
  bool floats_ = false;
  std::vector<int8_t> q_;
  std::vector<float> d_;
  std::vector<int32_t> sums_;
  std::vector<float> x_;
  std::vector<ZgTokens> groups_;
  // Of token i: its group, and its place there.
  std::vector<uint32_t> group_;
  std::vector<uint32_t> place_;
};

}  // namespace zg::cpu
