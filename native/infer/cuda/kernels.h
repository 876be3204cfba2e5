// What kernels are told. Everything a step needs that changes from one to the next (tokens, positions, pages, experts) is read from
// device memory, so that a captured graph of launches can be replayed as it is.
#pragma once

#include "simt.h"
#include "tiles.h"

namespace zg::simt {

// Activations of rows, quantized: row i at q + i · columns, d and sums + i · columns / 32; columns a multiple of 256.
// A sum's low half is that of the block's first 16 quants, its high half that of the others.
struct Quants {
  int8_t* q;
  float* d;
  uint32_t* sums;
};
ZG_DEVICE int32_t sum0(uint32_t s) { return static_cast<int16_t>(s & 0xFFFFu); }
ZG_DEVICE int32_t sum1(uint32_t s) { return static_cast<int16_t>(s >> 16); }

// A tiled matrix.
struct Weights {
  const uint8_t* tiles = nullptr;
  const float* bias = nullptr;
  float* y = nullptr;
  // Rows of one expert (or of all).
  uint32_t rows = 0;
  uint64_t expert_bytes = 0;
};

enum class Source : uint32_t { kQuants, kFloats, kNormed };
enum class Sink : uint32_t { kStore, kAdd, kGatedSilu, kGatedGelu };

// A product of one or more matrices of one type with the same activations, one grid row (block_y) an activation row.
struct ProductArgs {
  Weights w[3];
  uint32_t count = 0;
  uint32_t columns = 0;
  uint32_t segments = 0;
  // Row tiles that a block takes at a time, and bytes that it asks for ahead.
  uint32_t group = 1;
  uint32_t ahead = 0;
  Source source = Source::kQuants;
  Sink sink = Sink::kStore;
  Quants x{};
  // Rows of floats (kFloats, kNormed), columns apart, and the norm's weight.
  const float* floats = nullptr;
  const float* norm = nullptr;
  float epsilon = 0;
  // Rows of results; expert of a row, or nullptr; activation row = row / share.
  uint32_t rows = 0;
  const uint32_t* experts = nullptr;
  uint32_t share = 1;
  // kAdd: row's first layer that is not finite.
  uint32_t* failed = nullptr;
  uint32_t layer = 0;
};

// One row of a step.
struct StepRow {
  uint32_t token;
  uint32_t position;
  // First entry of its sequence in the page table.
  uint32_t pages;
  uint32_t pad;
};

// A constant as a type.
template <bool kValue>
struct Constant {
  static constexpr bool value = kValue;
};

// ---- folds and blocks shared by kernels

// R64 over lanes' folds in shared memory, by one warp; its first lane has the sum.
ZG_DEVICE float join_lanes(float* lanes) {
  const uint32_t l = lane();
  float v = det::add1(lanes[l], lanes[l + 32]);
  ZG_UNROLL
  for (uint32_t half = 16; half >= 1; half /= 2) v = det::add1(v, shuffle_down(v, half));
  return v;
}

// Lane `first` (0 … 63) of the R64 fold of squares.
ZG_DEVICE float fold_squares(const float* x, uint32_t first, uint32_t count) {
  float v = 0;
  uint32_t i = first;
  for (; i + 7 * 64 < count; i += 8 * 64) {
    float part[8];
    ZG_UNROLL
    for (uint32_t j = 0; j < 8; j++) part[j] = x[i + 64 * j];
    ZG_UNROLL
    for (uint32_t j = 0; j < 8; j++) v = det::fma1(part[j], part[j], v);
  }
  for (; i < count; i += 64) v = det::fma1(x[i], x[i], v);
  return v;
}

// Quantizes a block of 32 held by eight neighbouring lanes, four values each (columns 4i … of lane i). Gives the lane's word, and
// the block's scale and sums in every lane of it.
ZG_DEVICE uint32_t quantize_eight(const float* v, float* d, uint32_t* sums) {
  uint32_t largest = 0;
  ZG_UNROLL
  for (int i = 0; i < 4; i++) {
    const uint32_t bits = det::bits_of(v[i]) & 0x7fffffffu;
    largest = bits > largest ? bits : largest;
  }
  ZG_UNROLL
  for (uint32_t m = 1; m < 8; m *= 2) {
    const uint32_t other = shuffle_xor(largest, m);
    largest = other > largest ? other : largest;
  }
  const det::ActivationScale scale = det::activation_scale(largest);
  uint32_t word = 0;
  int32_t sum = 0;
  ZG_UNROLL
  for (int i = 0; i < 4; i++) {
    const int32_t q = det::activation_quant(v[i], scale.factor);
    sum += q;
    word |= (static_cast<uint32_t>(q) & 255u) << 8 * i;
  }
  sum += shuffle_xor(sum, 1);
  sum += shuffle_xor(sum, 2);
  const int32_t other = shuffle_xor(sum, 4);
  const bool upper = (lane() & 4u) != 0;
  *sums = (static_cast<uint32_t>(upper ? other : sum) & 0xFFFFu) | static_cast<uint32_t>(upper ? sum : other) << 16;
  *d = scale.d;
  return word;
}

// Where column i of a row of floats lies in shared memory: sixteen neighbouring columns a lane fall into different banks.
ZG_DEVICE uint32_t padded_at(uint32_t i) { return i + i / 32 * 4; }

// As det::activation_quant, whose argument is at most 127 here: the addition rounds to the nearest integer, even at ties.
ZG_DEVICE uint32_t quant_of(float x, float factor) {
  return factor == 0.0f ? 0 : det::bits_of(det::add1(det::mul1(x, factor), 12582912.0f)) - 0x4B400000u;
}

// Quantizes a block of 32 held by two neighbouring lanes, sixteen values each (the even lane the first). Gives the lane's sixteen quants,
// and the block's scale and sums in both. All lanes of the warp call it.
ZG_DEVICE Vec4 quantize_two(const float* v, float* d, uint32_t* sums) {
  uint32_t largest = 0;
  ZG_UNROLL
  for (int i = 0; i < 16; i++) {
    const uint32_t bits = det::bits_of(v[i]) & 0x7fffffffu;
    largest = bits > largest ? bits : largest;
  }
  const uint32_t other = shuffle_xor(largest, 1);
  largest = other > largest ? other : largest;
  const det::ActivationScale scale = det::activation_scale(largest);
  uint32_t word[4];
  int32_t sum = 0;
  ZG_UNROLL
  for (int k = 0; k < 4; k++) {
    word[k] = 0;
    ZG_UNROLL
    for (int i = 0; i < 4; i++) word[k] |= (quant_of(v[4 * k + i], scale.factor) & 255u) << 8 * i;
    sum = dp4a(word[k], 0x01010101u, sum);
  }
  const int32_t others = shuffle_xor(sum, 1);
  const bool upper = (lane() & 1u) != 0;
  *sums = (static_cast<uint32_t>(upper ? others : sum) & 0xFFFFu) | static_cast<uint32_t>(upper ? sum : others) << 16;
  *d = scale.d;
  return Vec4{word[0], word[1], word[2], word[3]};
}

}  // namespace zg::simt
