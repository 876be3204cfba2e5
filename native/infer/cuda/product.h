// Matrix times vector: decode. A block takes groups of row tiles; half-warps ("teams") take their segments, lane = row. Weights
// stream through a ring in shared memory that is filled before the activations are known, so that the memory never waits for the
// launch in front. Segment sums are joined in ascending order.
#pragma once

#include "kernels.h"

namespace zg::simt {

constexpr int kStages = 2;

// Threads of a block for a type: as many teams as shared memory has rings for, since more warps hide more of the arithmetic's latency.
template <Type T>
constexpr uint32_t product_threads() {
  return Tile<T>::kBytes > 4000 ? 320 : Tile<T>::kBytes > 3000 ? 384 : 512;
}

struct ProductShared {
  uint32_t ring, q, d, sums, floats, parts, total;
};
template <Type T>
inline __attribute__((always_inline))
#ifdef __CUDACC__
__host__ __device__
#endif
ProductShared product_shared(const ProductArgs& a, uint32_t threads) {
  ProductShared s;
  s.ring = 0;
  s.q = threads / 16 * kStages * Tile<T>::kBytes;
  const uint32_t padded = a.segments * kSegment;
  s.d = s.q + padded;
  s.sums = s.d + padded / 32 * 4;
  s.floats = s.sums + padded / 32 * 4;
  s.parts = s.floats + (a.source == Source::kNormed ? padded * 4 + 256 : 0);
  s.total = s.parts + 2 * a.group * a.segments * kRows * 4;
  return s;
}

// Vectors that a thread loads at once: rows are far away.
constexpr uint32_t kAtOnce = 4;

// Activations of this block's row into shared memory; norm: the thread's first vectors of the norm's weights. Ends with a barrier.
ZG_DEVICE void product_activations(const ProductArgs& a, uint32_t row, const ProductShared& s, const Vec4* norm) {
  uint8_t* memory = shared();
  auto* q = reinterpret_cast<uint32_t*>(memory + s.q);
  auto* d = reinterpret_cast<float*>(memory + s.d);
  auto* sums = reinterpret_cast<uint32_t*>(memory + s.sums);
  const uint32_t padded = a.segments * kSegment;
  if (a.source == Source::kQuants) {
    const uint8_t* from = reinterpret_cast<const uint8_t*>(a.x.q) + uint64_t{row} * padded;
    for (uint32_t i = thread(); i < padded / 16; i += threads()) reinterpret_cast<Vec4*>(q)[i] = load16(from + 16 * i);
    for (uint32_t i = thread(); i < padded / 32; i += threads()) {
      d[i] = a.x.d[uint64_t{row} * (padded / 32) + i];
      sums[i] = a.x.sums[uint64_t{row} * (padded / 32) + i];
    }
    sync();
    return;
  }
  const float* x = a.floats + uint64_t{row} * a.columns;
  auto* values = reinterpret_cast<float*>(memory + s.floats);
  float factor = 1;
  if (a.source == Source::kNormed) {
    auto* lanes = values + padded;
    // Rows of floats are whole vectors of 16 bytes.
    for (uint32_t i = 4 * thread(); i < a.columns; i += 4 * threads()) *reinterpret_cast<Vec4*>(values + i) = load16(x + i);
    sync();
    if (thread() < 64) lanes[thread()] = fold_squares(values, thread(), a.columns);
    sync();
    if (thread() < 32) {
      const float sum = join_lanes(lanes);
      if (thread() == 0) lanes[0] = det::rms_factor(sum, static_cast<float>(a.columns), a.epsilon);
    }
    sync();
    factor = lanes[0];
  }
  // All threads of a warp take part in the exchanges.
  for (uint32_t base = 0; base < padded; base += kAtOnce * 4 * threads()) {
    float v[kAtOnce][4];
    ZG_UNROLL
    for (uint32_t k = 0; k < kAtOnce; k++) {
      const uint32_t i = base + 4 * (k * threads() + thread());
      Vec4 from{0, 0, 0, 0};
      if (i < a.columns) from = a.source == Source::kNormed ? load16(values + i) : load16(x + i);
      ZG_UNROLL
      for (int j = 0; j < 4; j++) v[k][j] = det::float_of(word_of(from, j));
    }
    ZG_UNROLL
    for (uint32_t k = 0; k < kAtOnce; k++) {
      const uint32_t i = base + 4 * (k * threads() + thread());
      if (a.source == Source::kNormed && i < a.columns) {
        const Vec4 weight = base == 0 ? norm[k] : load16(a.norm + i);
        ZG_UNROLL
        for (int j = 0; j < 4; j++) v[k][j] = det::mul1(det::mul1(v[k][j], factor), det::float_of(word_of(weight, j)));
      }
      float scale;
      uint32_t sum;
      const uint32_t word = quantize_eight(v[k], &scale, &sum);
      if (i >= padded) continue;
      q[i / 4] = word;
      if (thread() % 8 == 0) {
        d[i / 32] = scale;
        sums[i / 32] = sum;
      }
    }
  }
  sync();
}

// Which matrix a row tile of the list belongs to, and its tile there. Gated: gate and up tiles take turns.
struct TilePlace {
  uint32_t matrix, tile;
};
ZG_DEVICE TilePlace tile_place(const ProductArgs& a, uint32_t tile) {
  if (a.sink == Sink::kGatedSilu || a.sink == Sink::kGatedGelu) return {tile % 2, tile / 2};
  uint32_t m = 0;
  while (m + 1 < a.count && tile >= (a.w[m].rows + kRows - 1) / kRows) {
    tile -= (a.w[m].rows + kRows - 1) / kRows;
    m++;
  }
  return {m, tile};
}

// Partial sums of a row, kRows apart, in order.
ZG_DEVICE float join_segments(const float* parts, uint32_t segments) {
  float total = 0;
  uint32_t i = 0;
  for (; i + 8 <= segments; i += 8) {
    float part[8];
    ZG_UNROLL
    for (uint32_t j = 0; j < 8; j++) part[j] = parts[(i + j) * kRows];
    ZG_UNROLL
    for (uint32_t j = 0; j < 8; j++) total = det::add1(total, part[j]);
  }
  for (; i < segments; i++) total = det::add1(total, parts[i * kRows]);
  return total;
}

template <Type T>
ZG_GLOBAL void ZG_BOUNDS(product_threads<T>(), 1) multiply_vector(const ProductArgs a) {
  constexpr uint32_t bytes = Tile<T>::kBytes;
  const ProductShared s = product_shared<T>(a, threads());
  uint8_t* memory = shared();
  const uint32_t team = thread() / 16;
  const uint32_t teams = threads() / 16;
  const uint32_t r = thread() % 16;
  uint32_t tiles = 0;
  for (uint32_t m = 0; m < a.count; m++) tiles += (a.w[m].rows + kRows - 1) / kRows;
  const uint32_t groups = (tiles + a.group - 1) / a.group;
  const uint32_t pairs = a.group * a.segments;
  const uint32_t per_group = (pairs + teams - 1) / teams;
  const uint32_t my_groups = block_x() < groups ? (groups - block_x() + blocks_x() - 1) / blocks_x() : 0;
  const uint32_t steps = my_groups * per_group;
  uint8_t* ring = memory + s.ring + team * kStages * bytes;
  uint64_t expert = 0;
  // Experts come from the launch in front.
  if (a.experts != nullptr) {
    wait_before();
    expert = a.experts[block_y()];
  }

  const auto start_copy = [&](uint32_t step, uint32_t stage) {
    if (step < steps) {
      const uint32_t pair = team + step % per_group * teams;
      const uint32_t tile = (block_x() + step / per_group * blocks_x()) * a.group + pair / a.segments;
      if (pair < pairs && tile < tiles) {
        const TilePlace at = tile_place(a, tile);
        const uint8_t* from = a.w[at.matrix].tiles + expert * a.w[at.matrix].expert_bytes +
                              (uint64_t{at.tile} * a.segments + pair % a.segments) * bytes;
        ZG_UNROLL
        for (uint32_t c = 0; c < bytes; c += 256) {
          if (c + 256 <= bytes || c + r * 16 < bytes) copy_async(ring + stage * bytes + c + r * 16, from + c + r * 16);
        }
      }
    }
    copy_commit();
  };
  ZG_UNROLL
  for (uint32_t i = 0; i < kStages; i++) start_copy(i, i);
  // The norm's weights do not depend on the launch in front either.
  Vec4 norm[kAtOnce];
  ZG_UNROLL
  for (uint32_t k = 0; k < kAtOnce; k++) {
    norm[k] = Vec4{0, 0, 0, 0};
    const uint32_t i = 4 * (k * threads() + thread());
    if (a.source == Source::kNormed && i < a.columns) norm[k] = load16(a.norm + i);
  }
  if (a.experts == nullptr) wait_before();
  let_next_start();
  product_activations(a, block_y() / a.share, s, norm);

  const auto* q = memory + s.q;
  const auto* d = reinterpret_cast<const float*>(memory + s.d);
  const auto* sums = reinterpret_cast<const uint32_t*>(memory + s.sums);
  uint32_t stage = 0;
  for (uint32_t g = 0; g < my_groups; g++) {
    auto* parts = reinterpret_cast<float*>(memory + s.parts) + g % 2 * pairs * kRows;
    const uint32_t first = (block_x() + g * blocks_x()) * a.group;
    for (uint32_t j = 0; j < per_group; j++) {
      copy_wait<kStages - 1>();
      sync_warp();
      const uint32_t pair = team + j * teams;
      if (pair < pairs && first + pair / a.segments < tiles) {
        const uint8_t* segment = ring + stage * bytes;
        const uint32_t b0 = pair % a.segments * 8;
        const Head h = head<T>(segment, r);
        float acc = 0;
        ZG_UNROLL
        for (int b = 0; b < 8; b++) {
          uint32_t w[8];
          fetch_block<T>(segment, r, b, w);
          const Vec4 x0 = load16(q + (b0 + b) * 32);
          const Vec4 x1 = load16(q + (b0 + b) * 32 + 16);
          int32_t low = 0;
          int32_t high = 0;
          ZG_UNROLL
          for (int t = 0; t < 4; t++) {
            low = dp4a(w[t], word_of(x0, t), low);
            high = dp4a(w[4 + t], word_of(x1, t), high);
          }
          acc = join<T>(scales<T>(h, b), low, high, sum0(sums[b0 + b]), sum1(sums[b0 + b]), d[b0 + b], acc);
        }
        parts[pair * kRows + r] = acc;
      }
      sync_warp();
      start_copy(g * per_group + j + kStages, stage);
      stage = stage + 1 == kStages ? 0 : stage + 1;
    }
    sync();
    // Rows of the group: join segments ascending. The other half of parts is free meanwhile.
    const bool gated = a.sink == Sink::kGatedSilu || a.sink == Sink::kGatedGelu;
    const uint32_t outputs = gated ? a.group / 2 * kRows : a.group * kRows;
    // Warps take turns, so that the same one does not always come late to the next group.
    const uint32_t turn = g % (threads() / 32) * 32;
    for (uint32_t o = (thread() + threads() - turn) % threads(); o < outputs; o += threads()) {
      const uint32_t local = gated ? o / kRows * 2 : o / kRows;
      const uint32_t tile = first + local;
      if (tile >= tiles) continue;
      const TilePlace at = tile_place(a, tile);
      const uint32_t row = at.tile * kRows + o % kRows;
      const Weights& w = a.w[at.matrix];
      if (row >= w.rows) continue;
      float total = join_segments(parts + local * a.segments * kRows + o % kRows, a.segments);
      float* y = w.y + uint64_t{block_y()} * w.rows + row;
      if (gated) {
        const float up = join_segments(parts + (local + 1) * a.segments * kRows + o % kRows, a.segments);
        *y = det::mul1(a.sink == Sink::kGatedSilu ? det::silu(total) : det::gelu(total), up);
        continue;
      }
      if (w.bias != nullptr) total = det::add1(total, w.bias[row]);
      if (a.sink == Sink::kAdd) {
        total = det::add1(*y, total);
        if (a.layer != 0 && !det::is_finite(total)) atomic_min(a.failed + block_y(), a.layer);
      }
      *y = total;
    }
  }
  copy_wait<0>();
}

// The same for weights of F32, F16 and BF16 and activations as floats: one fma a column, in order.
template <Type T>
ZG_GLOBAL void ZG_BOUNDS(256, 1) multiply_floats(const ProductArgs a) {
  constexpr uint32_t per_line = T == Type::kF32 ? 4 : 8;
  wait_before();
  let_next_start();
  auto* parts = reinterpret_cast<float*>(shared());
  auto* x = parts + a.segments * kRows;
  const float* from = a.floats + uint64_t{block_y() / a.share} * a.columns;
  for (uint32_t i = thread(); i < a.segments * kSegment; i += threads()) x[i] = i < a.columns ? from[i] : 0.0f;
  sync();
  const uint64_t expert = a.experts != nullptr ? a.experts[block_y()] : 0;
  const TilePlace at = tile_place(a, block_x());
  const Weights& w = a.w[at.matrix];
  const uint32_t r = thread() % 16;
  const uint8_t* tile = w.tiles + expert * w.expert_bytes + uint64_t{at.tile} * a.segments * Tile<T>::kBytes;
  for (uint32_t seg = thread() / 16; seg < a.segments; seg += threads() / 16) {
    float acc = 0;
    for (uint32_t l = 0; l < kSegment / per_line; l++) {
      const Vec4 v = load_stream(tile + uint64_t{seg} * Tile<T>::kBytes + l * 256 + r * 16);
      ZG_UNROLL
      for (uint32_t j = 0; j < per_line; j++) {
        float value;
        if constexpr (T == Type::kF32) {
          value = det::float_of(word_of(v, static_cast<int>(j)));
        } else if constexpr (T == Type::kF16) {
          value = half_of(v, static_cast<int>(j));
        } else {
          value = det::float_of(word_of(v, static_cast<int>(j / 2)) >> 16 * (j % 2) << 16);
        }
        acc = det::fma1(value, x[seg * kSegment + l * per_line + j], acc);
      }
    }
    parts[seg * kRows + r] = acc;
  }
  sync();
  const uint32_t row = at.tile * kRows + thread();
  if (thread() < kRows && row < w.rows) {
    float total = 0;
    for (uint32_t i = 0; i < a.segments; i++) total = det::add1(total, parts[i * kRows + thread()]);
    if (w.bias != nullptr) total = det::add1(total, w.bias[row]);
    w.y[uint64_t{block_y()} * w.rows + row] = total;
  }
}

}  // namespace zg::simt
