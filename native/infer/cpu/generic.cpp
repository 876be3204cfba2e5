// The level for every processor: plain loops over the packed layout.
#include <string.h>

#include "../det/rules.h"
#include "types.h"

namespace {

using zg::det::add1;
using zg::det::fma1;
using zg::det::half_float;
using zg::det::mul1;

// ---- vectors of one ----

constexpr int W = 1;
using vf = float;
using vm = bool;
inline vf vset(float a) { return a; }
inline vf vload(const float* p) { return *p; }
inline void vstore(float* p, vf a) { *p = a; }
inline vf vadd(vf a, vf b) { return a + b; }
inline vf vsub(vf a, vf b) { return a - b; }
inline vf vmul(vf a, vf b) { return a * b; }
inline vf vfma(vf a, vf b, vf c) { return __builtin_fmaf(a, b, c); }
inline vf vdiv(vf a, vf b) { return a / b; }
inline vf vrint(vf a) { return __builtin_rintf(a); }
inline vf vloadh(const uint16_t* p) { return half_float(*p); }
inline vf vmax(vf a, vf b) { return a > b ? a : b; }
inline vm vlt(vf a, vf b) { return a < b; }
inline vm vgt(vf a, vf b) { return a > b; }
inline vm vunord(vf a) { return a != a; }
inline vm vor(vm a, vm b) { return a || b; }
inline bool vany(vm a) { return a; }
inline vf vsel(vm m, vf a, vf b) { return m ? a : b; }
inline vf vneg(vf a) { return -a; }
inline vf vabs(vf a) { return zg::det::float_of(zg::det::bits_of(a) & 0x7fffffffu); }
inline vf vsign(vf magnitude, vf of) { return zg::det::float_of(zg::det::bits_of(magnitude) | (zg::det::bits_of(of) & 0x80000000u)); }
// What is out of range is not used by the caller, but must not be converted.
inline vf vpow2(vf p, vf n) {
  const int32_t i = n > -1000.0f && n < 1000.0f ? static_cast<int32_t>(n) : 0;
  return zg::det::float_of(zg::det::bits_of(p) + (static_cast<uint32_t>(i) << 23));
}
inline float vtop(vf a) { return a; }
inline float vjoin(vf a) { return a; }
inline void vstoreh(uint16_t* p, vf a) { *p = zg::det::float_half(a); }

#include "vector.inc"

// ---- products ----

constexpr int8_t kIq4[16] = ZG_TABLE_IQ4;
constexpr int8_t kMx[16] = ZG_TABLE_MX;

// The 32 codes of row r of a tile, as signed values.
template <int kType, int kCode, int kOffset>
void codes_of(const uint8_t* tile, int r, int8_t* out) {
  constexpr int offset = kCode == ZG_CODE_8 || kCode == ZG_CODE_4_TABLE || kOffset < 0 ? 0 : 1 << kOffset;
  for (int k = 0; k < 8; k++) {
    for (int i = 0; i < 4; i++) {
      const int at = 4 * r + i;
      int code = 0;
      if (kCode == ZG_CODE_8) {
        code = static_cast<int8_t>(tile[64 * k + at]);
      } else if (kCode == ZG_CODE_2 || kCode == ZG_CODE_3) {
        code = tile[64 * (k / 4) + at] >> (2 * (k % 4)) & 3;
        if (kCode == ZG_CODE_3) code |= (tile[128 + at] >> k & 1) << 2;
      } else {
        const int byte = tile[64 * (k % 4) + at];
        code = k < 4 ? byte & 15 : byte >> 4;
        if (kCode == ZG_CODE_5) code |= (tile[256 + at] >> k & 1) << 4;
        if (kCode == ZG_CODE_6) code |= (tile[256 + 64 * (k / 4) + at] >> (2 * (k % 4)) & 3) << 4;
        if (kCode == ZG_CODE_4_TABLE) code = kType == 39 ? kMx[code] : kIq4[code];
      }
      out[4 * k + i] = static_cast<int8_t>(code - offset);
    }
  }
}

float half_at(const uint8_t* p, int i) {
  uint16_t h;
  memcpy(&h, p + 2 * i, sizeof h);
  return half_float(h);
}

template <int kType, int kCode, int kOffset, int kScale>
void product_group(const uint8_t* tile, uint32_t blocks, const ZgTokens& x, float* y, size_t stride) {
  const uint32_t n = x.count;
  float total[ZG_TOKENS][ZG_ROWS] = {};
  float acc[ZG_TOKENS][ZG_ROWS] = {};
  const uint8_t* super = nullptr;
  for (uint32_t b = 0; b < blocks; b++, tile += ZG_TILE_BYTES(kCode)) {
    if (b % 8 == 0) {
      super = tile;
      tile += ZG_SEGMENT_AUX(kScale, blocks - b < 8 ? blocks - b : 8);
    }
    const uint8_t* own = super + b % 8 * ZG_AUX_BYTES(kScale);
    for (int r = 0; r < ZG_ROWS; r++) {
      int8_t w[32];
      codes_of<kType, kCode, kOffset>(tile, r, w);
      int32_t s0 = 1, s1 = 1, m0 = 0, m1 = 0;
      float d = 0, dm = 0;
      if constexpr (kScale == ZG_SCALE_D) d = half_at(own, r);
      if constexpr (kScale == ZG_SCALE_F) memcpy(&d, own + 4 * r, 4);
      if constexpr (kScale == ZG_SCALE_DM) {
        d = half_at(own, r);
        dm = half_at(own + 32, r);
        m0 = m1 = -1;
      }
      if constexpr (ZG_IS_K(kScale)) {
        constexpr bool minimum = kScale == ZG_SCALE_K1M || kScale == ZG_SCALE_K2M;
        d = half_at(super, r);
        if (minimum) dm = half_at(super + 32, r);
        const uint8_t* bytes = super + (minimum ? 64 : 32);
        if (kScale == ZG_SCALE_K1) s0 = s1 = static_cast<int8_t>(bytes[16 * (b % 8) + r]);
        if (kScale == ZG_SCALE_K1M) {
          s0 = s1 = bytes[32 * (b % 8) + r];
          m0 = m1 = bytes[32 * (b % 8) + 16 + r];
        }
        if (kScale == ZG_SCALE_K2) {
          s0 = static_cast<int8_t>(bytes[32 * (b % 8) + r]);
          s1 = static_cast<int8_t>(bytes[32 * (b % 8) + 16 + r]);
        }
        if (kScale == ZG_SCALE_K2M) {
          s0 = bytes[64 * (b % 8) + r];
          s1 = bytes[64 * (b % 8) + 16 + r];
          m0 = bytes[64 * (b % 8) + 32 + r];
          m1 = bytes[64 * (b % 8) + 48 + r];
        }
      }
      for (uint32_t t = 0; t < n; t++) {
        const int8_t* q = x.q + (size_t{b} * n + t) * 32;
        const float dx = x.d[size_t{b} * 2 * n + t];
        int32_t low = 0, high = 0;
        for (int i = 0; i < 16; i++) low += w[i] * q[i];
        for (int i = 16; i < 32; i++) high += w[i] * q[i];
        float& a = acc[t][r];
        a = fma1(static_cast<float>(s0 * low + s1 * high), mul1(d, dx), a);
        if constexpr (kScale == ZG_SCALE_DM || kScale == ZG_SCALE_K1M || kScale == ZG_SCALE_K2M) {
          const int32_t m = m0 * x.sums[size_t{b} * 3 * n + t] + m1 * x.sums[(size_t{b} * 3 + 1) * n + t];
          a = fma1(static_cast<float>(-m), mul1(dm, dx), a);
        }
      }
    }
    if (b % 8 == 7 || b + 1 == blocks) {
      for (uint32_t t = 0; t < n; t++) {
        for (int r = 0; r < ZG_ROWS; r++) {
          total[t][r] = add1(total[t][r], acc[t][r]);
          acc[t][r] = 0;
        }
      }
    }
  }
  for (uint32_t t = 0; t < n; t++) memcpy(y + t * stride, total[t], sizeof total[t]);
}

// kWord: bytes of a value.
template <int kType, int kWord>
void product_floats(const uint8_t* w, uint32_t columns, const ZgTokens& x, float* y, size_t stride) {
  for (uint32_t t = 0; t < x.count; t++) {
    float total[ZG_ROWS] = {};
    for (uint32_t first = 0; first < columns; first += ZG_SEGMENT) {
      float acc[ZG_ROWS] = {};
      const uint32_t end = columns - first < ZG_SEGMENT ? columns : first + ZG_SEGMENT;
      for (uint32_t c = first; c < end; c++) {
        for (int r = 0; r < ZG_ROWS; r++) {
          const uint8_t* at = w + (size_t{c} * ZG_ROWS + r) * kWord;
          float v = 0;
          if (kType == 0) {
            memcpy(&v, at, 4);
          } else {
            uint16_t h;
            memcpy(&h, at, 2);
            v = kType == 1 ? half_float(h) : zg::det::float_of(uint32_t{h} << 16);
          }
          acc[r] = fma1(v, x.x[size_t{c} * x.count + t], acc[r]);
        }
      }
      for (int r = 0; r < ZG_ROWS; r++) total[r] = add1(total[r], acc[r]);
    }
    memcpy(y + t * stride, total, sizeof total);
  }
}

void zg_product(const ZgMatrix* w, uint32_t begin, uint32_t end, const ZgTokens* tokens, uint32_t token_groups, float* y, size_t stride) {
  for (uint32_t g = begin; g < end; g++) {
    const uint8_t* data = w->data + g * w->group_bytes;
    size_t at = 0;
    for (uint32_t i = 0; i < token_groups; at += tokens[i++].count) {
      float* out = y + at * stride + g * ZG_ROWS;
      switch (w->type) {
#define X(id, name, code, offset, scale)                                                                                  \
  case id:                                                                                                                \
    product_group<id, code, offset, scale>(data, w->columns / 32, tokens[i], out, stride);                                \
    break;
        ZG_QUANTIZED_TYPES(X)
#undef X
        case 0: product_floats<0, 4>(data, w->columns, tokens[i], out, stride); break;
        case 1: product_floats<1, 2>(data, w->columns, tokens[i], out, stride); break;
        case 30: product_floats<30, 2>(data, w->columns, tokens[i], out, stride); break;
        default: break;
      }
    }
  }
}

void zg_quantize(const float* x, uint32_t columns, const ZgSlot* slot) {
  const size_t n = slot->count;
  for (uint32_t b = 0; b * 32 < columns; b++) {
    const uint32_t width = columns - 32 * b < 32 ? columns - 32 * b : 32;
    uint32_t largest = 0;
    for (uint32_t i = 0; i < width; i++) {
      const uint32_t bits = zg::det::bits_of(x[32 * b + i]) & 0x7fffffffu;
      largest = bits > largest ? bits : largest;
    }
    const zg::det::ActivationScale scale = zg::det::activation_scale(largest);
    slot->d[2 * b * n] = scale.d;
    int8_t* q = slot->q + b * n * 32;
    int32_t sums[2] = {0, 0};
    for (uint32_t i = 0; i < 32; i++) {
      const int32_t v = i < width ? zg::det::activation_quant(x[32 * b + i], scale.factor) : 0;
      q[i] = static_cast<int8_t>(v);
      sums[i / 16] += v;
    }
    slot->sums[3 * b * n] = sums[0];
    slot->sums[(3 * b + 1) * n] = sums[1];
    slot->sums[(3 * b + 2) * n] = -(sums[0] + sums[1]);
    slot->d[(2 * b + 1) * n] = static_cast<float>(-(sums[0] + sums[1]));
  }
}

}  // namespace

extern "C" const ZgLevel zg_level_generic = {"generic", 0,        zg_product, zg_quantize, zg_norm, zg_add,
                                             zg_gate,   zg_soft_cap, zg_rotate,  zg_store,    zg_attend, zg_mix, zg_finite, zg_maxima, zg_weigh};
