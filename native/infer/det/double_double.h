// Numbers of about 106 bits as unevaluated sums of two doubles, with the four functions that RoPE tables need. Errors are a few
// units of 2⁻¹⁰⁰, which leaves the nearest float in doubt about once in 2⁷⁰ entries.
#pragma once

#include <cmath>

namespace zg::det {

struct Dd {
  double hi = 0;
  double lo = 0;
};

inline Dd quick_sum(double a, double b) {
  const double s = a + b;
  return {s, b - (s - a)};
}
inline Dd two_sum(double a, double b) {
  const double s = a + b;
  const double t = s - a;
  return {s, (a - (s - t)) + (b - t)};
}
inline Dd operator+(Dd a, Dd b) {
  Dd s = two_sum(a.hi, b.hi);
  const Dd t = two_sum(a.lo, b.lo);
  s = quick_sum(s.hi, s.lo + t.hi);
  return quick_sum(s.hi, s.lo + t.lo);
}
inline Dd operator-(Dd a) { return {-a.hi, -a.lo}; }
inline Dd operator-(Dd a, Dd b) { return a + -b; }
inline Dd operator*(Dd a, Dd b) {
  const double p = a.hi * b.hi;
  const double e = std::fma(a.hi, b.hi, -p) + (a.hi * b.lo + a.lo * b.hi);
  return quick_sum(p, e);
}
inline Dd operator/(Dd a, Dd b) {
  const double q1 = a.hi / b.hi;
  Dd r = a - b * Dd{q1, 0};
  const double q2 = r.hi / b.hi;
  r = r - b * Dd{q2, 0};
  const double q3 = r.hi / b.hi;
  return quick_sum(q1, q2) + Dd{q3, 0};
}
inline Dd scaled(Dd a, double power_of_two) { return {a.hi * power_of_two, a.lo * power_of_two}; }
inline bool less(Dd a, Dd b) { return a.hi < b.hi || (a.hi == b.hi && a.lo < b.lo); }

// The float nearest to a.
inline float nearest_float(Dd a) {
  const float f = static_cast<float>(a.hi);
  // What is left of a, exact up to the last bits of lo, against half the distance to the neighbour on its side.
  const Dd rest = two_sum(a.hi - static_cast<double>(f), a.lo);
  if (rest.hi == 0) return f;
  const float next = std::nextafterf(f, rest.hi > 0 ? INFINITY : -INFINITY);
  const double half = (static_cast<double>(next) - static_cast<double>(f)) / 2;
  const Dd over = rest.hi > 0 ? rest - Dd{half, 0} : Dd{half, 0} - rest;
  return over.hi > 0 ? next : f;
}

// π/2, ln 2.
inline constexpr Dd kHalfPi = {1.5707963267948966, 6.123233995736766e-17};
inline constexpr Dd kLn2 = {0.6931471805599453, 2.3190468138462996e-17};

inline Dd exp_dd(Dd x) {
  const double k = std::nearbyint(x.hi / kLn2.hi);
  // |r| < 0.35 / 512.
  const Dd r = scaled(x - kLn2 * Dd{k, 0}, 1.0 / 512);
  // e^r − 1, so that squaring loses nothing.
  Dd term = r;
  Dd sum = r;
  for (int i = 2; i <= 12; i++) {
    term = term * r / Dd{static_cast<double>(i), 0};
    sum = sum + term;
  }
  for (int i = 0; i < 9; i++) sum = scaled(sum, 2) + sum * sum;
  const Dd e = sum + Dd{1, 0};
  return {std::ldexp(e.hi, static_cast<int>(k)), std::ldexp(e.lo, static_cast<int>(k))};
}

// x > 0.
inline Dd log_dd(Dd x) {
  Dd y = {std::log(x.hi), 0};
  for (int i = 0; i < 2; i++) y = y + x * exp_dd(-y) - Dd{1, 0};
  return y;
}

// Sine and cosine, |a| < 2³⁰.
inline void sin_cos_dd(Dd a, Dd* sine, Dd* cosine) {
  const double q = std::nearbyint(a.hi / kHalfPi.hi);
  const Dd r = a - kHalfPi * Dd{q, 0};
  const Dd z = r * r;
  Dd s = r;
  Dd c = {1, 0};
  Dd st = r;
  Dd ct = c;
  for (int i = 1; i <= 14; i++) {
    const double n = 2.0 * i;
    ct = -(ct * z / Dd{n * (n - 1), 0});
    st = -(st * z / Dd{n * (n + 1), 0});
    c = c + ct;
    s = s + st;
  }
  switch (static_cast<long long>(q) & 3) {
    case 0: *sine = s; *cosine = c; break;
    case 1: *sine = c; *cosine = -s; break;
    case 2: *sine = -s; *cosine = -c; break;
    default: *sine = -c; *cosine = s; break;
  }
}

}  // namespace zg::det
