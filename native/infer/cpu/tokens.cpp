#include "tokens.h"

namespace zg::cpu {
namespace {

// Counts of tokens that levels have products for, largest first.
constexpr uint32_t kCounts[] = {12, 8, 4, 2, 1};

}  // namespace

void Tokens::prepare(size_t n, size_t columns, bool quants, bool floats) {
  columns_ = columns;
  quants_ = quants;
  floats_ = floats;
  const size_t blocks = (columns + ZG_BLOCK - 1) / ZG_BLOCK;
  const auto grow = [](auto* v, size_t count) {
    if (v->size() < count) v->resize(count);
  };
  if (quants) {
    grow(&q_, n * blocks * ZG_BLOCK);
    grow(&d_, 2 * n * blocks);
    grow(&sums_, 3 * n * blocks);
  }
  if (floats) grow(&x_, n * columns);
  groups_.clear();
  group_.clear();
  place_.clear();
  size_t at = 0;
  for (const uint32_t count : kCounts) {
    for (; n - at >= count; at += count) {
      for (uint32_t i = 0; i < count; i++) {
        group_.push_back(static_cast<uint32_t>(groups_.size()));
        place_.push_back(i);
      }
      groups_.push_back({count, q_.data() + at * blocks * ZG_BLOCK, d_.data() + 2 * at * blocks, sums_.data() + 3 * at * blocks,
                         x_.data() + at * columns});
    }
  }
}

void Tokens::put(const ZgLevel& level, size_t i, const float* x) {
  const ZgTokens& g = groups_[group_[i]];
  const size_t place = place_[i];
  if (quants_) {
    const size_t q = static_cast<size_t>(g.q - q_.data()) + place * ZG_BLOCK;
    const ZgSlot slot = {g.count, q_.data() + q, d_.data() + (g.d - d_.data()) + place, sums_.data() + (g.sums - sums_.data()) + place};
    level.quantize(x, static_cast<uint32_t>(columns_), &slot);
  }
  if (!floats_) return;
  float* to = x_.data() + (g.x - x_.data()) + place;
  for (size_t c = 0; c < columns_; c++) to[c * g.count] = x[c];
}

}  // namespace zg::cpu
