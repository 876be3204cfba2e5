// Kernels around the products: embedding rows, norms, quantized activations, RoPE and the cache, gates, sums, routing of experts,
// choice of a token.
#pragma once

#include "kernels.h"

namespace zg::simt {

constexpr uint32_t kPageTokens = 16;

struct EmbedArgs {
  const uint8_t* tiles;
  const StepRow* rows;
  float* x;
  uint32_t width;
  uint32_t segments;
  // 1: none.
  float scale;
  bool scaled;
};

// One block a row.
template <Type T>
ZG_GLOBAL void embed(const EmbedArgs a) {
  wait_before();
  let_next_start();
  const uint32_t token = a.rows[block_x()].token;
  const uint8_t* tile = a.tiles + uint64_t{token / kRows} * a.segments * Tile<T>::kBytes;
  const uint32_t r = token % kRows;
  float* x = a.x + uint64_t{block_x()} * a.width;
  const auto put = [&](uint32_t column, float v) {
    if (column < a.width) x[column] = a.scaled ? det::mul1(v, a.scale) : v;
  };
  if constexpr (Tile<T>::kFloat) {
    constexpr uint32_t size = T == Type::kF32 ? 4 : 2;
    for (uint32_t c = thread(); c < a.width; c += threads()) {
      const uint32_t in = c % kSegment * size;
      const uint8_t* at = tile + c / kSegment * Tile<T>::kBytes + in / 16 * 256 + r * 16 + in % 16;
      put(c, T == Type::kF32 ? det::float_of(word_at(at))
                             : T == Type::kF16 ? det::half_float(static_cast<uint16_t>(half_at(at))) : det::float_of(half_at(at) << 16));
    }
  } else {
    // A thread takes word t of a block: eight columns.
    for (uint32_t i = thread(); i < a.segments * 32; i += threads()) {
      const uint8_t* segment = tile + i / 32 * Tile<T>::kBytes;
      const auto b = static_cast<int>(i % 32 / 4);
      const auto t = static_cast<int>(i % 4);
      uint32_t words[2];
      fetch<T>(segment, r, b, t, &words[0], &words[1]);
      const Scales w = scales<T>(head<T>(segment, r), b);
      for (int h = 0; h < 2; h++) {
        for (int j = 0; j < 4; j++) {
          const int32_t q = static_cast<int8_t>(words[h] >> 8 * j & 255u) - Tile<T>::kOffset;
          float v = det::mul1(w.d, static_cast<float>((h == 0 ? w.s0 : w.s1) * q));
          if constexpr (Tile<T>::kMinimum) v = det::add1(v, -det::mul1(w.dm, static_cast<float>(h == 0 ? w.m0 : w.m1)));
          put(i / 4 * 32 + static_cast<uint32_t>(16 * h + 4 * t + j), v);
        }
      }
    }
  }
}

struct NormArgs {
  const float* x;
  // nullptr: no norm.
  const float* weight;
  float epsilon;
  uint32_t columns;
  // Either may be nullptr.
  float* floats;
  Quants quants;
  // Not nullptr: rows whose normed values are not finite are marked with this layer.
  uint32_t* failed;
  uint32_t layer;
  // Not nullptr: row i of the results is row row_of[i] of x.
  const uint32_t* row_of;
};

// One block of 512 threads a row; columns · 4 + 256 bytes of shared memory, rounded up to 16.
ZG_KERNEL void normalize(const NormArgs a) {
  wait_before();
  let_next_start();
  auto* values = reinterpret_cast<float*>(shared());
  float* lanes = values + (a.columns + 3) / 4 * 4;
  const float* x = a.x + uint64_t{a.row_of != nullptr ? a.row_of[block_x()] : block_x()} * a.columns;
  if (a.columns % 4 == 0) {
    for (uint32_t i = 4 * thread(); i < a.columns; i += 4 * threads()) *reinterpret_cast<Vec4*>(values + i) = load16(x + i);
  } else {
    for (uint32_t i = thread(); i < a.columns; i += threads()) values[i] = x[i];
  }
  sync();
  float factor = 1;
  if (a.weight != nullptr) {
    if (thread() < 64) lanes[thread()] = fold_squares(values, thread(), a.columns);
    sync();
    if (thread() < 32) {
      const float sum = join_lanes(lanes);
      if (thread() == 0) lanes[0] = det::rms_factor(sum, static_cast<float>(a.columns), a.epsilon);
    }
    sync();
    factor = lanes[0];
  }
  const uint32_t padded = (a.columns + kSegment - 1) / kSegment * kSegment;
  auto* q = reinterpret_cast<uint32_t*>(a.quants.q + uint64_t{block_x()} * padded);
  for (uint32_t base = 0; base < padded; base += 4 * threads()) {
    const uint32_t i = base + 4 * thread();
    float v[4] = {0, 0, 0, 0};
    for (uint32_t j = 0; j < 4 && i + j < a.columns; j++) {
      v[j] = values[i + j];
      if (a.weight != nullptr) v[j] = det::mul1(det::mul1(v[j], factor), a.weight[i + j]);
      if (a.floats != nullptr) a.floats[uint64_t{block_x()} * a.columns + i + j] = v[j];
      if (a.failed != nullptr && !det::is_finite(v[j])) atomic_min(a.failed + (a.row_of != nullptr ? a.row_of[block_x()] : block_x()), a.layer);
    }
    if (a.quants.q == nullptr) continue;
    float d;
    uint32_t sums;
    const uint32_t word = quantize_eight(v, &d, &sums);
    if (i >= padded) continue;
    q[i / 4] = word;
    if (thread() % 8 == 0) {
      a.quants.d[uint64_t{block_x()} * (padded / 32) + i / 32] = d;
      a.quants.sums[uint64_t{block_x()} * (padded / 32) + i / 32] = sums;
    }
  }
}

struct RopeArgs {
  float* q;
  const float* k;
  const float* v;
  // nullptr: no norm of heads.
  const float* q_norm;
  const float* k_norm;
  float epsilon;
  const float* table;
  const StepRow* rows;
  const uint32_t* page_table;
  uint16_t* cache;
  // Halves between pages, and from a page's start to this layer's keys; values follow the keys.
  uint64_t page_stride;
  uint64_t layer_offset;
  uint32_t heads, kv_heads, head_size, rope_dims;
  bool half_split;
};

// Turns pair i of a head in place; table: of its position.
ZG_DEVICE void turn_pair(const RopeArgs& a, float* values, const float* table, uint32_t i) {
  const uint32_t pairs = a.rope_dims / 2;
  const uint32_t ia = a.half_split ? i : 2 * i;
  const uint32_t ib = a.half_split ? i + pairs : 2 * i + 1;
  const float c = table[2 * i];
  const float s = table[2 * i + 1];
  const float va = values[ia];
  const float vb = values[ib];
  values[ia] = det::fma1(va, c, -det::mul1(vb, s));
  values[ib] = det::fma1(va, s, det::mul1(vb, c));
}

// Grid: rows × (heads + kv_heads), 64 threads: a head's norm, its rotation; keys and values into the cache.
ZG_KERNEL void rope_and_append(const RopeArgs a) {
  wait_before();
  let_next_start();
  auto* values = reinterpret_cast<float*>(shared());
  float* lanes = values + a.head_size;
  const StepRow row = a.rows[block_x()];
  const bool key = block_y() >= a.heads;
  const uint32_t head = key ? block_y() - a.heads : block_y();
  const uint32_t hs = a.head_size;
  const uint64_t kv_at = (uint64_t{block_x()} * a.kv_heads + head) * hs;
  float* q = a.q + (uint64_t{block_x()} * a.heads + head) * hs;
  for (uint32_t i = thread(); i < hs; i += threads()) values[i] = key ? a.k[kv_at + i] : q[i];
  sync();
  const float* norm = key ? a.k_norm : a.q_norm;
  if (norm != nullptr) {
    if (thread() < 64) {
      lanes[thread()] = fold_squares(values, thread(), hs);
    }
    sync();
    if (thread() < 32) {
      const float sum = join_lanes(lanes);
      if (thread() == 0) lanes[0] = det::rms_factor(sum, static_cast<float>(hs), a.epsilon);
    }
    sync();
    const float factor = lanes[0];
    for (uint32_t i = thread(); i < hs; i += threads()) values[i] = det::mul1(det::mul1(values[i], factor), norm[i]);
    sync();
  }
  const uint32_t pairs = a.rope_dims / 2;
  const float* table = a.table + uint64_t{row.position} * a.rope_dims;
  for (uint32_t i = thread(); i < pairs; i += threads()) turn_pair(a, values, table, i);
  sync();
  if (!key) {
    for (uint32_t i = thread(); i < hs; i += threads()) q[i] = values[i];
    return;
  }
  const uint32_t page = a.page_table[row.pages + row.position / kPageTokens];
  const uint32_t slot = row.position % kPageTokens;
  uint16_t* keys = a.cache + page * a.page_stride + a.layer_offset;
  uint16_t* stored = keys + uint64_t{a.kv_heads} * hs * kPageTokens;
  for (uint32_t i = thread(); i < hs; i += threads()) {
    keys[(head * hs + i) * kPageTokens + slot] = det::float_half(values[i]);
    stored[(head * kPageTokens + slot) * hs + i] = det::float_half(a.v[kv_at + i]);
  }
}

struct PairArgs {
  // out = act(a) · b, or out = a + b with the finite test.
  const float* a;
  const float* b;
  float* out;
  uint32_t columns;
  uint32_t* failed;
  uint32_t layer;
  bool gelu;
};

// Grid: rows × parts of 256 columns.
ZG_KERNEL void gate(const PairArgs p) {
  wait_before();
  let_next_start();
  const uint32_t c = block_y() * threads() + thread();
  if (c >= p.columns) return;
  const uint64_t i = uint64_t{block_x()} * p.columns + c;
  p.out[i] = det::mul1(p.gelu ? det::gelu(p.a[i]) : det::silu(p.a[i]), p.b[i]);
}

ZG_KERNEL void add_rows(const PairArgs p) {
  wait_before();
  let_next_start();
  const uint32_t c = block_y() * threads() + thread();
  if (c >= p.columns) return;
  const uint64_t i = uint64_t{block_x()} * p.columns + c;
  const float v = det::add1(p.a[i], p.b[i]);
  p.out[i] = v;
  if (p.layer != 0 && !det::is_finite(v)) atomic_min(p.failed + block_x(), p.layer);
}

struct RouteArgs {
  const float* r;
  uint32_t experts, used;
  // used entries a row, ascending by expert.
  uint32_t* chosen;
  float* weights;
};

// One warp a row, of which one lane works: Z is a sequential sum by its rule. Shared memory: experts floats.
ZG_KERNEL void route(const RouteArgs a) {
  wait_before();
  let_next_start();
  if (thread() != 0) return;
  const float* r = a.r + uint64_t{block_x()} * a.experts;
  auto* p = reinterpret_cast<float*>(shared());
  float largest = det::float_of(0xff800000u);
  for (uint32_t e = 0; e < a.experts; e++) largest = det::larger(largest, r[e]);
  float total = 0;
  for (uint32_t e = 0; e < a.experts; e++) total = det::add1(total, p[e] = det::zexp(r[e] - largest));
  uint32_t* chosen = a.chosen + uint64_t{block_x()} * a.used;
  float* weights = a.weights + uint64_t{block_x()} * a.used;
  const auto taken = [&](uint32_t e, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
      if (chosen[i] == e) return true;
    }
    return false;
  };
  for (uint32_t n = 0; n < a.used; n++) {
    uint32_t best = a.experts;
    for (uint32_t e = 0; e < a.experts; e++) {
      if ((best == a.experts || r[e] > r[best]) && !taken(e, n)) best = e;
    }
    chosen[n] = best;
  }
  // Ascending: few, so by insertion.
  for (uint32_t i = 1; i < a.used; i++) {
    const uint32_t e = chosen[i];
    uint32_t j = i;
    for (; j > 0 && chosen[j - 1] > e; j--) chosen[j] = chosen[j - 1];
    chosen[j] = e;
  }
  float part = 0;
  for (uint32_t i = 0; i < a.used; i++) part = det::add1(part, weights[i] = det::div1(p[chosen[i]], total));
  for (uint32_t i = 0; i < a.used; i++) weights[i] = det::div1(weights[i], part);
}

struct CombineArgs {
  const float* outputs;
  const float* weights;
  float* y;
  uint32_t used, columns;
};

// Grid: rows × parts of 256 columns: experts' outputs by ascending index.
ZG_KERNEL void combine(const CombineArgs a) {
  wait_before();
  let_next_start();
  const uint32_t c = block_y() * threads() + thread();
  if (c >= a.columns) return;
  float y = 0;
  for (uint32_t i = 0; i < a.used; i++) {
    const uint64_t pair = uint64_t{block_x()} * a.used + i;
    y = det::fma1(a.weights[pair], a.outputs[pair * a.columns + c], y);
  }
  a.y[uint64_t{block_x()} * a.columns + c] = y;
}

struct LogitArgs {
  float* logits;
  uint32_t vocabulary;
  float cap;
  uint32_t* failed;
  // Row of the step that a row of logits belongs to.
  const uint32_t* row_of;
  uint32_t layer;
  uint32_t* best;
};

// One block of 1 024 threads a row of logits: cap, finite test, arg-max (ties: the lowest id). 8 192 bytes of shared memory.
ZG_KERNEL void finish_logits(const LogitArgs a) {
  wait_before();
  let_next_start();
  float* l = a.logits + uint64_t{block_x()} * a.vocabulary;
  auto* value = reinterpret_cast<float*>(shared());
  auto* index = reinterpret_cast<uint32_t*>(value + threads());
  float best = det::float_of(0xff800000u);
  uint32_t at = a.vocabulary;
  // Several loads at once: they are far away.
  constexpr uint32_t kAtOnce = 8;
  for (uint32_t base = thread(); base < a.vocabulary; base += kAtOnce * threads()) {
    float part[kAtOnce];
    ZG_UNROLL
    for (uint32_t j = 0; j < kAtOnce; j++) part[j] = base + j * threads() < a.vocabulary ? l[base + j * threads()] : 0.0f;
    ZG_UNROLL
    for (uint32_t j = 0; j < kAtOnce; j++) {
      const uint32_t i = base + j * threads();
      if (i >= a.vocabulary) continue;
      float v = part[j];
      if (a.cap != 0) l[i] = v = det::mul1(a.cap, det::ztanh(det::div1(v, a.cap)));
      if (!det::is_finite(v)) atomic_min(a.failed + a.row_of[block_x()], a.layer);
      if (at == a.vocabulary || v > best) {
        best = v;
        at = i;
      }
    }
  }
  value[thread()] = best;
  index[thread()] = at;
  sync();
  for (uint32_t half = threads() / 2; half >= 1; half /= 2) {
    if (thread() < half) {
      const float other = value[thread() + half];
      const uint32_t where = index[thread() + half];
      const bool better = where < a.vocabulary && (index[thread()] == a.vocabulary || other > value[thread()] ||
                                                   (other == value[thread()] && where < index[thread()]));
      if (better) {
        value[thread()] = other;
        index[thread()] = where;
      }
    }
    sync();
  }
  if (thread() == 0) a.best[block_x()] = index[0];
}

}  // namespace zg::simt
