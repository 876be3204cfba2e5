// What the device itself can do: memory read and matrix units, for the denominators of the benchmark.
#pragma once

#include "simt.h"

namespace zg::simt {

struct ReadArgs {
  const uint8_t* from;
  uint64_t vectors;
  uint32_t* out;
};

ZG_KERNEL void read_all(const ReadArgs a) {
  uint32_t sum = 0;
  const uint64_t stride = uint64_t{blocks_x()} * threads();
  uint64_t i = uint64_t{block_x()} * threads() + thread();
  for (; i + 7 * stride < a.vectors; i += 8 * stride) {
    Vec4 v[8];
    ZG_UNROLL
    for (int j = 0; j < 8; j++) v[j] = load_stream(a.from + 16 * (i + j * stride));
    ZG_UNROLL
    for (int j = 0; j < 8; j++) sum += v[j].x ^ v[j].y ^ v[j].z ^ v[j].w;
  }
  for (; i < a.vectors; i += stride) sum += load_stream(a.from + 16 * i).x;
  // Never true; the compiler cannot know.
  if (sum == 0x12345679u) a.out[0] = sum;
}

struct PeakArgs {
  int32_t* out;
  uint32_t rounds;
};

// Eight independent chains of m16n8k32 a warp.
ZG_KERNEL void matrix_rate(const PeakArgs p) {
  uint32_t a[4] = {thread(), 2, 3, 4};
  uint32_t b[2] = {5, thread()};
  int32_t sum = 0;
  for (uint32_t i = 0; i < p.rounds; i++) {
    int32_t d[8][4];
    ZG_UNROLL
    for (int j = 0; j < 8; j++) mma_k32(d[j], a, b, j);
    ZG_UNROLL
    for (int j = 0; j < 8; j++) sum ^= d[j][0] ^ d[j][3];
    a[0] ^= static_cast<uint32_t>(sum);
  }
  if (sum == 0x12345679) p.out[0] = sum;
}

}  // namespace zg::simt
