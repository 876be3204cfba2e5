// RoPE tables: cosine and sine of every position and pair as the floats nearest to the real numbers (inference.md 4 and 12.3), so
// that an entry depends on no program. Made once, in double-double arithmetic.
#pragma once

#include <cstdint>
#include <vector>

#include "double_double.h"

namespace zg::det {

// The file's parameters, as the floats they are.
struct RopeParameters {
  uint32_t dims = 0;
  float base = 10'000;
  // Linear: angle / linear. 1: none.
  float linear = 1;
  bool yarn = false;
  float yarn_factor = 1;
  uint32_t original_context = 0;
  float beta_fast = 32;
  float beta_slow = 1;
  // Replaces YaRN's magnitude when positive.
  float attention_factor = 0;
  // Divisors of the pairs' frequencies; empty: none.
  std::vector<float> divisors;
};

// Rows of the table one by one. Safe for use from several threads.
class RopeRows {
 public:
  explicit RopeRows(const RopeParameters& p);
  // The pairs of a position: cosines at out[i · stride], sines at out[i · stride + sine_at].
  void row(uint32_t position, float* out, uint32_t stride, uint32_t sine_at) const;
  uint32_t pairs() const { return static_cast<uint32_t>(frequency_.size()); }

 private:
  std::vector<Dd> frequency_;
  Dd magnitude_;
};

// table[position · dims + 2i] = cosine, … + 2i + 1 = sine of pair i, the magnitude included; positions 0 … positions − 1.
std::vector<float> rope_table(const RopeParameters& p, uint32_t positions);

}  // namespace zg::det
