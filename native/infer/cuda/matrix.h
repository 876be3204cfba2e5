// Matrix times matrix on the tensor cores: prefill and batches. Weights are the side of 16 rows, tokens that of 8 columns, and one
// m16n8k32 is exactly one block of 32 columns, whose integer sum then goes into the float scheme of inference.md 12.2.
//
// Sums start at 0x4B400000: read as a float, the result is 12 582 912 + S exactly, so one subtraction converts it; what stored quants
// are too large by goes into the subtrahend. Further factors are small integers whose float products are exact.
#pragma once

#include "device.h"
#include "product.h"

namespace zg::simt {

// Warps over rows and over tokens, row tiles and token groups of 8 of a warp.
template <Type T, int kTokenGroups>
struct MatrixShape {
  static constexpr uint32_t kRowWarps = 4;
  static constexpr uint32_t kTokenWarps = 2;
  static constexpr uint32_t kRowTiles = 2;
  static constexpr uint32_t kTiles = kRowWarps * kRowTiles;
  static constexpr uint32_t kTokens = kTokenWarps * kTokenGroups * 8;
  static constexpr uint32_t kThreads = kRowWarps * kTokenWarps * 32;
  // A token's quants of a segment, padded so that eight of them fall into different banks.
  static constexpr uint32_t kStride = kSegment + 16;
  static constexpr uint32_t kWeightBytes = kTiles * Tile<T>::kBytes;
  static constexpr uint32_t kQuantBytes = kTokens * kStride;
  static constexpr uint32_t kScaleBytes = kTokens * 8 * 4;
  static constexpr bool kSums = Tile<T>::kOffset != 0 || Tile<T>::kMinimum;
  // Weights, quants, scales, and sums where the type needs them.
  static constexpr uint32_t kStageBytes = kWeightBytes + kQuantBytes + (kSums ? 2 : 1) * kScaleBytes;
  // Floats by block, then pair of tokens: two scales, and where the type needs them two sums of (first) halves; a plane of its own for sums of
  // second halves. Padded against bank conflicts.
  static constexpr uint32_t kPair = kSums ? 4 : 2;
  static constexpr uint32_t kPlaneStride = kTokens / 2 * kPair + 4;
  static constexpr uint32_t kUpperStride = kTokens + 4;
  static constexpr uint32_t kPlanes = 8 * (kPlaneStride + (kSums && Tile<T>::kHalves ? kUpperStride : 0));
  static constexpr uint32_t kSharedBytes = 2 * kStageBytes + 2 * kPlanes * 4;
};

constexpr int32_t kMagic = 0x4B400000;

// Grid: blocks of tokens × blocks of 8 row tiles: neighbours read the same weights. tokens: rows of activations.
struct MatrixArgs {
  ProductArgs p;
  uint32_t tokens = 0;
  uint32_t tiles = 0;
};

struct alignas(8) Pair {
  float x, y;
};
ZG_DEVICE Pair pair_at(const float* p) { return *reinterpret_cast<const Pair*>(p); }

// The fragments of block b of two row tiles of a segment, in the order of mma_k32.
template <Type T>
ZG_DEVICE void fetch_tiles(const uint8_t* weights, int b, uint32_t (*w)[4]) {
  const uint32_t g = lane() / 4;
  const auto t = static_cast<int>(lane() % 4);
  // Rows of the matrices that a lane points at.
  const uint32_t eighth = lane() / 8;
  const uint32_t in_eight = lane() % 8;
  ZG_UNROLL
  for (uint32_t i = 0; i < 2; i++) {
    const uint8_t* tile = weights + i * Tile<T>::kBytes;
    if constexpr (T == Type::kQ8_0) {
      load_matrices(w[i], tile + (2 * b + eighth / 2) * 256 + (eighth % 2 * 8 + in_eight) * 16);
    } else if constexpr (!Tile<T>::kNibbles) {
      fetch<T>(tile, g, b, t, &w[i][0], &w[i][2]);
      fetch<T>(tile, g + 8, b, t, &w[i][1], &w[i][3]);
    }
  }
  if constexpr (Tile<T>::kNibbles) {
    uint32_t line[4];
    load_matrices(line, weights + eighth / 2 * Tile<T>::kBytes + b * 256 + (eighth % 2 * 8 + in_eight) * 16);
    ZG_UNROLL
    for (uint32_t i = 0; i < 4; i++) {
      uint32_t extra[2];
      further_bits<T>(weights + i / 2 * Tile<T>::kBytes, g + i % 2 * 8, b, extra);
      expand<T>(line[i], extra[0], extra[1], t, &w[i / 2][i % 2], &w[i / 2][2 + i % 2]);
    }
  }
}

template <Type T, int kTokenGroups>
ZG_GLOBAL void ZG_BOUNDS(256, 2) multiply_matrix(const MatrixArgs m) {
  using S = MatrixShape<T, kTokenGroups>;
  const ProductArgs& a = m.p;
  uint8_t* memory = shared();
  auto* planes = reinterpret_cast<float*>(memory + 2 * S::kStageBytes);
  const uint32_t padded = a.segments * kSegment;
  const uint32_t first_tile = block_y() * S::kTiles;
  const uint32_t first_token = block_x() * S::kTokens;
  const uint32_t warp = thread() / 32;
  const uint32_t row_warp = warp % S::kRowWarps;
  const uint32_t token_warp = warp / S::kRowWarps;
  const uint32_t g = lane() / 4;
  const uint32_t t = lane() % 4;
  static_assert(S::kRowTiles == 2);

  wait_before();
  let_next_start();
  // A warp copies one row tile and an eighth of the tokens, four lanes a token.
  static_assert(S::kTiles * 32 == S::kThreads);
  const TilePlace own = tile_place(a, first_tile + warp < m.tiles ? first_tile + warp : m.tiles - 1);
  const uint8_t* tile_from = a.w[own.matrix].tiles + uint64_t{own.tile} * a.segments * Tile<T>::kBytes + lane() * 16;
  constexpr uint32_t kOwnTokens = S::kTokens / 8;
  const auto start_copy = [&](uint32_t segment) {
    if (segment < a.segments) {
      uint8_t* stage = memory + segment % 2 * S::kStageBytes;
      uint8_t* tile_to = stage + warp * Tile<T>::kBytes + lane() * 16;
      const uint8_t* from = tile_from + uint64_t{segment} * Tile<T>::kBytes;
      ZG_UNROLL
      for (uint32_t c = 0; c < Tile<T>::kBytes; c += 512) {
        if (c + 512 <= Tile<T>::kBytes || c + lane() * 16 < Tile<T>::kBytes) copy_async(tile_to + c, from + c);
      }
      ZG_UNROLL
      for (uint32_t i = 0; i < (kOwnTokens + 7) / 8; i++) {
        const uint32_t in_warp = lane() / 4 + 8 * i;
        const uint32_t local = warp * kOwnTokens + in_warp;
        if (in_warp >= kOwnTokens) continue;
        const uint64_t token = first_token + local < m.tokens ? first_token + local : m.tokens - 1;
        const uint32_t part = lane() % 4;
        const int8_t* q = a.x.q + token * padded + segment * kSegment + part * 16;
        uint8_t* to = stage + S::kWeightBytes + local * S::kStride + part * 16;
        ZG_UNROLL
        for (uint32_t k = 0; k < 4; k++) copy_async(to + 64 * k, q + 64 * k);
        if (part >= 2 && !S::kSums) continue;
        const uint64_t at = token * (padded / 32) + segment * 8 + part % 2 * 4;
        const void* numbers = part < 2 ? static_cast<const void*>(a.x.d + at) : static_cast<const void*>(a.x.sums + at);
        copy_async(stage + S::kWeightBytes + S::kQuantBytes + part / 2 * S::kScaleBytes + local * 32 + part % 2 * 16, numbers);
      }
    }
    copy_commit();
  };

  float total[S::kRowTiles][kTokenGroups][4];
  float acc[S::kRowTiles][kTokenGroups][4];
  ZG_UNROLL
  for (uint32_t i = 0; i < S::kRowTiles; i++) {
    ZG_UNROLL
    for (int n = 0; n < kTokenGroups; n++) {
      ZG_UNROLL
      for (int e = 0; e < 4; e++) total[i][n][e] = 0;
    }
  }
  // The numbers that this thread copied, as floats where all threads find them.
  const auto spread_out = [&](uint32_t segment) {
    const uint8_t* stage = memory + segment % 2 * S::kStageBytes + S::kWeightBytes + S::kQuantBytes;
    float* plane = planes + segment % 2 * S::kPlanes;
    float* upper = plane + 8 * S::kPlaneStride;
    const uint32_t part = lane() % 4;
    ZG_UNROLL
    for (uint32_t i = 0; i < (kOwnTokens + 7) / 8; i++) {
      const uint32_t in_warp = lane() / 4 + 8 * i;
      const uint32_t local = warp * kOwnTokens + in_warp;
      if (in_warp >= kOwnTokens || (part >= 2 && !S::kSums)) continue;
      const Vec4 four = load16(stage + part / 2 * S::kScaleBytes + local * 32 + part % 2 * 16);
      ZG_UNROLL
      for (uint32_t j = 0; j < 4; j++) {
        const uint32_t block = part % 2 * 4 + j;
        const uint32_t to = block * S::kPlaneStride + local / 2 * S::kPair + local % 2;
        const uint32_t word = word_of(four, static_cast<int>(j));
        if (part < 2) {
          plane[to] = det::float_of(word);
          continue;
        }
        const uint32_t to_upper = block * S::kUpperStride + local;
        const int32_t x0 = sum0(word);
        const int32_t x1 = sum1(word);
        if constexpr (Tile<T>::kMinimum) {
          plane[to + 2] = static_cast<float>(Tile<T>::kHalves ? x0 : x0 + x1);
          if constexpr (Tile<T>::kHalves) upper[to_upper] = static_cast<float>(x1);
        } else {
          plane[to + 2] = -det::float_of(static_cast<uint32_t>(kMagic + Tile<T>::kOffset * (Tile<T>::kHalves ? x0 : x0 + x1)));
          if constexpr (Tile<T>::kHalves) upper[to_upper] = -det::float_of(static_cast<uint32_t>(kMagic + Tile<T>::kOffset * x1));
        }
      }
    }
  };
  start_copy(0);
  copy_wait<0>();
  spread_out(0);
  sync();
  start_copy(1);
  for (uint32_t segment = 0; segment < a.segments; segment++) {
    const uint8_t* stage = memory + segment % 2 * S::kStageBytes;
    const float* plane = planes + segment % 2 * S::kPlanes;
    const float* upper = plane + 8 * S::kPlaneStride;
    const uint8_t* weights = stage + row_warp * S::kRowTiles * Tile<T>::kBytes;
    const uint8_t* quants = stage + S::kWeightBytes + token_warp * kTokenGroups * 8 * S::kStride;
    const uint32_t column = token_warp * kTokenGroups * 8 + 2 * t;
    ZG_UNROLL
    for (uint32_t i = 0; i < S::kRowTiles; i++) {
      ZG_UNROLL
      for (int n = 0; n < kTokenGroups; n++) {
        ZG_UNROLL
        for (int e = 0; e < 4; e++) acc[i][n][e] = 0;
      }
    }
    // Rows of the matrices that a lane points at.
    const uint32_t eighth = lane() / 8;
    const uint32_t in_eight = lane() % 8;
    // Two blocks at a time: their quants of eight tokens come in one load.
    ZG_UNROLL
    for (int b0 = 0; b0 < 8; b0 += 2) {
      uint32_t w[2][S::kRowTiles][4];
      Scales scale[2][S::kRowTiles][2];
      ZG_UNROLL
      for (int k = 0; k < 2; k++) fetch_tiles<T>(weights, b0 + k, w[k]);
      ZG_UNROLL
      for (uint32_t i = 0; i < S::kRowTiles; i++) {
        ZG_UNROLL
        for (uint32_t h = 0; h < 2; h++) {
          const Head numbers = head<T>(weights + i * Tile<T>::kBytes, g + 8 * h);
          scale[0][i][h] = scales<T>(numbers, b0);
          scale[1][i][h] = scales<T>(numbers, b0 + 1);
        }
      }
      ZG_UNROLL
      for (int n = 0; n < kTokenGroups; n++) {
        uint32_t x[4];
        load_matrices(x, quants + (n * 8 + in_eight) * S::kStride + b0 * 32 + eighth * 16);
        ZG_UNROLL
        for (int k = 0; k < 2; k++) {
          const int b = b0 + k;
          Pair dx;
          Pair p0{-12582912.0f, -12582912.0f};
          Pair p1 = p0;
          if constexpr (S::kSums) {
            const Vec4 both = load16(plane + b * S::kPlaneStride + (column / 2 + n * 4) * 4);
            dx = {det::float_of(both.x), det::float_of(both.y)};
            p0 = {det::float_of(both.z), det::float_of(both.w)};
            if constexpr (Tile<T>::kHalves) p1 = pair_at(upper + b * S::kUpperStride + column + n * 8);
          } else {
            dx = pair_at(plane + b * S::kPlaneStride + column + n * 8);
          }
          ZG_UNROLL
          for (uint32_t i = 0; i < S::kRowTiles; i++) {
            int32_t low[4];
            int32_t high[4];
            if constexpr (Tile<T>::kHalves) {
              mma_k16(low, w[k][i][0], w[k][i][1], x[2 * k], kMagic);
              mma_k16(high, w[k][i][2], w[k][i][3], x[2 * k + 1], kMagic);
            } else {
              mma_k32(low, w[k][i], x + 2 * k, kMagic);
            }
            ZG_UNROLL
            for (int e = 0; e < 4; e++) {
              const Scales& s = scale[k][i][e / 2];
              constexpr float magic = -12582912.0f;
              const float d = e % 2 == 0 ? dx.x : dx.y;
              const float s0 = e % 2 == 0 ? p0.x : p0.y;
              const float s1 = e % 2 == 0 ? p1.x : p1.y;
              float value = det::add1(det::float_of(static_cast<uint32_t>(low[e])), Tile<T>::kOffset != 0 ? s0 : magic);
              if constexpr (Tile<T>::kHalves) {
                const float upper_part = det::add1(det::float_of(static_cast<uint32_t>(high[e])), Tile<T>::kOffset != 0 ? s1 : magic);
                value = det::fma1(static_cast<float>(s.s1), upper_part, det::mul1(static_cast<float>(s.s0), value));
              } else if constexpr (Tile<T>::kScaled) {
                value = det::mul1(static_cast<float>(s.s0), value);
              }
              acc[i][n][e] = det::fma1(value, det::mul1(s.d, d), acc[i][n][e]);
              if constexpr (Tile<T>::kMinimum) {
                float minimum = det::mul1(static_cast<float>(-s.m0), s0);
                if constexpr (Tile<T>::kHalves) minimum = det::fma1(static_cast<float>(-s.m1), s1, minimum);
                acc[i][n][e] = det::fma1(minimum, det::mul1(s.dm, d), acc[i][n][e]);
              }
            }
          }
        }
      }
    }
    ZG_UNROLL
    for (uint32_t i = 0; i < S::kRowTiles; i++) {
      ZG_UNROLL
      for (int n = 0; n < kTokenGroups; n++) {
        ZG_UNROLL
        for (int e = 0; e < 4; e++) total[i][n][e] = det::add1(total[i][n][e], acc[i][n][e]);
      }
    }
    if (segment + 1 < a.segments) {
      copy_wait<0>();
      spread_out(segment + 1);
    }
    sync();
    start_copy(segment + 2);
  }
  copy_wait<0>();
  ZG_UNROLL
  for (uint32_t i = 0; i < S::kRowTiles; i++) {
    const uint32_t tile = first_tile + row_warp * S::kRowTiles + i;
    if (tile >= m.tiles) continue;
    const TilePlace at = tile_place(a, tile);
    const Weights& w = a.w[at.matrix];
    ZG_UNROLL
    for (int e = 0; e < 4; e++) {
      const uint32_t row = at.tile * kRows + g + 8 * (e / 2);
      if (row >= w.rows) continue;
      const float bias = w.bias != nullptr ? w.bias[row] : 0.0f;
      ZG_UNROLL
      for (int n = 0; n < kTokenGroups; n++) {
        const uint32_t token = first_token + (token_warp * kTokenGroups + n) * 8 + 2 * t + e % 2;
        if (token >= m.tokens) continue;
        w.y[uint64_t{token} * w.rows + row] = w.bias != nullptr ? det::add1(total[i][n][e], bias) : total[i][n][e];
      }
    }
  }
}

template <Type T, int kTokenGroups>
void multiply_matrix_shaped(Device& device, const ProductArgs& p, uint32_t tokens) {
  using S = MatrixShape<T, kTokenGroups>;
  MatrixArgs m{p, tokens, 0};
  for (uint32_t i = 0; i < p.count; i++) m.tiles += (p.w[i].rows + kRows - 1) / kRows;
  device.launch(multiply_matrix<T, kTokenGroups>, (tokens + S::kTokens - 1) / S::kTokens, (m.tiles + S::kTiles - 1) / S::kTiles, S::kThreads,
                S::kSharedBytes, m);
}

// Few tokens: blocks of 16; else of 64.
template <Type T>
void multiply_matrix_launch(Device& device, const ProductArgs& p, uint32_t tokens) {
  if (tokens <= 32) {
    multiply_matrix_shaped<T, 1>(device, p, tokens);
  } else {
    multiply_matrix_shaped<T, 4>(device, p, tokens);
  }
}

}  // namespace zg::simt
