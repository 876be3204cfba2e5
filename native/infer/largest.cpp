#include "largest.h"

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <limits>
#include <vector>

#include "cpu/engine.h"

namespace zg::infer {

Largest::Largest(const ZgLevel& level, const float* x, size_t n) : x_(x), n_(n) {
  constexpr size_t kUnit = 32;
  block_ = kUnit * ((n + kUnit * kBlocks - 1) / (kUnit * kBlocks));
  blocks_ = (n + block_ - 1) / block_;
  const size_t whole = n / block_;
  level.maxima(x, whole, block_, maxima_);
  if (whole < blocks_) maxima_[whole] = *std::max_element(x + whole * block_, x + n);
  top_ = *std::max_element(maxima_, maxima_ + blocks_);
}

uint32_t Largest::first() const {
  const size_t block = static_cast<size_t>(std::find(maxima_, maxima_ + blocks_, top_) - maxima_);
  return static_cast<uint32_t>(std::find(x_ + block * block_, x_ + n_, top_) - x_);
}

float Largest::bound(size_t k) const {
  if (k == 0 || k >= blocks_) return -std::numeric_limits<float>::infinity();
  std::vector<float> sorted(maxima_, maxima_ + blocks_);
  std::nth_element(sorted.begin(), sorted.begin() + static_cast<ptrdiff_t>(k - 1), sorted.end(), std::greater<float>());
  return sorted[k - 1];
}

const ZgLevel& default_level() noexcept {
  static const ZgLevel* const level = [] {
    const ZgLevel* wanted = cpu::level_by_name(std::getenv("ZG_CPU"));
    return wanted != nullptr ? wanted : cpu::level_by_name(nullptr);
  }();
  return *level;
}

}  // namespace zg::infer
