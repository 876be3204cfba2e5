#include "blocks.h"

#include <algorithm>
#include <cstring>

namespace zg::det {
namespace {

uint16_t load16(const uint8_t* p) {
  uint16_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

uint32_t load32(const uint8_t* p) {
  uint32_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

float half_at(const uint8_t* p) { return half_float(load16(p)); }

// Low nibbles are values 0 … 15, high ones 16 … 31.
int nibble(const uint8_t* q, int i) { return i < 16 ? q[i] & 15 : q[i - 16] >> 4; }

constexpr int8_t kIq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
// Twice the E2M1 values.
constexpr int8_t kMx[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// Pair j of the eight 6-bit scales and minima in 12 bytes.
void pair(const uint8_t* b, size_t j, int32_t* s, int32_t* m) {
  *s = j < 4 ? b[j] & 63 : (b[j + 4] & 15) | (b[j - 4] >> 6) << 4;
  *m = j < 4 ? b[j + 4] & 63 : (b[j + 4] >> 4) | (b[j] >> 6) << 4;
}

void nibble_block(const uint8_t* p, uint32_t bytes, size_t b, Block* o, const int8_t* table, int offset) {
  p += bytes * b;
  o->d = half_at(p);
  for (int i = 0; i < 32; i++) {
    const int n = nibble(p + 2, i);
    o->q[i] = static_cast<int8_t>(table != nullptr ? table[n] : n - offset);
  }
}

// Q4_1 and Q5_1: the minimum is added, so its factor is −1.
void with_minimum(Block* o, float m) {
  o->has_minimum = true;
  o->m[0] = o->m[1] = -1;
  o->dm = m;
}

void five_bits(const uint8_t* q, uint32_t high, int offset, Block* o) {
  for (int i = 0; i < 32; i++) o->q[i] = static_cast<int8_t>((nibble(q, i) | static_cast<int>(high >> i & 1u) << 4) - offset);
}

// Q4_K and Q5_K.
void k45(const uint8_t* p, const uint8_t* high, const uint8_t* q, size_t j, Block* o) {
  o->d = half_at(p);
  o->dm = half_at(p + 2);
  o->has_minimum = true;
  pair(p + 4, j, &o->s[0], &o->m[0]);
  o->s[1] = o->s[0];
  o->m[1] = o->m[0];
  q += 32 * (j / 2);
  for (int l = 0; l < 32; l++) {
    const int low = j % 2 == 0 ? q[l] & 15 : q[l] >> 4;
    o->q[l] = static_cast<int8_t>(low | (high == nullptr ? 0 : (high[l] >> j & 1) << 4));
  }
}

void q6_k(const uint8_t* p, size_t j, Block* o) {
  o->d = half_at(p + 208);
  const size_t n = j / 4;
  const size_t g = j % 4;
  for (size_t l = 0; l < 32; l++) {
    const int byte = p[64 * n + 32 * (g % 2) + l];
    const int low = g < 2 ? byte & 15 : byte >> 4;
    o->q[l] = static_cast<int8_t>((low | (p[128 + 32 * n + l] >> (2 * g) & 3) << 4) - 32);
  }
  for (size_t h = 0; h < 2; h++) o->s[h] = static_cast<int8_t>(p[192 + 2 * j + h]);
}

void q2_k(const uint8_t* p, size_t j, Block* o) {
  o->d = half_at(p + 80);
  o->dm = half_at(p + 82);
  o->has_minimum = true;
  for (size_t l = 0; l < 32; l++) o->q[l] = static_cast<int8_t>(p[16 + 32 * (j / 4) + l] >> (2 * (j % 4)) & 3);
  for (size_t h = 0; h < 2; h++) {
    o->s[h] = p[2 * j + h] & 15;
    o->m[h] = p[2 * j + h] >> 4;
  }
}

void q3_k(const uint8_t* p, size_t j, Block* o) {
  o->d = half_at(p + 108);
  for (size_t l = 0; l < 32; l++) {
    const int low = p[32 + 32 * (j / 4) + l] >> (2 * (j % 4)) & 3;
    o->q[l] = static_cast<int8_t>(low - ((p[l] >> j & 1) != 0 ? 0 : 4));
  }
  const uint8_t* sc = p + 96;
  for (size_t h = 0; h < 2; h++) {
    const size_t i = 2 * j + h;
    const int low = i < 8 ? sc[i] & 15 : sc[i - 8] >> 4;
    o->s[h] = (low | (sc[8 + i % 4] >> (2 * (i / 4)) & 3) << 4) - 32;
  }
}

void iq4_xs(const uint8_t* p, size_t j, Block* o) {
  o->d = half_at(p);
  const int s = (p[4 + j / 2] >> (4 * (j % 2)) & 15) | (load16(p + 2) >> (2 * j) & 3) << 4;
  o->s[0] = o->s[1] = s - 32;
  for (int i = 0; i < 32; i++) o->q[i] = kIq4[nibble(p + 8 + 16 * j, i)];
}

}  // namespace

TypeShape type_shape(Type type) noexcept {
  switch (type) {
    case Type::kF32: return {"F32", 1, 4};
    case Type::kF16: return {"F16", 1, 2};
    case Type::kBF16: return {"BF16", 1, 2};
    case Type::kQ4_0: return {"Q4_0", 32, 18};
    case Type::kQ4_1: return {"Q4_1", 32, 20};
    case Type::kQ5_0: return {"Q5_0", 32, 22};
    case Type::kQ5_1: return {"Q5_1", 32, 24};
    case Type::kQ8_0: return {"Q8_0", 32, 34};
    case Type::kQ2_K: return {"Q2_K", 256, 84};
    case Type::kQ3_K: return {"Q3_K", 256, 110};
    case Type::kQ4_K: return {"Q4_K", 256, 144};
    case Type::kQ5_K: return {"Q5_K", 256, 176};
    case Type::kQ6_K: return {"Q6_K", 256, 210};
    case Type::kIQ4_NL: return {"IQ4_NL", 32, 18};
    case Type::kIQ4_XS: return {"IQ4_XS", 256, 136};
    case Type::kMXFP4: return {"MXFP4", 32, 17};
  }
  return {"", 0, 0};
}

void unpack_block(Type type, const uint8_t* row, size_t b, Block* o) noexcept {
  *o = Block{};
  // Super-block and block within it, for the types of 256 values.
  const uint8_t* super = row + (b / 8) * type_shape(type).bytes;
  const size_t j = b % 8;
  switch (type) {
    case Type::kQ4_0: return nibble_block(row, 18, b, o, nullptr, 8);
    case Type::kIQ4_NL: return nibble_block(row, 18, b, o, kIq4, 0);
    case Type::kQ4_1: {
      const uint8_t* p = row + 20 * b;
      o->d = half_at(p);
      for (int i = 0; i < 32; i++) o->q[i] = static_cast<int8_t>(nibble(p + 4, i));
      return with_minimum(o, half_at(p + 2));
    }
    case Type::kQ5_0: {
      const uint8_t* p = row + 22 * b;
      o->d = half_at(p);
      return five_bits(p + 6, load32(p + 2), 16, o);
    }
    case Type::kQ5_1: {
      const uint8_t* p = row + 24 * b;
      o->d = half_at(p);
      five_bits(p + 8, load32(p + 4), 0, o);
      return with_minimum(o, half_at(p + 2));
    }
    case Type::kQ8_0: {
      const uint8_t* p = row + 34 * b;
      o->d = half_at(p);
      std::memcpy(o->q, p + 2, 32);
      return;
    }
    case Type::kMXFP4: {
      const uint8_t* p = row + 17 * b;
      // 2^(e − 128), subnormal for 0 and 1; 255 is not a number.
      o->d = mx_scale(p[0]);
      for (int i = 0; i < 32; i++) o->q[i] = kMx[nibble(p + 1, i)];
      return;
    }
    case Type::kQ2_K: return q2_k(super, j, o);
    case Type::kQ3_K: return q3_k(super, j, o);
    case Type::kQ4_K: return k45(super, nullptr, super + 16, j, o);
    case Type::kQ5_K: return k45(super, super + 16, super + 48, j, o);
    case Type::kQ6_K: return q6_k(super, j, o);
    case Type::kIQ4_XS: return iq4_xs(super, j, o);
    case Type::kF32:
    case Type::kF16:
    case Type::kBF16: return;
  }
}

float float_weight(Type type, const uint8_t* row, size_t c) noexcept {
  if (type == Type::kF32) return float_of(load32(row + 4 * c));
  if (type == Type::kF16) return half_at(row + 2 * c);
  return float_of(uint32_t{load16(row + 2 * c)} << 16);
}

void dequantize(Type type, const uint8_t* row, size_t count, float* out) noexcept {
  if (is_float_type(type)) {
    for (size_t c = 0; c < count; c++) out[c] = float_weight(type, row, c);
    return;
  }
  Block w;
  for (size_t b = 0; b < count / 32; b++) {
    unpack_block(type, row, b, &w);
    for (int i = 0; i < 32; i++) {
      const float v = mul1(w.d, static_cast<float>(w.s[i / 16] * w.q[i]));
      out[32 * b + static_cast<size_t>(i)] = w.has_minimum ? v - mul1(w.dm, static_cast<float>(w.m[i / 16])) : v;
    }
  }
}

void quantize(const float* x, size_t count, Activations* out) {
  const size_t blocks = (count + 31) / 32;
  out->q.assign(blocks * 32, 0);
  out->d.assign(blocks, 0.0f);
  out->sums.assign(blocks * 2, 0);
  for (size_t b = 0; b < blocks; b++) {
    const size_t n = std::min<size_t>(32, count - 32 * b);
    uint32_t largest = 0;
    for (size_t i = 0; i < n; i++) largest = std::max(largest, bits_of(x[32 * b + i]) & 0x7fffffffu);
    const ActivationScale scale = activation_scale(largest);
    out->d[b] = scale.d;
    for (size_t i = 0; i < n; i++) {
      const int32_t q = activation_quant(x[32 * b + i], scale.factor);
      out->q[32 * b + i] = static_cast<int8_t>(q);
      out->sums[2 * b + i / 16] += q;
    }
  }
}

float product(Type type, const uint8_t* row, size_t columns, const Activations& x) noexcept {
  float total = 0;
  Block w;
  const size_t blocks = columns / 32;
  for (size_t first = 0; first < blocks; first += 8) {
    float acc = 0;
    for (size_t b = first; b < std::min(first + 8, blocks); b++) {
      unpack_block(type, row, b, &w);
      int32_t halves[2] = {0, 0};
      for (size_t i = 0; i < 32; i++) halves[i / 16] += int32_t{w.q[i]} * x.q[32 * b + i];
      const int32_t s = w.s[0] * halves[0] + w.s[1] * halves[1];
      acc = fma1(static_cast<float>(s), mul1(w.d, x.d[b]), acc);
      if (w.has_minimum) {
        const int32_t m = w.m[0] * x.sums[2 * b] + w.m[1] * x.sums[2 * b + 1];
        acc = fma1(static_cast<float>(-m), mul1(w.dm, x.d[b]), acc);
      }
    }
    total = add1(total, acc);
  }
  return total;
}

float product(Type type, const uint8_t* row, size_t columns, const float* x) noexcept {
  float total = 0;
  for (size_t first = 0; first < columns; first += 256) {
    float acc = 0;
    for (size_t c = first; c < std::min(first + 256, columns); c++) acc = fma1(float_weight(type, row, c), x[c], acc);
    total = add1(total, acc);
  }
  return total;
}

}  // namespace zg::det
