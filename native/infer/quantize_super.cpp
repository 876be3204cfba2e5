// Blocks of 256 values, whose parts of 16 or 32 have scales that are integers themselves.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "quantize.h"

namespace zg::quant {
namespace {

using det::Type;

constexpr size_t kValues = 256;
constexpr int8_t kIq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

// Scale and minimum of one part as integers, its codes, and what they miss.
struct Part {
  int s = 0;
  int m = 0;
  float error = INFINITY;
  uint8_t q[32] = {};
};

// Codes of x ≈ d·q − m, q from 0 to most.
void codes(const float* x, size_t n, float d, float m, int most, Part* part) {
  part->error = 0;
  for (size_t i = 0; i < n; i++) {
    const int q = d == 0 ? 0 : nearest(std::clamp((x[i] + m) / d, 0.0f, static_cast<float>(most)));
    part->q[i] = static_cast<uint8_t>(q);
    const float e = x[i] - (d * static_cast<float>(q) - m);
    part->error += e * e;
  }
}

// Codes of x ≈ d·(q + least).
void signed_codes(const float* x, size_t n, float d, int least, int most, Part* part) {
  part->error = 0;
  for (size_t i = 0; i < n; i++) {
    const int q = d == 0 ? 0 : nearest(std::clamp(x[i] / d, static_cast<float>(least), static_cast<float>(most)));
    part->q[i] = static_cast<uint8_t>(q - least);
    const float e = x[i] - d * static_cast<float>(q);
    part->error += e * e;
  }
}

void table_codes(const float* x, size_t n, float d, Part* part) {
  part->error = 0;
  for (size_t i = 0; i < n; i++) {
    const int q = nearest_entry(kIq4, d == 0 ? 0 : x[i] / d);
    part->q[i] = static_cast<uint8_t>(q);
    const float e = x[i] - d * static_cast<float>(kIq4[q]);
    part->error += e * e;
  }
}

// Parts of n values with scales 0 … s_most and minima 0 … s_most.
bool with_minima(const float* x, size_t n, int most, int s_most, float* d, float* dm, Part* parts) {
  float scales[16];
  float minima[16];
  float scale = 0;
  float minimum = 0;
  const size_t count = kValues / n;
  for (size_t p = 0; p < count; p++) {
    fit_range(x + p * n, n, most, true, &scales[p], &minima[p]);
    scale = std::max(scale, scales[p]);
    minimum = std::max(minimum, minima[p]);
  }
  *d = half(scale / static_cast<float>(s_most));
  *dm = half(minimum / static_cast<float>(s_most));
  if (!std::isfinite(*d) || !std::isfinite(*dm)) return false;
  for (size_t p = 0; p < count; p++) {
    const int s0 = *d == 0 ? 0 : nearest(std::clamp(scales[p] / *d, 0.0f, static_cast<float>(s_most)));
    const int m0 = *dm == 0 ? 0 : nearest(std::clamp(minima[p] / *dm, 0.0f, static_cast<float>(s_most)));
    for (int s = std::max(0, s0 - 1); s <= std::min(s_most, s0 + 1); s++) {
      for (int m = std::max(0, m0 - 1); m <= std::min(s_most, m0 + 1); m++) {
        Part tried;
        tried.s = s;
        tried.m = m;
        codes(x + p * n, n, *d * static_cast<float>(s), *dm * static_cast<float>(m), most, &tried);
        if (tried.error < parts[p].error) parts[p] = tried;
      }
    }
  }
  return true;
}

// Parts of n values with scales s_least … s_most and no minima; Codes(x, d, part) writes one.
template <typename Fit, typename Codes>
bool with_scales(const float* x, size_t n, int s_least, int s_most, float* d, Part* parts, const Fit& fit, const Codes& write) {
  float scales[16];
  float far = 0;
  const size_t count = kValues / n;
  for (size_t p = 0; p < count; p++) {
    scales[p] = fit(x + p * n);
    if (std::fabs(scales[p]) > std::fabs(far)) far = scales[p];
  }
  *d = half(far / static_cast<float>(s_least));
  if (!std::isfinite(*d)) return false;
  for (size_t p = 0; p < count; p++) {
    const int s0 = *d == 0 ? 0 : nearest(std::clamp(scales[p] / *d, static_cast<float>(s_least), static_cast<float>(s_most)));
    for (int s = std::max(s_least, s0 - 1); s <= std::min(s_most, s0 + 1); s++) {
      Part tried;
      tried.s = s;
      write(x + p * n, *d * static_cast<float>(s), &tried);
      if (tried.error < parts[p].error) parts[p] = tried;
    }
  }
  return true;
}

// Eight 6-bit pairs in 12 bytes.
void put_pairs(const Part* parts, uint8_t* b) {
  std::memset(b, 0, 12);
  for (int j = 0; j < 4; j++) {
    const Part& low = parts[j];
    const Part& high = parts[j + 4];
    b[j] = static_cast<uint8_t>(low.s | (high.s >> 4) << 6);
    b[j + 4] = static_cast<uint8_t>(low.m | (high.m >> 4) << 6);
    b[j + 8] = static_cast<uint8_t>((high.s & 15) | (high.m & 15) << 4);
  }
}

bool q45_k(bool five, const float* x, uint8_t* out) {
  Part parts[8];
  float d = 0;
  float dm = 0;
  if (!with_minima(x, 32, five ? 31 : 15, 63, &d, &dm, parts)) return false;
  put_half(out, d);
  put_half(out + 2, dm);
  put_pairs(parts, out + 4);
  uint8_t* high = out + 16;
  uint8_t* q = out + (five ? 48 : 16);
  if (five) std::memset(high, 0, 32);
  for (size_t c = 0; c < 4; c++) {
    for (size_t l = 0; l < 32; l++) {
      const unsigned low = parts[2 * c].q[l];
      const unsigned up = parts[2 * c + 1].q[l];
      q[32 * c + l] = static_cast<uint8_t>((low & 15) | (up & 15) << 4);
      if (five) high[l] = static_cast<uint8_t>(high[l] | (low >> 4) << (2 * c) | (up >> 4) << (2 * c + 1));
    }
  }
  return true;
}

bool q2_k(const float* x, uint8_t* out) {
  Part parts[16];
  float d = 0;
  float dm = 0;
  if (!with_minima(x, 16, 3, 15, &d, &dm, parts)) return false;
  std::memset(out, 0, 80);
  for (size_t i = 0; i < 16; i++) {
    out[i] = static_cast<uint8_t>(parts[i].s | parts[i].m << 4);
    // Part i is half (i mod 2) of block i / 2: four blocks of 32 in each half of the super-block.
    const size_t block = i / 2;
    for (size_t l = 0; l < 16; l++) {
      uint8_t& byte = out[16 + 32 * (block / 4) + 16 * (i % 2) + l];
      byte = static_cast<uint8_t>(byte | parts[i].q[l] << (2 * (block % 4)));
    }
  }
  put_half(out + 80, d);
  put_half(out + 82, dm);
  return true;
}

bool q3_k(const float* x, uint8_t* out) {
  Part parts[16];
  float d = 0;
  const auto fit = [](const float* p) { return fit_scale(p, 16, -4, 3); };
  const auto write = [](const float* p, float scale, Part* part) { signed_codes(p, 16, scale, -4, 3, part); };
  if (!with_scales(x, 16, -32, 31, &d, parts, fit, write)) return false;
  std::memset(out, 0, 110);
  for (size_t i = 0; i < 16; i++) {
    const size_t block = i / 2;
    for (size_t l = 0; l < 16; l++) {
      const unsigned q = parts[i].q[l];
      const size_t at = 16 * (i % 2) + l;
      uint8_t& low = out[32 + 32 * (block / 4) + at];
      low = static_cast<uint8_t>(low | (q & 3) << (2 * (block % 4)));
      // The bit is set where nothing is taken off.
      out[at] = static_cast<uint8_t>(out[at] | (q >> 2) << block);
    }
    const auto s = static_cast<unsigned>(parts[i].s + 32);
    uint8_t* sc = out + 96;
    sc[i % 8] = static_cast<uint8_t>(sc[i % 8] | (s & 15) << (i < 8 ? 0 : 4));
    sc[8 + i % 4] = static_cast<uint8_t>(sc[8 + i % 4] | (s >> 4) << (2 * (i / 4)));
  }
  put_half(out + 108, d);
  return true;
}

bool q6_k(const float* x, uint8_t* out) {
  Part parts[16];
  float d = 0;
  const auto fit = [](const float* p) { return fit_scale(p, 16, -32, 31); };
  const auto write = [](const float* p, float scale, Part* part) { signed_codes(p, 16, scale, -32, 31, part); };
  if (!with_scales(x, 16, -128, 127, &d, parts, fit, write)) return false;
  std::memset(out, 0, 192);
  for (size_t i = 0; i < 16; i++) {
    const size_t half_index = i / 8;
    const size_t group = i % 8 / 2;
    for (size_t l = 0; l < 16; l++) {
      const unsigned q = parts[i].q[l];
      const size_t at = 16 * (i % 2) + l;
      uint8_t& low = out[64 * half_index + 32 * (group % 2) + at];
      low = static_cast<uint8_t>(low | (q & 15) << (group < 2 ? 0 : 4));
      uint8_t& high = out[128 + 32 * half_index + at];
      high = static_cast<uint8_t>(high | (q >> 4) << (2 * group));
    }
    out[192 + i] = static_cast<uint8_t>(static_cast<int8_t>(parts[i].s));
  }
  put_half(out + 208, d);
  return true;
}

bool iq4_xs(const float* x, uint8_t* out) {
  Part parts[8];
  float d = 0;
  const auto fit = [](const float* p) { return fit_table(p, 32, kIq4); };
  const auto write = [](const float* p, float scale, Part* part) { table_codes(p, 32, scale, part); };
  if (!with_scales(x, 32, -32, 31, &d, parts, fit, write)) return false;
  std::memset(out, 0, 136);
  put_half(out, d);
  unsigned high = 0;
  for (size_t j = 0; j < 8; j++) {
    const auto s = static_cast<unsigned>(parts[j].s + 32);
    out[4 + j / 2] = static_cast<uint8_t>(out[4 + j / 2] | (s & 15) << (4 * (j % 2)));
    high |= (s >> 4) << (2 * j);
    for (size_t i = 0; i < 16; i++) out[8 + 16 * j + i] = static_cast<uint8_t>(parts[j].q[i] | parts[j].q[i + 16] << 4);
  }
  out[2] = static_cast<uint8_t>(high);
  out[3] = static_cast<uint8_t>(high >> 8);
  return true;
}

}  // namespace

bool quantize_super(Type type, const float* x, uint8_t* out) {
  switch (type) {
    case Type::kQ2_K: return q2_k(x, out);
    case Type::kQ3_K: return q3_k(x, out);
    case Type::kQ4_K: return q45_k(false, x, out);
    case Type::kQ5_K: return q45_k(true, x, out);
    case Type::kQ6_K: return q6_k(x, out);
    case Type::kIQ4_XS: return iq4_xs(x, out);
    default: return false;
  }
}

}  // namespace zg::quant
