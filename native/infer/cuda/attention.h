// Attention over the paged cache by the rules of inference.md 12.3: blocks of 64 positions, each by itself, joined in ascending order.
#pragma once

#include "small.h"

namespace zg::simt {

constexpr uint32_t kKeys = 64;

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
  // Blocks of one (row, head) in scratch: maximum, sum, head_size outputs.
  float* scratch;
  uint32_t max_blocks;
};

ZG_DEVICE uint32_t first_visible(const AttentionArgs& a, uint32_t position) {
  return a.window != 0 && position + 1 > a.window ? position + 1 - a.window : 0;
}

// Grid: (rows · heads) × max_blocks, 64 threads, one a key; then one or more dimensions each. Shared: (head_size + 64 + 64) floats.
inline ZG_GLOBAL void attend_block(const AttentionArgs a) {
  wait_before();
  let_next_start();
  const uint32_t row_index = block_x() / a.heads;
  const uint32_t head = block_x() % a.heads;
  const StepRow row = a.rows[row_index];
  const uint32_t first = first_visible(a, row.position);
  const uint32_t block = first / kKeys + block_y();
  if (block > row.position / kKeys) return;
  const uint32_t hs = a.head_size;
  const uint32_t kv = head / (a.heads / a.kv_heads);
  auto* q = reinterpret_cast<float*>(shared());
  float* p = q + hs;
  float* lanes = p + kKeys;
  for (uint32_t i = thread(); i < hs; i += threads()) q[i] = a.q[uint64_t{block_x()} * hs + i];
  sync();
  const uint32_t t = block * kKeys + thread();
  const bool visible = t >= first && t <= row.position;
  float s = det::float_of(0xff800000u);
  if (visible) {
    const uint32_t page = a.page_table[row.pages + t / kPageTokens];
    const uint16_t* keys = a.cache + page * a.page_stride + a.layer_offset + uint64_t{kv} * hs * kPageTokens + t % kPageTokens;
    s = 0;
    ZG_UNROLL
    for (uint32_t d = 0; d < hs; d++) s = det::fma1(q[d], det::half_float(keys[d * kPageTokens]), s);
    s = det::mul1(s, a.scale);
    if (a.cap != 0) s = det::mul1(a.cap, det::ztanh(det::div1(s, a.cap)));
  }
  float m = det::larger(det::float_of(0xff800000u), s);
  ZG_UNROLL
  for (uint32_t x = 1; x < 32; x *= 2) m = det::larger(m, shuffle_xor(m, x));
  if (lane() == 0) lanes[thread() / 32] = m;
  sync();
  m = det::larger(lanes[0], lanes[1]);
  sync();
  const float e = visible ? det::zexp(s - m) : 0.0f;
  p[thread()] = e;
  lanes[thread()] = e;
  sync();
  float* out = a.scratch + (uint64_t{block_x()} * a.max_blocks + block_y()) * (hs + 2);
  if (thread() < 32) {
    const float l = join_lanes(lanes);
    if (thread() == 0) {
      out[0] = m;
      out[1] = l;
    }
  }
  const uint32_t begin = first > block * kKeys ? first - block * kKeys : 0;
  const uint32_t end = row.position < block * kKeys + kKeys ? row.position - block * kKeys + 1 : kKeys;
  for (uint32_t d = thread(); d < hs; d += threads()) {
    float o = 0;
    for (uint32_t page_at = begin / kPageTokens; page_at * kPageTokens < end; page_at++) {
      const uint32_t page = a.page_table[row.pages + block * (kKeys / kPageTokens) + page_at];
      const uint16_t* values = a.cache + page * a.page_stride + a.layer_offset + uint64_t{a.kv_heads} * hs * kPageTokens +
                               uint64_t{kv} * kPageTokens * hs + d;
      for (uint32_t i = 0; i < kPageTokens; i++) {
        const uint32_t slot = page_at * kPageTokens + i;
        if (slot >= begin && slot < end) o = det::fma1(p[slot], det::half_float(values[i * hs]), o);
      }
    }
    out[2 + d] = o;
  }
}

// Grid: rows · heads; a thread takes dimensions.
inline ZG_GLOBAL void attend_join(const AttentionArgs a) {
  wait_before();
  let_next_start();
  const StepRow row = a.rows[block_x() / a.heads];
  const uint32_t count = row.position / kKeys - first_visible(a, row.position) / kKeys + 1;
  const uint32_t hs = a.head_size;
  const float* blocks = a.scratch + uint64_t{block_x()} * a.max_blocks * (hs + 2);
  for (uint32_t d = thread(); d < hs; d += threads()) {
    float m = blocks[0];
    float l = blocks[1];
    float o = blocks[2 + d];
    for (uint32_t b = 1; b < count; b++) {
      const float* at = blocks + uint64_t{b} * (hs + 2);
      const float joined = det::larger(m, at[0]);
      const float alpha = det::zexp(m - joined);
      const float beta = det::zexp(at[0] - joined);
      o = det::fma1(at[2 + d], beta, det::mul1(o, alpha));
      l = det::fma1(at[1], beta, det::mul1(l, alpha));
      m = joined;
    }
    a.out[uint64_t{block_x()} * hs + d] = det::div1(o, l);
  }
}

}  // namespace zg::simt
