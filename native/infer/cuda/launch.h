// Launches of the kernels that know a type of weights. They are compiled in files of their own (types_*.cu, for the emulation two that
// include those), side by side.
#pragma once

#include <algorithm>

#include "matrix.h"
#include "small.h"

namespace zg::simt {

inline uint32_t quotient(uint32_t a, uint32_t b) { return (a + b - 1) / b; }

// n: rows of activations. From matrix_rows on products go through the matrix units, where they can. vector_blocks: blocks of other products
// a multiprocessor.
template <Type T>
void launch_product(Device& device, ProductArgs* args, uint32_t tiles, uint32_t n, uint32_t matrix_rows, uint32_t vector_blocks) {
  ProductArgs& a = *args;
  if constexpr (Tile<T>::kFloat) {
    a.sink = Sink::kStore;
    device.launch(multiply_floats<T>, tiles, n, 128, a.segments * (kRows + kSegment) * sizeof(float), a);
  } else {
    if (n >= matrix_rows && a.experts == nullptr && a.source == Source::kQuants && a.sink == Sink::kStore) {
      multiply_matrix_launch<T>(device, a, n);
      return;
    }
    const uint32_t together = a.sink == Sink::kGatedSilu || a.sink == Sink::kGatedGelu ? 2 : 1;
    const uint32_t blocks = std::min(tiles / together, vector_blocks * device.info().multiprocessors);
    a.rows = n;
    uint32_t tokens = a.experts != nullptr || n == 1 ? 1 : n == 2 ? 2 : 4;
    size_t bytes = 0;
    for (;; tokens /= 2) {
      // Tiles of a block, as many of them at once as their sums have room.
      const uint32_t most = std::max(1u, kPartBytes / (tokens * a.segments * kRows * 4) / together);
      a.group = std::min(quotient(tiles / together, blocks), most) * together;
      bytes = product_shared(a, tokens).total;
      if (tokens == 1 || bytes <= device.info().shared_bytes) break;
    }
    const uint32_t grid_y = quotient(n, tokens);
    if (tokens == 1) {
      device.launch(multiply_vector<T, 1>, blocks, grid_y, kVectorThreads, bytes, a);
    } else if (tokens == 2) {
      device.launch(multiply_vector<T, 2>, blocks, grid_y, kVectorThreads, bytes, a);
    } else {
      device.launch(multiply_vector<T, 4>, blocks, grid_y, kVectorThreads, bytes, a);
    }
  }
}

template <Type T>
void launch_embed(Device& device, uint32_t n, const EmbedArgs& a) {
  device.launch(embed<T>, n, 1, 256, 0, a);
}

#define ZG_LAUNCHES(PREFIX, T)                                                                               \
  PREFIX template void launch_product<Type::T>(Device&, ProductArgs*, uint32_t, uint32_t, uint32_t, uint32_t); \
  PREFIX template void launch_embed<Type::T>(Device&, uint32_t, const EmbedArgs&);

ZG_LAUNCHES(extern, kQ8_0)
ZG_LAUNCHES(extern, kQ4_0)
ZG_LAUNCHES(extern, kQ4_K)
ZG_LAUNCHES(extern, kQ6_K)
#ifndef ZG_FEW_TYPES
ZG_LAUNCHES(extern, kQ4_1)
ZG_LAUNCHES(extern, kQ5_0)
ZG_LAUNCHES(extern, kQ5_1)
ZG_LAUNCHES(extern, kQ2_K)
ZG_LAUNCHES(extern, kQ3_K)
ZG_LAUNCHES(extern, kQ5_K)
ZG_LAUNCHES(extern, kIQ4_NL)
ZG_LAUNCHES(extern, kIQ4_XS)
ZG_LAUNCHES(extern, kMXFP4)
#endif

}  // namespace zg::simt
