// Matrix times vector: decode. A block has a stretch of row tiles; its warps take pairs of their segments, lane = row, half of the warp =
// segment. Weights go straight to registers, the next ones on their way while these are multiplied. The first are asked for before the
// activations are known, and more of them brought to the second-level cache, so that the memory works while launches follow one another:
// a block takes at most half of a multiprocessor, and the next launch's blocks stand beside it. Segment sums are joined in ascending order.
#pragma once

#include "kernels.h"

namespace zg::simt {

constexpr uint32_t kVectorThreads = 256;
constexpr uint32_t kVectorWarps = kVectorThreads / 32;
// Segment sums that a block keeps at once, at most.
constexpr uint32_t kPartBytes = 48 * 1024;

struct ProductShared {
  // Quants and their scales, rows times; where a row's scales begin, and how far rows are apart.
  uint32_t q, scales, stride, floats, norm, parts, total;
};
inline __attribute__((always_inline))
#ifdef __CUDACC__
__host__ __device__
#endif
ProductShared product_shared(const ProductArgs& a, uint32_t rows) {
  ProductShared s;
  const uint32_t padded = a.segments * kSegment;
  s.q = 0;
  s.scales = padded;
  s.stride = padded + padded / 32 * 8;
  s.floats = rows * s.stride;
  const uint32_t floats = (padded + padded / 8) * 4;
  s.norm = s.floats + (a.source == Source::kQuants ? 0 : floats + 256);
  s.parts = s.norm + (a.source == Source::kNormed ? floats : 0);
  s.total = s.parts + rows * a.group * a.segments * kRows * 4;
  return s;
}

// A block's scale and the two sums of its activations.
struct alignas(8) BlockScale {
  float d;
  uint32_t sums;
};

// As fold_squares, of a padded row.
ZG_DEVICE float fold_padded(const float* x, uint32_t first, uint32_t count) {
  float v = 0;
  uint32_t i = first;
  const float* at = x + padded_at(first);
  for (; i + 7 * 64 < count; i += 8 * 64, at += 8 * 72) {
    float part[8];
    ZG_UNROLL
    for (uint32_t j = 0; j < 8; j++) part[j] = at[72 * j];
    ZG_UNROLL
    for (uint32_t j = 0; j < 8; j++) v = det::fma1(part[j], part[j], v);
  }
  for (; i < count; i += 64, at += 72) v = det::fma1(*at, *at, v);
  return v;
}

// Activations of a row into shared memory, as the block's row `place`. The norm's weights are on their way there. Ends with a barrier.
ZG_DEVICE void product_activations(const ProductArgs& a, uint32_t row, const ProductShared& s, uint32_t place) {
  uint8_t* memory = shared();
  auto* q = reinterpret_cast<uint32_t*>(memory + s.q + place * s.stride);
  auto* scales = reinterpret_cast<BlockScale*>(memory + s.q + place * s.stride + s.scales);
  const uint32_t padded = a.segments * kSegment;
  if (a.source == Source::kQuants) {
    const uint8_t* from = reinterpret_cast<const uint8_t*>(a.x.q) + uint64_t{row} * padded;
    for (uint32_t i = thread(); i < padded / 16; i += threads()) copy_async(reinterpret_cast<Vec4*>(q) + i, from + 16 * i);
    copy_commit();
    for (uint32_t i = thread(); i < padded / 32; i += threads()) {
      scales[i] = {a.x.d[uint64_t{row} * (padded / 32) + i], a.x.sums[uint64_t{row} * (padded / 32) + i]};
    }
    copy_wait<0>();
    sync();
    return;
  }
  const float* x = a.floats + uint64_t{row} * a.columns;
  auto* values = reinterpret_cast<float*>(memory + s.floats);
  const auto* norm = reinterpret_cast<const float*>(memory + s.norm);
  // Rows of floats are whole vectors of 16 bytes.
  for (uint32_t i = 4 * thread(); i < padded; i += 4 * threads()) {
    if (i < a.columns) {
      copy_async(values + padded_at(i), x + i);
    } else {
      *reinterpret_cast<Vec4*>(values + padded_at(i)) = Vec4{0, 0, 0, 0};
    }
  }
  copy_commit();
  copy_wait<0>();
  sync();
  float factor = 1;
  if (a.source == Source::kNormed) {
    float* lanes = values + padded + padded / 8;
    if (thread() < 64) lanes[thread()] = fold_padded(values, thread(), a.columns);
    sync();
    if (thread() < 32) {
      const float sum = join_lanes(lanes);
      if (thread() == 0) lanes[0] = det::rms_factor(sum, static_cast<float>(a.columns), a.epsilon);
    }
    sync();
    factor = lanes[0];
  }
  // All threads of a warp take part in the exchanges.
  for (uint32_t base = 0; base < padded / 16; base += threads()) {
    if (base + (thread() & ~31u) >= padded / 16) break;
    const uint32_t sixteen = base + thread();
    const bool mine = sixteen < padded / 16;
    const uint32_t from = padded_at(mine ? 16 * sixteen : 0);
    float v[16];
    ZG_UNROLL
    for (int k = 0; k < 4; k++) {
      const Vec4 four = load16(values + from + 4 * k);
      ZG_UNROLL
      for (int j = 0; j < 4; j++) v[4 * k + j] = det::float_of(word_of(four, j));
    }
    // Behind the last column there are zeros, whatever lies there of the norm.
    if (a.source == Source::kNormed && 16 * sixteen < a.columns) {
      ZG_UNROLL
      for (int k = 0; k < 4; k++) {
        const Vec4 weight = load16(norm + from + 4 * k);
        ZG_UNROLL
        for (int j = 0; j < 4; j++) v[4 * k + j] = det::mul1(det::mul1(v[4 * k + j], factor), det::float_of(word_of(weight, j)));
      }
    }
    BlockScale scale;
    const Vec4 words = quantize_two(v, &scale.d, &scale.sums);
    if (!mine) continue;
    *reinterpret_cast<Vec4*>(q + 4 * sixteen) = words;
    if (sixteen % 2 == 0) scales[sixteen / 2] = scale;
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

// Lines of a segment that a thread has on their way at once: all, or, where they are many, a half of the blocks after the other.
template <Type T>
struct VectorShape {
  static constexpr int kPieces = T == Type::kQ8_0 ? 2 : 1;
  static constexpr int kPieceLines = T == Type::kQ8_0 ? 8 : Tile<T>::kLines;
  static constexpr int kPieceBlocks = 8 / kPieces;
  // Two pieces at once in registers.
  static constexpr bool kDouble = kPieceLines <= 10;
};
template <Type T>
struct Piece {
  Vec4 lines[VectorShape<T>::kPieceLines];
  // Of the first piece, where the scales are not among its lines.
  Vec4 last;
  uint32_t tail[2];
};

// kTokens rows of activations with the same weights; rows: how many there are in the launch. Rows with experts come one by one.
template <Type T, uint32_t kTokens>
ZG_GLOBAL void ZG_BOUNDS(kVectorThreads, 2) multiply_vector(const ProductArgs a) {
  using S = VectorShape<T>;
  constexpr uint32_t bytes = Tile<T>::kBytes;
  const ProductShared s = product_shared(a, kTokens);
  uint8_t* memory = shared();
  const uint32_t warp = thread() / 32;
  const uint32_t half = lane() / 16;
  const uint32_t r = lane() % 16;
  const bool gated = a.sink == Sink::kGatedSilu || a.sink == Sink::kGatedGelu;
  uint32_t tiles = 0;
  for (uint32_t m = 0; m < a.count; m++) tiles += (a.w[m].rows + kRows - 1) / kRows;
  // Gate and up tiles stay together.
  const uint32_t together = gated ? 2 : 1;
  const auto begin = static_cast<uint32_t>(uint64_t{tiles / together} * block_x() / blocks_x()) * together;
  const auto end = static_cast<uint32_t>(uint64_t{tiles / together} * (block_x() + 1) / blocks_x()) * together;
  const uint32_t per_tile = (a.segments + 1) / 2;
  uint64_t expert = 0;
  // Experts come from the launch in front.
  if (a.experts != nullptr) {
    wait_before();
    expert = a.experts[block_y()];
  }
  const auto tile_start = [&](uint32_t tile) {
    const TilePlace at = tile_place(a, tile);
    return a.w[at.matrix].tiles + expert * a.w[at.matrix].expert_bytes + uint64_t{at.tile} * a.segments * bytes;
  };
  // What a warp is at: pair `unit` of segments of the tiles from `first` on.
  uint32_t first = begin;
  uint32_t unit = warp;
  const auto units = [&](uint32_t from) { return (from + a.group < end ? a.group : end - from) * per_tile; };
  const auto load = [&](uint32_t from, uint32_t at, int piece, Piece<T>* to) {
    uint32_t segment = at % per_tile * 2 + half;
    if (segment >= a.segments) segment = a.segments - 1;
    const uint8_t* start = tile_start(from + at / per_tile) + uint64_t{segment} * bytes;
    ZG_UNROLL
    for (int l = 0; l < S::kPieceLines; l++) to->lines[l] = load_stream(start + (piece * S::kPieceLines + l) * 256 + r * 16);
    if (piece > 0) return;
    if constexpr (S::kPieces > 1) to->last = load_stream(start + (Tile<T>::kLines - 1) * 256 + r * 16);
    load_tail<T>(start, r, to->tail);
  };
  Piece<T> now;
  if (first < end && unit < units(first)) load(first, unit, 0, &now);
  if (thread() == 0) {
    // Whole tiles, as far as they go.
    uint64_t asked = 0;
    const uint64_t tile_bytes = uint64_t{a.segments} * bytes;
    for (uint32_t tile = begin; tile < end && asked < a.ahead; tile++) {
      const uint64_t wanted = tile_bytes < a.ahead - asked ? tile_bytes : a.ahead - asked;
      prefetch(tile_start(tile), static_cast<uint32_t>(wanted / 16 * 16));
      asked += wanted;
    }
  }
  if (a.source == Source::kNormed) {
    // The norm's weights do not depend on the launch in front either.
    for (uint32_t i = 4 * thread(); i < a.columns; i += 4 * threads()) copy_async(memory + s.norm + 4 * padded_at(i), a.norm + i);
  }
  copy_commit();
  if (a.experts == nullptr) wait_before();
  let_next_start();
  const uint32_t row0 = block_y() * kTokens;
  for (uint32_t m = 0; m < kTokens; m++) {
    const uint32_t row = row0 + m < a.rows ? row0 + m : a.rows - 1;
    product_activations(a, row / a.share, s, m);
  }
  copy_wait<0>();

  const auto* q = memory + s.q;
  auto* parts = reinterpret_cast<float*>(memory + s.parts);
  for (; first < end; first += a.group) {
    const uint32_t here = units(first);
    for (; unit < here; unit += kVectorWarps) {
      // What comes next, perhaps of the next tiles.
      uint32_t next_first = first;
      uint32_t next = unit + kVectorWarps;
      if (next >= here) {
        next_first = first + a.group;
        next = warp;
      }
      const bool more = next_first < end && next < units(next_first);
      const uint32_t segment = unit % per_tile * 2 + half;
      const uint32_t b0 = (segment < a.segments ? segment : a.segments - 1) * 8;
      Head h;
      const auto whole = [&](int l) -> const Vec4& { return now.lines[l]; };
      if constexpr (S::kPieces == 1) {
        h = take_head<T>(whole, now.tail);
      } else {
        h = Head{now.last, {}};
      }
      float acc[kTokens];
      ZG_UNROLL
      for (uint32_t m = 0; m < kTokens; m++) acc[m] = 0;
      ZG_UNROLL
      for (int piece = 0; piece < S::kPieces; piece++) {
        Piece<T> coming;
        if constexpr (S::kDouble) {
          if (piece + 1 < S::kPieces) {
            load(first, unit, piece + 1, &coming);
          } else if (more) {
            load(next_first, next, 0, &coming);
          }
        }
        ZG_UNROLL
        for (int i = 0; i < S::kPieceBlocks; i++) {
          const int b = piece * S::kPieceBlocks + i;
          uint32_t w[8];
          take_block<T>(whole, i, w);
          const Scales scale = scales<T>(h, b);
          ZG_UNROLL
          for (uint32_t m = 0; m < kTokens; m++) {
            const uint8_t* own = q + m * s.stride;
            const Vec4 x0 = load16(own + (b0 + b) * 32);
            const Vec4 x1 = load16(own + (b0 + b) * 32 + 16);
            const BlockScale x = reinterpret_cast<const BlockScale*>(own + s.scales)[b0 + b];
            int32_t low = 0;
            int32_t high = 0;
            ZG_UNROLL
            for (int t = 0; t < 4; t++) {
              low = dp4a(w[t], word_of(x0, t), low);
              high = dp4a(w[4 + t], word_of(x1, t), high);
            }
            acc[m] = join<T>(scale, low, high, sum0(x.sums), sum1(x.sums), x.d, acc[m]);
          }
        }
        if constexpr (S::kDouble) {
          now = coming;
        } else if (more) {
          load(next_first, next, 0, &now);
        }
      }
      ZG_UNROLL
      for (uint32_t m = 0; m < kTokens; m++) {
        if (segment < a.segments) parts[((m * a.group + unit / per_tile) * a.segments + segment) * kRows + r] = acc[m];
      }
    }
    unit = warp;
    sync();
    // Rows of the tiles: join segments ascending.
    const uint32_t count = first + a.group < end ? a.group : end - first;
    const uint32_t outputs = count / together * kRows;
    for (uint32_t o = thread(); o < kTokens * outputs; o += threads()) {
      const uint32_t m = o / outputs;
      const uint32_t token = row0 + m;
      const uint32_t local = o % outputs / kRows * together;
      const TilePlace at = tile_place(a, first + local);
      const uint32_t row = at.tile * kRows + o % kRows;
      const Weights& w = a.w[at.matrix];
      if (row >= w.rows || token >= a.rows) continue;
      const float* own = parts + m * a.group * a.segments * kRows;
      float total = join_segments(own + local * a.segments * kRows + o % kRows, a.segments);
      float* y = w.y + uint64_t{token} * w.rows + row;
      if (gated) {
        const float up = join_segments(own + (local + 1) * a.segments * kRows + o % kRows, a.segments);
        *y = det::mul1(a.sink == Sink::kGatedSilu ? det::silu(total) : det::gelu(total), up);
        continue;
      }
      if (w.bias != nullptr) total = det::add1(total, w.bias[row]);
      if (a.sink == Sink::kAdd) {
        total = det::add1(*y, total);
        if (a.layer != 0 && !det::is_finite(total)) atomic_min(a.failed + token, a.layer);
      }
      *y = total;
    }
    sync();
  }
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
