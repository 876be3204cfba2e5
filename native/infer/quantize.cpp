#include "quantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace zg {
namespace quant {

namespace {

// Scales tried beside the plain one: the range is widened or narrowed by so many steps of this part of a quant each way.
constexpr int kSteps = 8;
constexpr float kStep = 0.1f;

constexpr int8_t kIq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
// Twice the E2M1 values of codes 0 … 7.
constexpr float kMx[8] = {0, 1, 2, 3, 4, 6, 8, 12};

// The value of largest magnitude, with its sign; the first of equals.
float extreme(const float* x, size_t n) {
  float best = 0;
  for (size_t i = 0; i < n; i++) {
    if (std::fabs(x[i]) > std::fabs(best)) best = x[i];
  }
  return best;
}

float error_of(const float* x, size_t n, float d, int least, int most) {
  if (d == 0) return INFINITY;
  const float inverse = 1.0f / d;
  float error = 0;
  for (size_t i = 0; i < n; i++) {
    const float t = std::clamp(x[i] * inverse, static_cast<float>(least), static_cast<float>(most));
    const float e = x[i] - d * static_cast<float>(nearest(t));
    error += e * e;
  }
  return error;
}

void put_nibbles(const uint8_t* q, uint8_t* to) {
  for (int i = 0; i < 16; i++) to[i] = static_cast<uint8_t>((q[i] & 15) | (q[i + 16] & 15) << 4);
}

void put_fifth(const uint8_t* q, uint8_t* to) {
  uint32_t high = 0;
  for (uint32_t i = 0; i < 32; i++) high |= static_cast<uint32_t>(q[i] >> 4) << i;
  std::memcpy(to, &high, sizeof high);
}

// Codes of a block with scale alone, offset added. d is as the file will have it.
void codes_of(const float* x, float d, int least, int most, uint8_t* q) {
  for (int i = 0; i < 32; i++) {
    const float t = d == 0 ? 0 : std::clamp(x[i] / d, static_cast<float>(least), static_cast<float>(most));
    q[i] = static_cast<uint8_t>(nearest(t) - least);
  }
}

bool scaled(const float* x, int bits, uint8_t* out) {
  const int most = (1 << (bits - 1)) - 1;
  const float d = half(fit_scale(x, 32, -most - 1, most));
  if (!std::isfinite(d)) return false;
  uint8_t q[32];
  codes_of(x, d, -most - 1, most, q);
  put_half(out, d);
  if (bits == 5) put_fifth(q, out + 2);
  put_nibbles(q, out + (bits == 5 ? 6 : 2));
  return true;
}

bool ranged(const float* x, int bits, uint8_t* out) {
  const int most = (1 << bits) - 1;
  float d = 0;
  float m = 0;
  fit_range(x, 32, most, false, &d, &m);
  d = half(d);
  m = half(-m);
  if (!std::isfinite(d) || !std::isfinite(m)) return false;
  uint8_t q[32];
  for (int i = 0; i < 32; i++) {
    const float t = d == 0 ? 0 : std::clamp((x[i] - m) / d, 0.0f, static_cast<float>(most));
    q[i] = static_cast<uint8_t>(nearest(t));
  }
  put_half(out, d);
  put_half(out + 2, m);
  if (bits == 5) put_fifth(q, out + 4);
  put_nibbles(q, out + (bits == 5 ? 8 : 4));
  return true;
}

bool eight_bits(const float* x, uint8_t* out) {
  const float d = half(std::fabs(extreme(x, 32)) / 127.0f);
  if (!std::isfinite(d)) return false;
  put_half(out, d);
  for (int i = 0; i < 32; i++) {
    const float t = d == 0 ? 0 : std::clamp(x[i] / d, -127.0f, 127.0f);
    out[2 + i] = static_cast<uint8_t>(static_cast<int8_t>(nearest(t)));
  }
  return true;
}

bool iq4_nl(const float* x, uint8_t* out) {
  const float d = half(fit_table(x, 32, kIq4));
  if (!std::isfinite(d)) return false;
  uint8_t q[32];
  for (int i = 0; i < 32; i++) q[i] = static_cast<uint8_t>(nearest_entry(kIq4, d == 0 ? 0 : x[i] / d));
  put_half(out, d);
  put_nibbles(q, out + 2);
  return true;
}

uint8_t mx_code(float v) {
  const float a = std::fabs(v);
  int best = 0;
  for (int i = 1; i < 8; i++) {
    if (std::fabs(a - kMx[i]) < std::fabs(a - kMx[best])) best = i;
  }
  return static_cast<uint8_t>(best | (v < 0 && best > 0 ? 8 : 0));
}

bool mxfp4(const float* x, uint8_t* out) {
  const float a = std::fabs(extreme(x, 32));
  if (a > 12 * 0x1p126f) return false;
  uint8_t best[32] = {};
  int chosen = 0;
  float least = INFINITY;
  // The power of two that just holds the largest value, the one below, which cuts it, and the one above.
  const int middle = a == 0 ? 0 : clamp(std::ilogb(a / 12.0f) + 129, 0, 254);
  for (int e = std::max(0, middle - 1); e <= std::min(254, middle + 1); e++) {
    const float d = det::mx_scale(static_cast<uint32_t>(e));
    uint8_t q[32];
    float error = 0;
    for (int i = 0; i < 32; i++) {
      q[i] = mx_code(x[i] / d);
      const float v = kMx[q[i] & 7] * d;
      const float off = x[i] - ((q[i] & 8) != 0 ? -v : v);
      error += off * off;
    }
    if (!(error < least)) continue;
    least = error;
    chosen = e;
    std::memcpy(best, q, sizeof best);
  }
  out[0] = static_cast<uint8_t>(chosen);
  put_nibbles(best, out + 1);
  return true;
}

bool float_row(det::Type type, const float* x, size_t count, uint8_t* out) {
  for (size_t i = 0; i < count; i++) {
    if (type == det::Type::kF32) {
      std::memcpy(out + 4 * i, &x[i], 4);
      continue;
    }
    uint16_t v = det::float_half(x[i]);
    if (type == det::Type::kBF16) {
      const uint32_t b = det::bits_of(x[i]);
      v = static_cast<uint16_t>((b + 0x7fffu + (b >> 16 & 1u)) >> 16);
      if ((v & 0x7f80u) == 0x7f80u) return false;
    } else if ((v & 0x7c00u) == 0x7c00u) {
      return false;
    }
    std::memcpy(out + 2 * i, &v, 2);
  }
  return true;
}

bool block(det::Type type, const float* x, uint8_t* out) {
  switch (type) {
    case det::Type::kQ4_0: return scaled(x, 4, out);
    case det::Type::kQ5_0: return scaled(x, 5, out);
    case det::Type::kQ4_1: return ranged(x, 4, out);
    case det::Type::kQ5_1: return ranged(x, 5, out);
    case det::Type::kQ8_0: return eight_bits(x, out);
    case det::Type::kIQ4_NL: return iq4_nl(x, out);
    case det::Type::kMXFP4: return mxfp4(x, out);
    default: return quantize_super(type, x, out);
  }
}

}  // namespace

void put_half(uint8_t* at, float v) {
  const uint16_t h = det::float_half(v);
  std::memcpy(at, &h, sizeof h);
}

int nearest_entry(const int8_t* table, float v) {
  int low = 0;
  int high = 15;
  if (v <= table[0]) return 0;
  if (v >= table[15]) return 15;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (v < table[middle] ? high : low) = middle;
  }
  return v - static_cast<float>(table[low]) <= static_cast<float>(table[high]) - v ? low : high;
}

float fit_scale(const float* x, size_t n, int least, int most) {
  const float far = extreme(x, n);
  if (far == 0) return 0;
  float best = 0;
  float lowest = INFINITY;
  const auto consider = [&](float d) {
    const float error = error_of(x, n, d, least, most);
    if (error < lowest) lowest = error, best = d;
  };
  for (int step = -kSteps; step <= kSteps; step++) {
    // The largest value lies at the wider end, or beyond it by part of a quant.
    const float d = far / (static_cast<float>(least) - kStep * static_cast<float>(step));
    const float inverse = 1.0f / d;
    float xq = 0;
    float qq = 0;
    for (size_t i = 0; i < n; i++) {
      const auto q = static_cast<float>(nearest(std::clamp(x[i] * inverse, static_cast<float>(least), static_cast<float>(most))));
      xq += x[i] * q;
      qq += q * q;
    }
    if (step == 0) consider(d);
    if (qq > 0) consider(xq / qq);
  }
  return best;
}

void fit_range(const float* x, size_t n, int most, bool positive_minimum, float* d, float* m) {
  float low = x[0];
  float high = x[0];
  float sum = 0;
  for (size_t i = 0; i < n; i++) {
    low = std::min(low, x[i]);
    high = std::max(high, x[i]);
    sum += x[i];
  }
  if (positive_minimum) low = std::min(low, 0.0f), high = std::max(high, 0.0f);
  *d = 0;
  *m = -low;
  if (high == low) return;
  const auto top = static_cast<float>(most);
  const auto count = static_cast<float>(n);
  float lowest = INFINITY;
  const auto consider = [&](float scale, float base) {
    if (!(scale > 0) || (positive_minimum && base > 0)) return;
    float error = 0;
    for (size_t i = 0; i < n; i++) {
      const auto q = static_cast<float>(nearest(std::clamp((x[i] - base) / scale, 0.0f, top)));
      const float e = x[i] - (scale * q + base);
      error += e * e;
    }
    if (error < lowest) lowest = error, *d = scale, *m = -base;
  };
  for (int step = -kSteps; step <= kSteps; step++) {
    const float scale = (high - low) / (top + 2 * kStep * static_cast<float>(step));
    float xq = 0;
    float qq = 0;
    float q1 = 0;
    for (size_t i = 0; i < n; i++) {
      const auto q = static_cast<float>(nearest(std::clamp((x[i] - low) / scale, 0.0f, top)));
      xq += x[i] * q;
      qq += q * q;
      q1 += q;
    }
    if (step == 0) consider(scale, low);
    const float spread = count * qq - q1 * q1;
    if (spread > 0) {
      const float fitted = (count * xq - sum * q1) / spread;
      const float base = (sum - fitted * q1) / count;
      if (positive_minimum && base > 0) {
        if (qq > 0) consider(xq / qq, 0);
      } else {
        consider(fitted, base);
      }
    }
  }
}

float fit_table(const float* x, size_t n, const int8_t* table) {
  const float far = extreme(x, n);
  if (far == 0) return 0;
  float best = 0;
  float lowest = INFINITY;
  const auto consider = [&](float d) {
    if (d == 0) return;
    float error = 0;
    for (size_t i = 0; i < n; i++) {
      const float e = x[i] - d * static_cast<float>(table[nearest_entry(table, x[i] / d)]);
      error += e * e;
    }
    if (error < lowest) lowest = error, best = d;
  };
  // The largest value at either end of the table, or beyond it by part of a step.
  for (const int8_t end : {table[0], table[15]}) {
    for (int step = -kSteps / 2; step <= kSteps / 2; step++) {
      const float d = far / (static_cast<float>(end) * (1.0f + 0.03f * static_cast<float>(step)));
      float xt = 0;
      float tt = 0;
      for (size_t i = 0; i < n; i++) {
        const auto v = static_cast<float>(table[nearest_entry(table, x[i] / d)]);
        xt += x[i] * v;
        tt += v * v;
      }
      if (step == 0) consider(d);
      if (tt > 0) consider(xt / tt);
    }
  }
  return best;
}

}  // namespace quant

bool quantize_row(det::Type type, const float* x, size_t count, uint8_t* out) noexcept {
  for (size_t i = 0; i < count; i++) {
    if (!det::is_finite(x[i])) return false;
  }
  if (det::is_float_type(type)) return quant::float_row(type, x, count, out);
  const det::TypeShape shape = det::type_shape(type);
  for (size_t i = 0; i < count; i += shape.values, out += shape.bytes) {
    if (!quant::block(type, x + i, out)) return false;
  }
  return true;
}

}  // namespace zg
