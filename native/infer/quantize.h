// Floats to the blocks of every type that the engine computes with (inference.md section 2): for each block the scales of least squared
// error among a handful tried. Sums go in the order written, each operation rounded once, so the same floats give the same bytes on every
// machine, which is what naming a model by its content needs.
#pragma once

#include <cstddef>
#include <cstdint>

#include "det/blocks.h"

namespace zg {

// Writes count values, whole blocks of the type, to out. False when the type cannot hold one: not finite, or too large for its scales.
// Any thread.
bool quantize_row(det::Type type, const float* x, size_t count, uint8_t* out) noexcept;

namespace quant {

// The integer nearest, ties to even, for |x| < 2²².
inline int nearest(float x) {
  const float shifted = x + 12582912.0f;
  return static_cast<int>(det::bits_of(shifted) & 0x7fffffu) - 0x400000;
}

inline int clamp(int v, int least, int most) { return v < least ? least : v > most ? most : v; }

inline float half(float v) { return det::half_float(det::float_half(v)); }

void put_half(uint8_t* at, float v);

// Of n ≤ 32 values, the factor d of least Σ(x − d·q)² found, q from least to most; d is signed: the largest value takes the wider end.
// offsets: how many steps beside the plain choice are tried on each side.
float fit_scale(const float* x, size_t n, int least, int most);
// The same with a lowest value: x ≈ d·q − m, q from 0 to most; m ≥ 0 when positive_minimum, d ≥ 0.
void fit_range(const float* x, size_t n, int most, bool positive_minimum, float* d, float* m);
// The same with q from a table of 16.
float fit_table(const float* x, size_t n, const int8_t* table);

// Index of the entry of an ascending table nearest to v; the lower one on ties.
int nearest_entry(const int8_t* table, float v);

// 256 values. False as above.
bool quantize_super(det::Type type, const float* x, uint8_t* out);

}  // namespace quant
}  // namespace zg
