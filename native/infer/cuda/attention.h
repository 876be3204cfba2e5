// Attention over the paged cache by the rules of inference.md 12.3, for single positions: blocks of 64 keys, each by itself, joined in
// ascending order by whichever thread block comes last. Prompts: attention_tile.h.
#pragma once

#include "small.h"

namespace zg::simt {

constexpr uint32_t kKeys = 64;
constexpr uint32_t kBlockPages = kKeys / kPageTokens;
// Query heads of a key-value head that are computed side by side.
constexpr uint32_t kHeadsAtOnce = 4;

struct AttentionArgs {
  const float* q;
  float* out;
  const StepRow* rows;
  const uint32_t* page_table;
  const uint16_t* cache;
  uint64_t page_stride;
  uint64_t layer_offset;
  uint32_t heads, kv_heads, head_size;
  // 0: none.
  uint32_t window;
  float scale, cap;
  // Blocks of one (row, head): maximum, sum, head_size outputs.
  float* scratch;
  uint32_t max_blocks;
  // Of blocks done, one for each (row, key-value head); 0 before and after.
  uint32_t* done;
  // Rows of the step that this launch is for; nullptr: all. scratch and done go by their order.
  const uint32_t* list;
  // q and k come as products left them, and are normed and turned here; the row's own key and value go into the cache from here. Only
  // where no sequence has two rows in the step.
  bool fused;
  RopeArgs rope;
};

ZG_DEVICE uint32_t first_visible(const AttentionArgs& a, uint32_t position) {
  return a.window != 0 && position + 1 > a.window ? position + 1 - a.window : 0;
}

inline uint32_t attention_threads(uint32_t heads, uint32_t kv_heads) {
  const uint32_t group = heads / kv_heads;
  return kKeys * (group < kHeadsAtOnce ? group : kHeadsAtOnce);
}
inline size_t attention_shared(uint32_t heads, uint32_t kv_heads, uint32_t head_size, uint32_t max_blocks) {
  const uint32_t threads = attention_threads(heads, kv_heads);
  const size_t pages = size_t{2} * kKeys * head_size * sizeof(uint16_t);
  const size_t joins = size_t{threads} / kKeys * max_blocks * 4 * sizeof(float);
  return (pages > joins ? pages : joins) + ((heads / kv_heads + 1) * head_size + 2 * threads + 16) * sizeof(float);
}

// The blocks of a (row, head), by the 64 threads of a head: key is the thread among them; order: of the row in the launch. All threads of
// the block call it.
ZG_DEVICE void join_blocks(const AttentionArgs& a, uint32_t order, uint32_t row, uint32_t head, bool active, uint32_t count, uint32_t key,
                           float* table, float* chunk_maximum) {
  const uint32_t hs = a.head_size;
  const float* blocks = a.scratch + (uint64_t{order} * a.heads + head) * a.max_blocks * (hs + 2);
  float* alpha = table;
  float* beta = table + a.max_blocks;
  float* sums = table + 2 * a.max_blocks;
  float* maxima = table + 3 * a.max_blocks;
  if (active) {
    for (uint32_t i = key; i < count; i += kKeys) {
      maxima[i] = blocks[uint64_t{i} * (hs + 2)];
      sums[i] = blocks[uint64_t{i} * (hs + 2) + 1];
    }
  }
  sync();
  // Running maxima: each thread its stretch of blocks, after the maxima of the stretches before.
  const uint32_t stretch = (count + kKeys - 1) / kKeys;
  const uint32_t begin = key * stretch < count ? key * stretch : count;
  const uint32_t end = begin + stretch < count ? begin + stretch : count;
  float m = det::float_of(0xff800000u);
  if (active) {
    for (uint32_t i = begin; i < end; i++) m = det::larger(m, maxima[i]);
    chunk_maximum[key] = m;
  }
  sync();
  if (active) {
    m = det::float_of(0xff800000u);
    for (uint32_t i = 0; i < key && i * stretch < count; i++) m = det::larger(m, chunk_maximum[i]);
    for (uint32_t i = begin; i < end; i++) {
      const float joined = i == 0 ? maxima[0] : det::larger(m, maxima[i]);
      alpha[i] = det::zexp(m - joined);
      beta[i] = det::zexp(maxima[i] - joined);
      m = joined;
    }
  }
  sync();
  if (active) {
    for (uint32_t d = key; d < hs; d += kKeys) {
      float o = blocks[2 + d];
      float l = sums[0];
      for (uint32_t b = 1; b < count; b += 8) {
        float part[8];
        ZG_UNROLL
        for (uint32_t j = 0; j < 8; j++) part[j] = b + j < count ? blocks[uint64_t{b + j} * (hs + 2) + 2 + d] : 0.0f;
        ZG_UNROLL
        for (uint32_t j = 0; j < 8; j++) {
          if (b + j >= count) continue;
          o = det::fma1(part[j], beta[b + j], det::mul1(o, alpha[b + j]));
          l = det::fma1(sums[b + j], beta[b + j], det::mul1(l, alpha[b + j]));
        }
      }
      a.out[(uint64_t{row} * a.heads + head) * hs + d] = det::div1(o, l);
    }
  }
  sync();
}

// Norms (where there is one) and turns a head in shared memory by 64 threads, key among them. All threads of the block call it.
ZG_DEVICE void turn_head(const RopeArgs& a, float* values, bool active, const float* norm, const float* table, uint32_t key, float* lanes) {
  const uint32_t hs = a.head_size;
  if (norm != nullptr) {
    if (active) lanes[key] = fold_squares(values, key, hs);
    sync();
    if (key < 32) {
      const float sum = join_lanes(lanes);
      if (key == 0) lanes[0] = det::rms_factor(sum, static_cast<float>(hs), a.epsilon);
    }
    sync();
    if (active) {
      const float factor = lanes[0];
      for (uint32_t i = key; i < hs; i += kKeys) values[i] = det::mul1(det::mul1(values[i], factor), norm[i]);
    }
    sync();
  }
  const uint32_t pairs = a.rope_dims / 2;
  if (active) {
    for (uint32_t i = key; i < pairs; i += kKeys) turn_pair(a, values, table, i);
  }
  sync();
}

// Grid: (rows · kv_heads) × max_blocks. The block's keys and values come to shared memory once for all heads that read them.
ZG_KERNEL void attend(const AttentionArgs a) {
  // Fused: what lies in the cache was written by steps before, and is fetched while the launch in front still runs.
  if (!a.fused) wait_before();
  const uint32_t order = block_x() / a.kv_heads;
  const uint32_t row_index = a.list != nullptr ? a.list[order] : order;
  const uint32_t kv = block_x() % a.kv_heads;
  const StepRow row = a.rows[row_index];
  const uint32_t first = first_visible(a, row.position);
  const uint32_t block = first / kKeys + block_y();
  const uint32_t count = row.position / kKeys - first / kKeys + 1;
  if (block_y() >= count) {
    if (a.fused) wait_before();
    let_next_start();
    return;
  }
  const uint32_t hs = a.head_size;
  const uint32_t group = a.heads / a.kv_heads;
  const uint32_t at_once = threads() / kKeys;
  const uint32_t page_halves = kPageTokens * hs;
  auto* keys = reinterpret_cast<uint16_t*>(shared());
  uint16_t* values = keys + kKeys * hs;
  const uint32_t pages_bytes = 2 * kKeys * hs * 2;
  const uint32_t joins_bytes = at_once * a.max_blocks * 16;
  auto* q = reinterpret_cast<float*>(shared() + (pages_bytes > joins_bytes ? pages_bytes : joins_bytes));
  float* own = q + group * hs;
  float* p = own + hs;
  float* lanes = p + threads();
  auto* flag = reinterpret_cast<uint32_t*>(lanes + threads());

  // Slots that the sequence has, of this block; pages hold whole multiples of 16 bytes.
  const uint32_t begin = first > block * kKeys ? first - block * kKeys : 0;
  const uint32_t end = row.position < block * kKeys + kKeys ? row.position - block * kKeys + 1 : kKeys;
  const uint32_t vectors = page_halves / 8;
  for (uint32_t kind = 0; kind < 2; kind++) {
    for (uint32_t i = thread(); i < kBlockPages * vectors; i += threads()) {
      const uint32_t page_at = i / vectors;
      if (page_at * kPageTokens >= end || (page_at + 1) * kPageTokens <= begin) continue;
      const uint32_t page = a.page_table[row.pages + block * kBlockPages + page_at];
      const uint16_t* from = a.cache + page * a.page_stride + a.layer_offset + (uint64_t{kind} * a.kv_heads + kv) * page_halves;
      copy_async((kind == 0 ? keys : values) + page_at * page_halves + i % vectors * 8, from + i % vectors * 8);
    }
    copy_commit();
  }
  if (a.fused) wait_before();
  let_next_start();
  for (uint32_t i = thread(); i < group * hs; i += threads()) q[i] = a.q[(uint64_t{row_index} * a.heads + kv * group) * hs + i];
  const uint32_t key = thread() % kKeys;
  const uint32_t team = thread() / kKeys;
  if (a.fused) {
    const bool mine = row.position / kKeys == block;
    const uint64_t kv_at = (uint64_t{row_index} * a.kv_heads + kv) * hs;
    if (mine) {
      for (uint32_t i = thread(); i < hs; i += threads()) own[i] = a.rope.k[kv_at + i];
    }
    sync();
    const float* table = a.rope.table + uint64_t{row.position} * a.rope.rope_dims;
    // The own key comes behind the heads.
    const uint32_t all = group + (mine ? 1 : 0);
    for (uint32_t base = 0; base < all; base += at_once) {
      const uint32_t head = base + team;
      turn_head(a.rope, q + head * hs, head < all, head < group ? a.rope.q_norm : a.rope.k_norm, table, key, lanes + team * kKeys);
    }
    if (mine) {
      copy_wait<0>();
      sync();
      const uint32_t page_at = row.position % kKeys / kPageTokens;
      const uint32_t slot = row.position % kPageTokens;
      const uint32_t page = a.page_table[row.pages + row.position / kPageTokens];
      uint16_t* stored = a.rope.cache + page * a.page_stride + a.layer_offset + uint64_t{kv} * page_halves;
      uint16_t* stored_values = stored + uint64_t{a.kv_heads} * page_halves;
      for (uint32_t i = thread(); i < hs; i += threads()) {
        const uint16_t k = det::float_half(own[i]);
        const uint16_t v = det::float_half(a.rope.v[kv_at + i]);
        keys[page_at * page_halves + i * kPageTokens + slot] = k;
        values[(page_at * kPageTokens + slot) * hs + i] = v;
        stored[i * kPageTokens + slot] = k;
        stored_values[slot * hs + i] = v;
      }
    }
  }
  copy_wait<1>();
  sync();
  const uint32_t t = block * kKeys + key;
  const bool visible = t >= first && t <= row.position;
  for (uint32_t base = 0; base < group; base += at_once) {
    const uint32_t head = base + thread() / kKeys;
    const bool active = head < group;
    float s = det::float_of(0xff800000u);
    if (active && visible) {
      const uint16_t* k = keys + key / kPageTokens * page_halves + key % kPageTokens;
      s = 0;
#ifdef __CUDACC__
#pragma unroll 8
#endif
      for (uint32_t d = 0; d < hs; d++) s = det::fma1(q[head * hs + d], det::half_float(k[d * kPageTokens]), s);
      s = det::mul1(s, a.scale);
      if (a.cap != 0) s = det::mul1(a.cap, det::ztanh(det::div1(s, a.cap)));
    }
    float m = det::larger(det::float_of(0xff800000u), s);
    ZG_UNROLL
    for (uint32_t x = 1; x < 32; x *= 2) m = det::larger(m, shuffle_xor(m, x));
    if (lane() == 0) lanes[thread() / 32] = m;
    sync();
    m = det::larger(lanes[thread() / kKeys * 2], lanes[thread() / kKeys * 2 + 1]);
    sync();
    const float e = active && visible ? det::zexp(s - m) : 0.0f;
    p[thread()] = e;
    lanes[thread()] = e;
    if (base == 0) copy_wait<0>();
    sync();
    float* out = a.scratch + ((uint64_t{order} * a.heads + kv * group + head) * a.max_blocks + block_y()) * (hs + 2);
    if (key < 32) {
      const float l = join_lanes(lanes + thread() / kKeys * kKeys);
      if (active && key == 0) {
        out[0] = m;
        out[1] = l;
      }
    }
    if (active) {
      const float* weight = p + thread() / kKeys * kKeys;
      // Two dimensions a thread: a word of two halves at a time.
      for (uint32_t d = 2 * key; d < hs; d += 2 * kKeys) {
        float o0 = 0;
        float o1 = 0;
#ifdef __CUDACC__
#pragma unroll 8
#endif
        for (uint32_t slot = begin; slot < end; slot++) {
          const uint32_t two = *reinterpret_cast<const uint32_t*>(values + slot * hs + d);
          o0 = det::fma1(weight[slot], det::half_float(static_cast<uint16_t>(two)), o0);
          o1 = det::fma1(weight[slot], det::half_float(static_cast<uint16_t>(two >> 16)), o1);
        }
        out[2 + d] = o0;
        out[3 + d] = o1;
      }
    }
    sync();
  }
  // The last block of the row joins them all.
  fence();
  sync();
  if (thread() == 0) *flag = atomic_add(a.done + block_x(), 1);
  sync();
  if (*flag + 1 != count) return;
  fence();
  for (uint32_t base = 0; base < group; base += at_once) {
    const uint32_t local = thread() / kKeys;
    const bool active = base + local < group;
    join_blocks(a, order, row_index, kv * group + base + local, active, count, key, reinterpret_cast<float*>(shared()) + local * a.max_blocks * 4,
                lanes + local * kKeys);
  }
  if (thread() == 0) a.done[block_x()] = 0;
}

}  // namespace zg::simt
