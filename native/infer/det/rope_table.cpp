#include "rope_table.h"

#include <algorithm>

namespace zg::det {
namespace {

Dd whole(double v) { return {v, 0}; }

// Integer at or below (above) a value; the corrections of YaRN are far from integers except by design.
double floor_dd(Dd a) {
  const double f = std::floor(a.hi);
  return f == a.hi && a.lo < 0 ? f - 1 : f;
}
double ceil_dd(Dd a) {
  const double c = std::ceil(a.hi);
  return c == a.hi && a.lo > 0 ? c + 1 : c;
}

}  // namespace

RopeRows::RopeRows(const RopeParameters& p) : frequency_(p.dims / 2), magnitude_(whole(1)) {
  const uint32_t pairs = p.dims / 2;
  const Dd log_base = log_dd(whole(static_cast<double>(p.base)));
  for (uint32_t i = 0; i < pairs; i++) {
    Dd f = exp_dd(-(log_base * whole(2.0 * i) / whole(p.dims)));
    if (!p.divisors.empty()) f = f / whole(static_cast<double>(p.divisors[i]));
    if (p.linear != 1.0f) f = f / whole(static_cast<double>(p.linear));
    frequency_[i] = f;
  }
  if (p.yarn) {
    const Dd factor = whole(static_cast<double>(p.yarn_factor));
    const Dd two_pi = scaled(kHalfPi, 4);
    const auto corrected = [&](float beta) {
      const Dd turns = whole(p.original_context) / (two_pi * whole(static_cast<double>(beta)));
      return whole(p.dims) * log_dd(turns) / scaled(log_base, 2);
    };
    const double low = std::max(0.0, floor_dd(corrected(p.beta_fast)));
    const double high = std::min(p.dims - 1.0, ceil_dd(corrected(p.beta_slow)));
    const Dd span = high - low > 0.001 ? whole(high - low) : whole(1) / whole(1000);
    for (uint32_t i = 0; i < pairs; i++) {
      Dd ramp = whole(i - low) / span;
      if (less(ramp, whole(0))) ramp = whole(0);
      if (less(whole(1), ramp)) ramp = whole(1);
      const Dd keep = whole(1) - ramp;
      frequency_[i] = frequency_[i] * (keep + ramp / factor);
    }
    magnitude_ = p.attention_factor > 0 ? whole(static_cast<double>(p.attention_factor))
                                        : whole(1) + log_dd(factor) / whole(10);
  }
}

void RopeRows::row(uint32_t position, float* out, uint32_t stride, uint32_t sine_at) const {
  for (uint32_t i = 0; i < pairs(); i++) {
    Dd sine;
    Dd cosine;
    sin_cos_dd(frequency_[i] * whole(position), &sine, &cosine);
    out[size_t{i} * stride] = nearest_float(cosine * magnitude_);
    out[size_t{i} * stride + sine_at] = nearest_float(sine * magnitude_);
  }
}

std::vector<float> rope_table(const RopeParameters& p, uint32_t positions) {
  const RopeRows rows(p);
  std::vector<float> table(size_t{positions} * p.dims);
  for (uint32_t t = 0; t < positions; t++) rows.row(t, table.data() + size_t{t} * p.dims, 2, 1);
  return table;
}

}  // namespace zg::det
