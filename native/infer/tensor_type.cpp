#include "tensor_type.h"

#include <bit>
#include <cmath>
#include <cstring>

#include "det/blocks.h"

namespace zg {

float half_to_float(uint16_t half) noexcept {
  const uint32_t sign = uint32_t{half & 0x8000u} << 16;
  const uint32_t exponent = (half >> 10) & 31u;
  const uint32_t fraction = half & 1023u;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | fraction << 13);
  if (exponent != 0) return std::bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
  // Subnormal: fraction · 2⁻²⁴, exact in a float.
  const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | sign);
}

namespace {

constexpr size_t kBlock = 32;

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

void f32(const uint8_t* p, size_t count, float* out) { std::memcpy(out, p, count * sizeof(float)); }

void f16(const uint8_t* p, size_t count, float* out) {
  for (size_t i = 0; i < count; i++) out[i] = half_to_float(load16(p + 2 * i));
}

void bf16(const uint8_t* p, size_t count, float* out) {
  for (size_t i = 0; i < count; i++) out[i] = std::bit_cast<float>(uint32_t{load16(p + 2 * i)} << 16);
}

void q4_0(const uint8_t* p, size_t count, float* out) {
  for (; count > 0; count -= kBlock, p += 18, out += kBlock) {
    const float d = half_to_float(load16(p));
    for (int i = 0; i < 16; i++) {
      out[i] = d * static_cast<float>((p[2 + i] & 15) - 8);
      out[i + 16] = d * static_cast<float>((p[2 + i] >> 4) - 8);
    }
  }
}

void q4_1(const uint8_t* p, size_t count, float* out) {
  for (; count > 0; count -= kBlock, p += 20, out += kBlock) {
    const float d = half_to_float(load16(p));
    const float m = half_to_float(load16(p + 2));
    for (int i = 0; i < 16; i++) {
      out[i] = d * static_cast<float>(p[4 + i] & 15) + m;
      out[i + 16] = d * static_cast<float>(p[4 + i] >> 4) + m;
    }
  }
}

void q5_0(const uint8_t* p, size_t count, float* out) {
  for (; count > 0; count -= kBlock, p += 22, out += kBlock) {
    const float d = half_to_float(load16(p));
    const uint32_t high = load32(p + 2);
    for (int i = 0; i < 16; i++) {
      const int low = static_cast<int>((p[6 + i] & 15u) | (high >> i & 1u) << 4);
      const int up = static_cast<int>((p[6 + i] >> 4) | (high >> (i + 16) & 1u) << 4);
      out[i] = d * static_cast<float>(low - 16);
      out[i + 16] = d * static_cast<float>(up - 16);
    }
  }
}

void q5_1(const uint8_t* p, size_t count, float* out) {
  for (; count > 0; count -= kBlock, p += 24, out += kBlock) {
    const float d = half_to_float(load16(p));
    const float m = half_to_float(load16(p + 2));
    const uint32_t high = load32(p + 4);
    for (int i = 0; i < 16; i++) {
      out[i] = d * static_cast<float>((p[8 + i] & 15u) | (high >> i & 1u) << 4) + m;
      out[i + 16] = d * static_cast<float>((p[8 + i] >> 4) | (high >> (i + 16) & 1u) << 4) + m;
    }
  }
}

void q8_0(const uint8_t* p, size_t count, float* out) {
  for (; count > 0; count -= kBlock, p += 34, out += kBlock) {
    const float d = half_to_float(load16(p));
    for (size_t i = 0; i < kBlock; i++) out[i] = d * static_cast<float>(static_cast<int8_t>(p[2 + i]));
  }
}

constexpr size_t kSuper = 256;

// Pair j of the eight 6-bit scales and minima that Q4_K and Q5_K pack into 12 bytes.
void scale_and_minimum(const uint8_t* b, int j, float* scale, float* minimum) {
  const bool low = j < 4;
  *scale = static_cast<float>(low ? b[j] & 63 : (b[j + 4] & 15) | (b[j - 4] >> 6) << 4);
  *minimum = static_cast<float>(low ? b[j + 4] & 63 : (b[j + 4] >> 4) | (b[j] >> 6) << 4);
}

// Q4_K, and with a fifth bit in high (nullptr: none) Q5_K: four groups of 64 values, low nibbles first.
void q45_k(float d, float dmin, const uint8_t* scales, const uint8_t* high, const uint8_t* q, float* out) {
  for (int j = 0; j < 8; j++) {
    float scale;
    float minimum;
    scale_and_minimum(scales, j, &scale, &minimum);
    const uint8_t* bytes = q + 32 * (j / 2);
    for (int l = 0; l < 32; l++) {
      const int nibble = j % 2 == 0 ? bytes[l] & 15 : bytes[l] >> 4;
      const int fifth = high == nullptr ? 0 : (high[l] >> j & 1) << 4;
      // Both products are exact; the difference rounds once.
      out[32 * j + l] = d * scale * static_cast<float>(nibble | fifth) - dmin * minimum;
    }
  }
}

void q4_k(const uint8_t* p, size_t count, float* out) {
  for (; count > 0; count -= kSuper, p += 144, out += kSuper) {
    q45_k(half_to_float(load16(p)), half_to_float(load16(p + 2)), p + 4, nullptr, p + 16, out);
  }
}

void q5_k(const uint8_t* p, size_t count, float* out) {
  for (; count > 0; count -= kSuper, p += 176, out += kSuper) {
    q45_k(half_to_float(load16(p)), half_to_float(load16(p + 2)), p + 4, p + 16, p + 48, out);
  }
}

void q6_k(const uint8_t* p, size_t count, float* out) {
  for (; count > 0; count -= kSuper, p += 210, out += kSuper) {
    const float d = half_to_float(load16(p + 208));
    for (int n = 0; n < 2; n++) {
      for (int i = 0; i < 128; i++) {
        const int l = i % 32;
        const int low = p[64 * n + i % 64];
        const int nibble = i < 64 ? low & 15 : low >> 4;
        const int upper = (p[128 + 32 * n + l] >> (2 * (i / 32)) & 3) << 4;
        const auto scale = static_cast<float>(static_cast<int8_t>(p[192 + 8 * n + i / 16]));
        out[128 * n + i] = d * scale * static_cast<float>((nibble | upper) - 32);
      }
    }
  }
}

// One nibble of each of 16 bytes, then the other, through a table.
void nibbles(const uint8_t* q, const float* table, float d, float* out) {
  for (int i = 0; i < 16; i++) {
    out[i] = d * table[q[i] & 15];
    out[i + 16] = d * table[q[i] >> 4];
  }
}

void iq4_nl(const uint8_t* p, size_t count, float* out) {
  constexpr float kTable[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
  for (; count > 0; count -= kBlock, p += 18, out += kBlock) nibbles(p + 2, kTable, half_to_float(load16(p)), out);
}

void mxfp4(const uint8_t* p, size_t count, float* out) {
  // Twice the E2M1 values, hence 128 and not 127 in the exponent.
  constexpr float kTable[16] = {0, 1, 2, 3, 4, 6, 8, 12, -0.0f, -1, -2, -3, -4, -6, -8, -12};
  for (; count > 0; count -= kBlock, p += 17, out += kBlock) {
    // 255 stands for no number, and gives none.
    const float d = p[0] == 255 ? std::bit_cast<float>(0x7FC00000u) : std::ldexp(1.0f, p[0] - 128);
    nibbles(p + 1, kTable, d, out);
  }
}

// Rarer types: by way of the engine's own blocks.
template <det::Type T>
void by_blocks(const uint8_t* p, size_t count, float* out) {
  det::dequantize(T, p, count, out);
}

constexpr TypeInfo kTypes[] = {
    {0, "F32", 1, 4, f32},
    {1, "F16", 1, 2, f16},
    {2, "Q4_0", 32, 18, q4_0},
    {3, "Q4_1", 32, 20, q4_1},
    {6, "Q5_0", 32, 22, q5_0},
    {7, "Q5_1", 32, 24, q5_1},
    {8, "Q8_0", 32, 34, q8_0},
    {10, "Q2_K", 256, 84, by_blocks<det::Type::kQ2_K>},
    {11, "Q3_K", 256, 110, by_blocks<det::Type::kQ3_K>},
    {12, "Q4_K", 256, 144, q4_k},
    {13, "Q5_K", 256, 176, q5_k},
    {14, "Q6_K", 256, 210, q6_k},
    {16, "IQ2_XXS", 256, 66, nullptr},
    {17, "IQ2_XS", 256, 74, nullptr},
    {18, "IQ3_XXS", 256, 98, nullptr},
    {19, "IQ1_S", 256, 50, nullptr},
    {20, "IQ4_NL", 32, 18, iq4_nl},
    {21, "IQ3_S", 256, 110, nullptr},
    {22, "IQ2_S", 256, 82, nullptr},
    {23, "IQ4_XS", 256, 136, by_blocks<det::Type::kIQ4_XS>},
    {24, "I8", 1, 1, nullptr},
    {25, "I16", 1, 2, nullptr},
    {26, "I32", 1, 4, nullptr},
    {27, "I64", 1, 8, nullptr},
    {28, "F64", 1, 8, nullptr},
    {29, "IQ1_M", 256, 56, nullptr},
    {30, "BF16", 1, 2, bf16},
    {34, "TQ1_0", 256, 54, nullptr},
    {35, "TQ2_0", 256, 66, nullptr},
    {39, "MXFP4", 32, 17, mxfp4},
};

}  // namespace

const TypeInfo* tensor_type(uint32_t id) noexcept {
  for (const TypeInfo& t : kTypes) {
    if (t.id == id) return &t;
  }
  return nullptr;
}

bool is_removed_type(uint32_t id) noexcept {
  return id == 4 || id == 5 || (id >= 31 && id <= 33) || (id >= 36 && id <= 38);
}

}  // namespace zg
