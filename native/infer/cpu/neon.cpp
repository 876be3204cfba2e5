// The level for 64-bit ARM with dot products (asimddp): sixteen rows are four registers. Compiled with its own flags, see avx512.cpp.
#include "types.h"

#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>
#include <string.h>

namespace {

// ---- vectors ----

constexpr int W = 4;
using vf = float32x4_t;
using vm = uint32x4_t;
#define ZG_INLINE static inline __attribute__((always_inline))
ZG_INLINE vf vset(float a) { return vdupq_n_f32(a); }
ZG_INLINE vf vload(const float* p) { return vld1q_f32(p); }
ZG_INLINE void vstore(float* p, vf a) { vst1q_f32(p, a); }
ZG_INLINE vf vadd(vf a, vf b) { return vaddq_f32(a, b); }
ZG_INLINE vf vsub(vf a, vf b) { return vsubq_f32(a, b); }
ZG_INLINE vf vmul(vf a, vf b) { return vmulq_f32(a, b); }
ZG_INLINE vf vfma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
ZG_INLINE vf vdiv(vf a, vf b) { return vdivq_f32(a, b); }
ZG_INLINE vf vrint(vf a) { return vrndnq_f32(a); }
ZG_INLINE float32x4_t halves(const uint8_t* p) { return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p))); }
ZG_INLINE vf vloadh(const uint16_t* p) { return halves((const uint8_t*)p); }
ZG_INLINE vm vlt(vf a, vf b) { return vcltq_f32(a, b); }
ZG_INLINE vm vgt(vf a, vf b) { return vcgtq_f32(a, b); }
ZG_INLINE vm vunord(vf a) { return vmvnq_u32(vceqq_f32(a, a)); }
ZG_INLINE vm vor(vm a, vm b) { return vorrq_u32(a, b); }
ZG_INLINE bool vany(vm a) { return vmaxvq_u32(a) != 0; }
ZG_INLINE vf vsel(vm m, vf a, vf b) { return vbslq_f32(m, a, b); }
// As on the other processors: b where one is no number.
ZG_INLINE vf vmax(vf a, vf b) { return vsel(vgt(a, b), a, b); }
ZG_INLINE vf vneg(vf a) { return vnegq_f32(a); }
ZG_INLINE vf vabs(vf a) { return vabsq_f32(a); }
ZG_INLINE vf vsign(vf magnitude, vf of) { return vbslq_f32(vdupq_n_u32(0x80000000u), of, magnitude); }
ZG_INLINE vf vpow2(vf p, vf n) { return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(p), vshlq_n_s32(vcvtnq_s32_f32(n), 23))); }
ZG_INLINE float vtop(vf a) { return vmaxvq_f32(a); }
ZG_INLINE float vjoin(vf a) {
  const float32x2_t two = vadd_f32(vget_low_f32(a), vget_high_f32(a));
  return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}
ZG_INLINE void vstoreh(uint16_t* p, vf a) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(a))); }

#include "vector.inc"

// ---- products ----

constexpr int8_t kIq4[16] = ZG_TABLE_IQ4;
constexpr int8_t kMx[16] = ZG_TABLE_MX;

ZG_INLINE uint8x16_t load(const uint8_t* p) { return vld1q_u8(p); }
ZG_INLINE int8x16_t as_signed(uint8x16_t v) { return vreinterpretq_s8_u8(v); }

// Bits of each byte from one place to another, under a mask of where they go.
template <int kFrom, int kTo, int kMask>
ZG_INLINE uint8x16_t bits(uint8x16_t v) {
  if constexpr (kFrom > kTo) v = vshrq_n_u8(v, kFrom - kTo);
  if constexpr (kFrom < kTo) v = vshlq_n_u8(v, kTo - kFrom);
  return vandq_u8(v, vdupq_n_u8(kMask));
}
ZG_INLINE uint8x16_t both(uint8x16_t a, uint8x16_t b) { return vorrq_u8(a, b); }

// The eight quads of four rows (part 0 to 3 of a tile): codes of at most 6 bits, or signed values of 8-bit and table types.
template <int kType, int kCode>
ZG_INLINE void unpack(const uint8_t* tile, int part, int8x16_t* out) {
  uint8x16_t w[8];
  tile += 16 * part;
  if constexpr (kCode == ZG_CODE_8) {
    for (int k = 0; k < 8; k++) w[k] = load(tile + 64 * k);
  } else if constexpr (kCode == ZG_CODE_2 || kCode == ZG_CODE_3) {
    for (int h = 0; h < 2; h++) {
      const uint8x16_t a = load(tile + 64 * h);
      w[4 * h] = bits<0, 0, 3>(a);
      w[4 * h + 1] = bits<2, 0, 3>(a);
      w[4 * h + 2] = bits<4, 0, 3>(a);
      w[4 * h + 3] = bits<6, 0, 3>(a);
    }
    if constexpr (kCode == ZG_CODE_3) {
      const uint8x16_t h = load(tile + 128);
      w[0] = both(w[0], bits<0, 2, 4>(h));
      w[1] = both(w[1], bits<1, 2, 4>(h));
      w[2] = both(w[2], bits<2, 2, 4>(h));
      w[3] = both(w[3], bits<3, 2, 4>(h));
      w[4] = both(w[4], bits<4, 2, 4>(h));
      w[5] = both(w[5], bits<5, 2, 4>(h));
      w[6] = both(w[6], bits<6, 2, 4>(h));
      w[7] = both(w[7], bits<7, 2, 4>(h));
    }
  } else {
    for (int k = 0; k < 4; k++) {
      const uint8x16_t v = load(tile + 64 * k);
      w[k] = bits<0, 0, 15>(v);
      w[k + 4] = bits<4, 0, 15>(v);
    }
    if constexpr (kCode == ZG_CODE_4_TABLE) {
      const uint8x16_t table = vreinterpretq_u8_s8(vld1q_s8(kType == 39 ? kMx : kIq4));
      for (int k = 0; k < 8; k++) w[k] = vqtbl1q_u8(table, w[k]);
    }
    if constexpr (kCode == ZG_CODE_5) {
      const uint8x16_t h = load(tile + 256);
      w[0] = both(w[0], bits<0, 4, 16>(h));
      w[1] = both(w[1], bits<1, 4, 16>(h));
      w[2] = both(w[2], bits<2, 4, 16>(h));
      w[3] = both(w[3], bits<3, 4, 16>(h));
      w[4] = both(w[4], bits<4, 4, 16>(h));
      w[5] = both(w[5], bits<5, 4, 16>(h));
      w[6] = both(w[6], bits<6, 4, 16>(h));
      w[7] = both(w[7], bits<7, 4, 16>(h));
    }
    if constexpr (kCode == ZG_CODE_6) {
      for (int h = 0; h < 2; h++) {
        const uint8x16_t a = load(tile + 256 + 64 * h);
        w[4 * h] = both(w[4 * h], bits<0, 4, 48>(a));
        w[4 * h + 1] = both(w[4 * h + 1], bits<2, 4, 48>(a));
        w[4 * h + 2] = both(w[4 * h + 2], bits<4, 4, 48>(a));
        w[4 * h + 3] = both(w[4 * h + 3], bits<6, 4, 48>(a));
      }
    }
  }
  for (int k = 0; k < 8; k++) out[k] = as_signed(w[k]);
}

ZG_INLINE uint32_t four(const uint8_t* p) {
  uint32_t v;
  memcpy(&v, p, sizeof v);
  return v;
}
ZG_INLINE float32x4_t bytes_signed(const uint8_t* p) {
  return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u32(vdup_n_u32(four(p)))))));
}
ZG_INLINE float32x4_t bytes_unsigned(const uint8_t* p) {
  return vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(four(p)))))));
}

// Four quads times sixteen columns of a token, for four rows.
ZG_INLINE int32x4_t dot(const int8x16_t* w, int8x16_t q, int32x4_t sum) {
  sum = vdotq_laneq_s32(sum, w[0], q, 0);
  sum = vdotq_laneq_s32(sum, w[1], q, 1);
  sum = vdotq_laneq_s32(sum, w[2], q, 2);
  return vdotq_laneq_s32(sum, w[3], q, 3);
}

struct Factors {
  float32x4_t d, dm, s0, s1, m0, m1;
};

template <int kScale>
ZG_INLINE void block_factors(const uint8_t* aux, uint32_t j, int part, Factors* f) {
  const uint8_t* own = aux + (size_t)j * ZG_AUX_BYTES(kScale);
  if constexpr (kScale == ZG_SCALE_D) f->d = halves(own + 8 * part);
  if constexpr (kScale == ZG_SCALE_F) f->d = vld1q_f32((const float*)own + 4 * part);
  if constexpr (kScale == ZG_SCALE_DM) {
    f->d = halves(own + 8 * part);
    f->dm = halves(own + 32 + 8 * part);
  }
  if constexpr (ZG_IS_K(kScale)) {
    constexpr bool minimum = kScale == ZG_SCALE_K1M || kScale == ZG_SCALE_K2M;
    const uint8_t* bytes = aux + (minimum ? 64 : 32) + 4 * part;
    f->d = halves(aux + 8 * part);
    if (minimum) f->dm = halves(aux + 32 + 8 * part);
    if constexpr (kScale == ZG_SCALE_K1) f->s0 = bytes_signed(bytes + 16 * j);
    if constexpr (kScale == ZG_SCALE_K1M) {
      f->s0 = bytes_unsigned(bytes + 32 * j);
      f->m0 = bytes_unsigned(bytes + 32 * j + 16);
    }
    if constexpr (kScale == ZG_SCALE_K2) {
      f->s0 = bytes_signed(bytes + 32 * j);
      f->s1 = bytes_signed(bytes + 32 * j + 16);
    }
    if constexpr (kScale == ZG_SCALE_K2M) {
      f->s0 = bytes_unsigned(bytes + 64 * j);
      f->s1 = bytes_unsigned(bytes + 64 * j + 16);
      f->m0 = bytes_unsigned(bytes + 64 * j + 32);
      f->m1 = bytes_unsigned(bytes + 64 * j + 48);
    }
  }
}

// As in avx512.cpp: factors in floats are exact, + 0 fixes the sign of zero.
template <int kCode, int kOffset, int kScale>
ZG_INLINE float32x4_t block_token(const int8x16_t* w, const Factors& f, const int8_t* q, const float* d, const int32_t* sums, size_t n,
                                  float32x4_t acc) {
  const float32x4_t zero = vdupq_n_f32(0.0f);
  const float32x4_t dx = vdupq_n_f32(d[0]);
  constexpr int shift = kCode == ZG_CODE_8 || kCode == ZG_CODE_4_TABLE || kOffset < 0 ? -1 : kOffset;
  const float32x4_t scale = vmulq_f32(f.d, dx);
  const int8x16_t low = vld1q_s8(q);
  const int8x16_t high = vld1q_s8(q + 16);
  float32x4_t s;
  if constexpr (kScale == ZG_SCALE_K2 || kScale == ZG_SCALE_K2M) {
    int32x4_t a = dot(w, low, vdupq_n_s32(0));
    int32x4_t c = dot(w + 4, high, vdupq_n_s32(0));
    if constexpr (shift >= 0) {
      a = vsubq_s32(a, vdupq_n_s32(sums[0] * (1 << shift)));
      c = vsubq_s32(c, vdupq_n_s32(sums[n] * (1 << shift)));
    }
    s = vfmaq_f32(zero, vcvtq_f32_s32(c), f.s1);
    s = vfmaq_f32(s, vcvtq_f32_s32(a), f.s0);
  } else {
    int32x4_t a = vdupq_n_s32(shift < 0 ? 0 : sums[2 * n] * (1 << (shift < 0 ? 0 : shift)));
    a = dot(w + 4, high, dot(w, low, a));
    s = vcvtq_f32_s32(a);
    if constexpr (ZG_IS_K(kScale)) s = vfmaq_f32(zero, s, f.s0);
  }
  acc = vfmaq_f32(acc, s, scale);
  if constexpr (kScale == ZG_SCALE_DM) acc = vfmaq_f32(acc, vsubq_f32(zero, vdupq_n_f32(d[n])), vmulq_f32(f.dm, dx));
  if constexpr (kScale == ZG_SCALE_K1M) acc = vfmaq_f32(acc, vfmaq_f32(zero, f.m0, vdupq_n_f32(d[n])), vmulq_f32(f.dm, dx));
  if constexpr (kScale == ZG_SCALE_K2M) {
    float32x4_t m = vfmsq_f32(zero, f.m0, vdupq_n_f32((float)sums[0]));
    m = vfmsq_f32(m, f.m1, vdupq_n_f32((float)sums[n]));
    acc = vfmaq_f32(acc, m, vmulq_f32(f.dm, dx));
  }
  return acc;
}

// A row group times N tokens.
template <int kType, int kCode, int kOffset, int kScale, int N>
static void product_group(const uint8_t* at, uint32_t blocks, const ZgTokens& x, float* y, size_t stride) {
  float32x4_t total[4][N];
  for (int p = 0; p < 4; p++) {
    for (int t = 0; t < N; t++) total[p][t] = vdupq_n_f32(0.0f);
  }
  for (uint32_t first = 0; first < blocks; first += 8) {
    const uint32_t count = blocks - first < 8 ? blocks - first : 8;
    const uint8_t* aux = at;
    at += ZG_SEGMENT_AUX(kScale, count);
    float32x4_t acc[4][N];
    for (int p = 0; p < 4; p++) {
      for (int t = 0; t < N; t++) acc[p][t] = vdupq_n_f32(0.0f);
    }
    for (uint32_t j = 0; j < count; j++, at += ZG_TILE_BYTES(kCode)) {
      const size_t b = first + j;
      for (int p = 0; p < 4; p++) {
        int8x16_t w[8];
        unpack<kType, kCode>(at, p, w);
        Factors f;
        block_factors<kScale>(aux, j, p, &f);
        for (int t = 0; t < N; t++) {
          acc[p][t] = block_token<kCode, kOffset, kScale>(w, f, x.q + (b * N + t) * 32, x.d + b * 2 * N + t, x.sums + b * 3 * N + t, N, acc[p][t]);
        }
      }
    }
    for (int p = 0; p < 4; p++) {
      for (int t = 0; t < N; t++) total[p][t] = vaddq_f32(total[p][t], acc[p][t]);
    }
  }
  for (int t = 0; t < N; t++) {
    for (int p = 0; p < 4; p++) vst1q_f32(y + t * stride + 4 * p, total[p][t]);
  }
}

template <int kType>
ZG_INLINE float32x4_t column(const uint8_t* p) {
  if constexpr (kType == 0) return vld1q_f32((const float*)p);
  if constexpr (kType == 1) return halves(p);
  return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(p)), 16));
}

template <int kType, int N>
static void product_floats(const uint8_t* w, uint32_t columns, const ZgTokens& x, float* y, size_t stride) {
  constexpr int kBytes = kType == 0 ? 64 : 32;
  float32x4_t total[4][N];
  for (int p = 0; p < 4; p++) {
    for (int t = 0; t < N; t++) total[p][t] = vdupq_n_f32(0.0f);
  }
  for (uint32_t first = 0; first < columns; first += ZG_SEGMENT) {
    const uint32_t end = columns - first < (uint32_t)ZG_SEGMENT ? columns : first + ZG_SEGMENT;
    float32x4_t acc[4][N];
    for (int p = 0; p < 4; p++) {
      for (int t = 0; t < N; t++) acc[p][t] = vdupq_n_f32(0.0f);
    }
    for (uint32_t c = first; c < end; c++) {
#pragma GCC unroll 4
      for (int p = 0; p < 4; p++) {
        const float32x4_t v = column<kType>(w + (size_t)c * kBytes + p * (kBytes / 4));
#pragma GCC unroll 12
        for (int t = 0; t < N; t++) acc[p][t] = vfmaq_f32(acc[p][t], v, vdupq_n_f32(x.x[(size_t)c * N + t]));
      }
    }
    for (int p = 0; p < 4; p++) {
      for (int t = 0; t < N; t++) total[p][t] = vaddq_f32(total[p][t], acc[p][t]);
    }
  }
  for (int t = 0; t < N; t++) {
    for (int p = 0; p < 4; p++) vst1q_f32(y + t * stride + 4 * p, total[p][t]);
  }
}

template <int kType>
static void product_floats_all(const ZgMatrix* w, uint32_t begin, uint32_t end, const ZgTokens& x, float* y, size_t stride) {
  for (uint32_t g = begin; g < end; g++) {
    const uint8_t* data = w->data + g * w->group_bytes;
    float* out = y + (size_t)g * ZG_ROWS;
    switch (x.count) {
      case 1: product_floats<kType, 1>(data, w->columns, x, out, stride); break;
      case 2: product_floats<kType, 2>(data, w->columns, x, out, stride); break;
      case 4: product_floats<kType, 4>(data, w->columns, x, out, stride); break;
      case 8: product_floats<kType, 8>(data, w->columns, x, out, stride); break;
      default: product_floats<kType, 12>(data, w->columns, x, out, stride); break;
    }
  }
}

template <int kType, int kCode, int kOffset, int kScale>
static void product_quants(const ZgMatrix* w, uint32_t begin, uint32_t end, const ZgTokens* tokens, uint32_t token_groups, float* y, size_t stride) {
  for (uint32_t g = begin; g < end; g++) {
    const uint8_t* data = w->data + g * w->group_bytes;
    const uint32_t blocks = w->columns / 32;
    float* out = y + (size_t)g * ZG_ROWS;
    for (uint32_t i = 0; i < token_groups; out += tokens[i++].count * stride) {
      const ZgTokens& x = tokens[i];
      switch (x.count) {
        case 1: product_group<kType, kCode, kOffset, kScale, 1>(data, blocks, x, out, stride); break;
        case 2: product_group<kType, kCode, kOffset, kScale, 2>(data, blocks, x, out, stride); break;
        case 4: product_group<kType, kCode, kOffset, kScale, 4>(data, blocks, x, out, stride); break;
        case 8: product_group<kType, kCode, kOffset, kScale, 8>(data, blocks, x, out, stride); break;
        default: product_group<kType, kCode, kOffset, kScale, 12>(data, blocks, x, out, stride); break;
      }
    }
  }
}

static void zg_product(const ZgMatrix* w, uint32_t begin, uint32_t end, const ZgTokens* tokens, uint32_t token_groups, float* y, size_t stride) {
  switch (w->type) {
#define X(id, name, code, offset, scale) \
  case id: return product_quants<id, code, offset, scale>(w, begin, end, tokens, token_groups, y, stride);
    ZG_QUANTIZED_TYPES(X)
#undef X
    default: break;
  }
  for (uint32_t i = 0; i < token_groups; y += tokens[i++].count * stride) {
    if (w->type == 0) product_floats_all<0>(w, begin, end, tokens[i], y, stride);
    if (w->type == 1) product_floats_all<1>(w, begin, end, tokens[i], y, stride);
    if (w->type == 30) product_floats_all<30>(w, begin, end, tokens[i], y, stride);
  }
}

// ---- activations ----

static void zg_quantize(const float* x, uint32_t columns, const ZgSlot* slot) {
  const size_t n = slot->count;
  for (uint32_t b = 0; b * 32 < columns; b++) {
    float values[32];
    const uint32_t width = columns - 32 * b < 32 ? columns - 32 * b : 32;
    if (width < 32) memset(values, 0, sizeof values);
    memcpy(values, x + 32 * b, width * sizeof(float));
    uint32x4_t most = vdupq_n_u32(0);
    for (int i = 0; i < 32; i += 4) most = vmaxq_u32(most, vreinterpretq_u32_f32(vabs(vload(values + i))));
    // As unsigned numbers: what is no number is the largest.
    const uint32_t largest = vmaxvq_u32(most);
    int8_t* q = slot->q + b * n * 32;
    float d = 0;
    int32_t sums[2] = {0, 0};
    if (largest >= 0x7f800000u || largest < 0x0d800000u) {
      if (largest >= 0x7f800000u) d = scalar_of(0x7fc00000u);
      memset(q, 0, 32);
    } else {
      const float a = scalar_of(largest);
      d = a / 127.0f;
      const vf factor = vset(127.0f / a);
      for (int half = 0; half < 2; half++) {
        int32x4_t v[4];
        for (int i = 0; i < 4; i++) v[i] = vcvtnq_s32_f32(vmul(vload(values + 16 * half + 4 * i), factor));
        const int16x8_t first = vcombine_s16(vmovn_s32(v[0]), vmovn_s32(v[1]));
        const int16x8_t second = vcombine_s16(vmovn_s32(v[2]), vmovn_s32(v[3]));
        vst1q_s8(q + 16 * half, vcombine_s8(vmovn_s16(first), vmovn_s16(second)));
        sums[half] = vaddvq_s32(vaddq_s32(vaddq_s32(v[0], v[1]), vaddq_s32(v[2], v[3])));
      }
    }
    slot->d[2 * b * n] = d;
    slot->d[(2 * b + 1) * n] = (float)-(sums[0] + sums[1]);
    slot->sums[3 * b * n] = sums[0];
    slot->sums[(3 * b + 1) * n] = sums[1];
    slot->sums[(3 * b + 2) * n] = -(sums[0] + sums[1]);
  }
}

}  // namespace

extern "C" const ZgLevel zg_level_neon = {"neon",   0,           zg_product, zg_quantize, zg_norm,   zg_add, zg_gate,
                                          zg_soft_cap, zg_rotate, zg_store,   zg_attend,   zg_mix, zg_finite, zg_maxima, zg_weigh};
#else
extern "C" const ZgLevel zg_level_neon = {};
#endif
