// Attention of prompts: rows of one sequence that follow one another, with all query heads of a key-value head, are a tile of up to 64
// queries. A thread block goes through the tile's key blocks in ascending order and joins each to what it has: the rules of inference.md
// 12.3 step by step, with keys and values read once for all queries and nothing written between.
#pragma once

#include "attention.h"

namespace zg::simt {

constexpr uint32_t kTileQueries = 64;
constexpr uint32_t kTileThreads = 256;
// A row of 64 queries' numbers, padded against bank conflicts; still whole vectors.
constexpr uint32_t kQueryStride = kTileQueries + 4;

struct alignas(8) Words {
  uint32_t x, y;
};

// Rows of a step, from `first` on.
struct AttentionTile {
  uint32_t first, count;
};

struct TileArgs {
  AttentionArgs a;
  const AttentionTile* tiles;
  uint32_t count;
};

struct TileShared {
  uint32_t q, k, v, p, numbers, total;
};
inline __attribute__((always_inline))
#ifdef __CUDACC__
__host__ __device__
#endif
TileShared tile_shared(uint32_t head_size) {
  TileShared s;
  s.q = 0;
  s.k = s.q + head_size * kQueryStride * 4;
  // Pages of keys are shifted against one another, so that four of them fall into different banks.
  s.v = s.k + kBlockPages * (head_size * kPageTokens + 16) * 4;
  s.p = s.v + kKeys * head_size * 2;
  s.numbers = s.p + kKeys * kQueryStride * 4;
  s.total = s.numbers + 8 * kTileQueries * 4;
  return s;
}

// Whether a model's heads fit.
inline bool tile_fits(uint32_t heads, uint32_t kv_heads, uint32_t head_size) {
  return head_size % 8 == 0 && head_size <= 256 && heads / kv_heads <= kTileQueries;
}

// kDimLanes lanes share a query's dimensions, four each, kPasses times; the warp's other lanes have other queries.
template <uint32_t kDimLanes, uint32_t kPasses>
ZG_GLOBAL void ZG_BOUNDS(kTileThreads, kPasses == 1 ? 2 : 1) attend_tile(const TileArgs t) {
  constexpr uint32_t kOwn = kDimLanes == 32 ? 8 : 4;
  const AttentionArgs& a = t.a;
  wait_before();
  let_next_start();
  const uint32_t hs = a.head_size;
  const uint32_t group = a.heads / a.kv_heads;
  // The longest first, then from the shortest on: two that share a multiprocessor have much the same to do together.
  const uint32_t turn = block_x() / a.kv_heads;
  const uint32_t half = (t.count + 1) / 2;
  const AttentionTile tile = t.tiles[turn < half ? t.count - 1 - turn : turn - half];
  const uint32_t kv = block_x() % a.kv_heads;
  const StepRow start = a.rows[tile.first];
  const uint32_t queries = tile.count * group;
  const TileShared s = tile_shared(hs);
  uint8_t* memory = shared();
  auto* q = reinterpret_cast<float*>(memory + s.q);
  auto* k = reinterpret_cast<float*>(memory + s.k);
  auto* v = reinterpret_cast<uint16_t*>(memory + s.v);
  auto* p = reinterpret_cast<float*>(memory + s.p);
  auto* block_maximum = reinterpret_cast<float*>(memory + s.numbers);
  float* block_sum = block_maximum + kTileQueries;
  float* maximum = block_sum + kTileQueries;
  float* sum = maximum + kTileQueries;
  float* alpha = sum + kTileQueries;
  float* beta = alpha + kTileQueries;
  auto* state = reinterpret_cast<uint32_t*>(beta + kTileQueries);
  const uint32_t k_page = hs * kPageTokens + 16;
  const uint32_t page_halves = hs * kPageTokens;

  for (uint32_t i = thread(); i < kTileQueries * hs; i += kTileThreads) {
    const uint32_t query = i / hs;
    const uint32_t d = i % hs;
    const uint32_t r = query / group;
    q[d * kQueryStride + query] =
        query < queries ? a.q[((uint64_t{tile.first} + r) * a.heads + kv * group + query % group) * hs + d] : 0.0f;
  }
  // Where a thread stands in scores: four keys, four queries; in outputs: kOwn queries, four dimensions.
  const uint32_t key0 = thread() % 16 * 4;
  const uint32_t query0 = thread() / 16 * 4;
  const uint32_t own0 = kDimLanes == 32 ? thread() / 32 * 8 : thread() / 16 * 4;
  const uint32_t dim0 = thread() % kDimLanes * 4;
  float total[kPasses][kOwn][4];
  ZG_UNROLL
  for (uint32_t x = 0; x < kPasses; x++) {
    ZG_UNROLL
    for (uint32_t i = 0; i < kOwn; i++) {
      ZG_UNROLL
      for (uint32_t j = 0; j < 4; j++) total[x][i][j] = 0;
    }
  }
  bool started = false;
  const uint32_t last = start.position + tile.count - 1;
  // Positions that a query sees, of the block at base: [low, high).
  const auto low_of = [&](uint32_t query, uint32_t base) {
    const uint32_t from = first_visible(a, start.position + query / group);
    return from > base ? (from - base < kKeys ? from - base : kKeys) : 0u;
  };
  const auto high_of = [&](uint32_t query, uint32_t base) {
    const uint32_t to = start.position + query / group + 1;
    return query >= queries || to <= base ? 0u : to - base < kKeys ? to - base : kKeys;
  };
  for (uint32_t block = first_visible(a, start.position) / kKeys; block <= last / kKeys; block++) {
    const uint32_t base = block * kKeys;
    const uint32_t slots = last + 1 - base < kKeys ? last + 1 - base : kKeys;
    // Every query sees all of it.
    const bool whole = start.position + 1 >= base + kKeys && first_visible(a, last) <= base;
    sync();
    for (uint32_t i = thread(); i < kBlockPages * page_halves / 8; i += kTileThreads) {
      const uint32_t page_at = i / (page_halves / 8);
      if (page_at * kPageTokens >= slots) continue;
      const uint32_t page = a.page_table[start.pages + block * kBlockPages + page_at];
      const uint32_t in = i % (page_halves / 8) * 8;
      const uint16_t* from = a.cache + page * a.page_stride + a.layer_offset + uint64_t{kv} * page_halves + in;
      copy_async(v + page_at * page_halves + in, from + uint64_t{a.kv_heads} * page_halves);
      const Vec4 eight = load16(from);
      float* to = k + page_at * k_page + in;
      ZG_UNROLL
      for (int h = 0; h < 2; h++) {
        Vec4 four;
        four.x = det::bits_of(half_of(eight, 4 * h));
        four.y = det::bits_of(half_of(eight, 4 * h + 1));
        four.z = det::bits_of(half_of(eight, 4 * h + 2));
        four.w = det::bits_of(half_of(eight, 4 * h + 3));
        *reinterpret_cast<Vec4*>(to + 4 * h) = four;
      }
    }
    copy_commit();
    copy_wait<0>();
    sync();
    // Scores, a query's dimensions ascending.
    {
      float score[4][4];
      ZG_UNROLL
      for (int i = 0; i < 4; i++) {
        ZG_UNROLL
        for (int j = 0; j < 4; j++) score[i][j] = 0;
      }
      const float* own_k = k + key0 / kPageTokens * k_page + key0 % kPageTokens;
#ifdef __CUDACC__
#pragma unroll 4
#endif
      for (uint32_t d = 0; d < hs; d++) {
        const Vec4 x = load16(q + d * kQueryStride + query0);
        const Vec4 y = load16(own_k + d * kPageTokens);
        ZG_UNROLL
        for (int i = 0; i < 4; i++) {
          ZG_UNROLL
          for (int j = 0; j < 4; j++) score[i][j] = det::fma1(det::float_of(word_of(x, i)), det::float_of(word_of(y, j)), score[i][j]);
        }
      }
      float weight[4][4];
      ZG_UNROLL
      for (uint32_t i = 0; i < 4; i++) {
        const uint32_t low = whole ? 0 : low_of(query0 + i, base);
        const uint32_t high = whole ? kKeys : high_of(query0 + i, base);
        float m = det::float_of(0xff800000u);
        bool visible[4];
        ZG_UNROLL
        for (uint32_t j = 0; j < 4; j++) {
          visible[j] = key0 + j >= low && key0 + j < high;
          float x = det::mul1(score[i][j], a.scale);
          if (a.cap != 0) x = det::mul1(a.cap, det::ztanh(det::div1(x, a.cap)));
          score[i][j] = visible[j] ? x : det::float_of(0xff800000u);
          m = det::larger(m, score[i][j]);
        }
        ZG_UNROLL
        for (uint32_t x = 1; x < 16; x *= 2) m = det::larger(m, shuffle_xor(m, x));
        float part[4];
        ZG_UNROLL
        for (uint32_t j = 0; j < 4; j++) part[j] = weight[i][j] = visible[j] ? det::zexp(score[i][j] - m) : 0.0f;
        // R64: 32, 16, 8 and 4 keys away lie in other threads, 2 and 1 in this one.
        ZG_UNROLL
        for (uint32_t x = 8; x >= 1; x /= 2) {
          ZG_UNROLL
          for (uint32_t j = 0; j < 4; j++) part[j] = det::add1(part[j], shuffle_xor(part[j], x));
        }
        const float l = det::add1(det::add1(part[0], part[2]), det::add1(part[1], part[3]));
        if (key0 == 0) {
          block_maximum[query0 + i] = m;
          block_sum[query0 + i] = l;
        }
      }
      ZG_UNROLL
      for (int j = 0; j < 4; j++) {
        Vec4 four;
        four.x = det::bits_of(weight[0][j]);
        four.y = det::bits_of(weight[1][j]);
        four.z = det::bits_of(weight[2][j]);
        four.w = det::bits_of(weight[3][j]);
        *reinterpret_cast<Vec4*>(p + (key0 + static_cast<uint32_t>(j)) * kQueryStride + query0) = four;
      }
    }
    sync();
    // How the block is joined, a thread a query; the sums of values meanwhile.
    if (thread() < kTileQueries) {
      const uint32_t query = thread();
      if (low_of(query, base) >= high_of(query, base)) {
        state[query] = 0;
      } else if (!started) {
        maximum[query] = block_maximum[query];
        sum[query] = block_sum[query];
        state[query] = 1;
        started = true;
      } else {
        const float joined = det::larger(maximum[query], block_maximum[query]);
        alpha[query] = det::zexp(maximum[query] - joined);
        beta[query] = det::zexp(block_maximum[query] - joined);
        maximum[query] = joined;
        sum[query] = det::fma1(block_sum[query], beta[query], det::mul1(sum[query], alpha[query]));
        state[query] = 2;
      }
    }
    float part[kPasses][kOwn][4];
    ZG_UNROLL
    for (uint32_t x = 0; x < kPasses; x++) {
      ZG_UNROLL
      for (uint32_t i = 0; i < kOwn; i++) {
        ZG_UNROLL
        for (uint32_t j = 0; j < 4; j++) part[x][i][j] = 0;
      }
    }
    uint32_t low[kOwn];
    uint32_t high[kOwn];
    ZG_UNROLL
    for (uint32_t i = 0; i < kOwn; i++) {
      low[i] = low_of(own0 + i, base);
      high[i] = high_of(own0 + i, base);
    }
    const auto sums = [&](auto masked) {
#ifdef __CUDACC__
#pragma unroll 2
#endif
      for (uint32_t slot = 0; slot < slots; slot++) {
        float weight[kOwn];
        ZG_UNROLL
        for (uint32_t i = 0; i < kOwn; i += 4) {
          const Vec4 four = load16(p + slot * kQueryStride + own0 + i);
          ZG_UNROLL
          for (uint32_t j = 0; j < 4; j++) weight[i + j] = det::float_of(word_of(four, static_cast<int>(j)));
        }
        ZG_UNROLL
        for (uint32_t x = 0; x < kPasses; x++) {
          const uint32_t d = x * kDimLanes * 4 + dim0;
          if (d >= hs) continue;
          const Words two = *reinterpret_cast<const Words*>(v + slot * hs + d);
          float value[4];
          value[0] = det::half_float(static_cast<uint16_t>(two.x));
          value[1] = det::half_float(static_cast<uint16_t>(two.x >> 16));
          value[2] = det::half_float(static_cast<uint16_t>(two.y));
          value[3] = det::half_float(static_cast<uint16_t>(two.y >> 16));
          ZG_UNROLL
          for (uint32_t i = 0; i < kOwn; i++) {
            if constexpr (decltype(masked)::value) {
              if (slot < low[i] || slot >= high[i]) continue;
            }
            ZG_UNROLL
            for (uint32_t j = 0; j < 4; j++) part[x][i][j] = det::fma1(weight[i], value[j], part[x][i][j]);
          }
        }
      }
    };
    if (whole && queries == kTileQueries) {
      sums(Constant<false>{});
    } else {
      sums(Constant<true>{});
    }
    sync();
    ZG_UNROLL
    for (uint32_t i = 0; i < kOwn; i++) {
      const uint32_t how = state[own0 + i];
      const float x_alpha = alpha[own0 + i];
      const float x_beta = beta[own0 + i];
      ZG_UNROLL
      for (uint32_t x = 0; x < kPasses; x++) {
        ZG_UNROLL
        for (uint32_t j = 0; j < 4; j++) {
          if (how == 1) total[x][i][j] = part[x][i][j];
          if (how == 2) total[x][i][j] = det::fma1(part[x][i][j], x_beta, det::mul1(total[x][i][j], x_alpha));
        }
      }
    }
  }
  ZG_UNROLL
  for (uint32_t i = 0; i < kOwn; i++) {
    const uint32_t query = own0 + i;
    if (query >= queries) continue;
    float* out = a.out + ((uint64_t{tile.first} + query / group) * a.heads + kv * group + query % group) * hs;
    ZG_UNROLL
    for (uint32_t x = 0; x < kPasses; x++) {
      const uint32_t d = x * kDimLanes * 4 + dim0;
      if (d >= hs) continue;
      ZG_UNROLL
      for (uint32_t j = 0; j < 4; j++) out[d + j] = det::div1(total[x][i][j], sum[query]);
    }
  }
}

}  // namespace zg::simt
