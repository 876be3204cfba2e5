// Short Weierstrass curves y² = x³ + ax + b in Jacobian coordinates over any field type with +, −, *, squared, doubled, negated, inverse, is_zero.
// Formulas: Explicit-Formulas Database, g1p/auto-shortw-jacobian (dbl-2009-l for a = 0, dbl-2001-b for a = −3, madd-2007-bl, add-2007-bl).
// Variable time.
#pragma once

#include <cstdint>
#include <span>

#include "base/u256.h"

namespace zg {

template <class F>
struct Affine {
  F x, y;
  bool infinity = false;
  [[nodiscard]] Affine negated() const noexcept { return {x, y.negated(), infinity}; }
};

enum class CurveA { zero, minus_three };

template <class F, CurveA A>
struct Jacobian {
  F x, y, z;  // z = 0: infinity

  static Jacobian infinity() noexcept { return {F::one(), F::one(), F{}}; }
  static Jacobian from(const Affine<F>& p) noexcept { return p.infinity ? infinity() : Jacobian{p.x, p.y, F::one()}; }
  [[nodiscard]] bool is_infinity() const noexcept { return z.is_zero(); }
  [[nodiscard]] Jacobian negated() const noexcept { return {x, y.negated(), z}; }

  [[nodiscard]] Jacobian twice() const noexcept {
    if constexpr (A == CurveA::zero) {
      const F a = x.squared(), b = y.squared(), c = b.squared();
      const F d = ((x + b).squared() - a - c).doubled();
      const F e = a.doubled() + a;
      const F x3 = e.squared() - d.doubled();
      const F y3 = e * (d - x3) - c.doubled().doubled().doubled();
      return {x3, y3, (y * z).doubled()};
    } else {
      const F delta = z.squared(), gamma = y.squared(), beta = x * gamma;
      const F t = (x - delta) * (x + delta);
      const F alpha = t.doubled() + t;
      const F beta4 = beta.doubled().doubled();
      const F x3 = alpha.squared() - beta4.doubled();
      const F z3 = (y + z).squared() - gamma - delta;
      const F y3 = alpha * (beta4 - x3) - gamma.squared().doubled().doubled().doubled();
      return {x3, y3, z3};
    }
  }

  [[nodiscard]] Jacobian plus(const Affine<F>& q) const noexcept {
    if (q.infinity) return *this;
    if (is_infinity()) return from(q);
    const F zz = z.squared();
    const F h = q.x * zz - x;
    const F s = q.y * z * zz - y;
    if (h.is_zero()) return s.is_zero() ? twice() : infinity();
    const F hh = h.squared(), hhh = h * hh, v = x * hh;
    const F x3 = s.squared() - hhh - v.doubled();
    return {x3, s * (v - x3) - y * hhh, z * h};
  }

  [[nodiscard]] Jacobian plus(const Jacobian& q) const noexcept {
    if (q.is_infinity()) return *this;
    if (is_infinity()) return q;
    const F z1 = z.squared(), z2 = q.z.squared();
    const F u1 = x * z2, s1 = y * q.z * z2;
    const F h = q.x * z1 - u1, s = q.y * z * z1 - s1;
    if (h.is_zero()) return s.is_zero() ? twice() : infinity();
    const F hh = h.squared(), hhh = h * hh, v = u1 * hh;
    const F x3 = s.squared() - hhh - v.doubled();
    return {x3, s * (v - x3) - s1 * hhh, z * q.z * h};
  }

  [[nodiscard]] Affine<F> affine() const noexcept {
    if (is_infinity()) return {F{}, F{}, true};
    const F i = z.inverse(), ii = i.squared();
    return {x * ii, y * ii * i, false};
  }
};

// Odd multiples P, 3P, …, (2N−1)P in affine form, with one inversion. P is not infinity and its order is above 2N.
template <int N, class F, CurveA A>
void odd_multiples(const Affine<F>& p, Affine<F> (&out)[N]) noexcept {
  Jacobian<F, A> all[N];
  all[0] = Jacobian<F, A>::from(p);
  const auto two = all[0].twice();
  for (int i = 1; i < N; ++i) all[i] = all[i - 1].plus(two);
  F product[N];
  product[0] = all[0].z;
  for (int i = 1; i < N; ++i) product[i] = product[i - 1] * all[i].z;
  F inverse = product[N - 1].inverse();
  for (int i = N; i-- > 0;) {
    const F zi = i == 0 ? inverse : inverse * product[i - 1];
    if (i != 0) inverse = inverse * all[i].z;
    const F zz = zi.squared();
    out[i] = {all[i].x * zz, all[i].y * zz * zi, false};
  }
}

// Digits of a number in non-adjacent form of a window: odd or 0, below 2^(window−1) in absolute value, at least window−1 zeros between.
// `out` has 258 places; the answer is how many are used.
inline int naf_digits(U256 k, int window, int8_t (&out)[258]) noexcept {
  std::memset(out, 0, sizeof out);
  const uint64_t full = uint64_t{1} << window;
  uint64_t over = 0;  // bit 256
  int top = 0;
  for (int i = 0; !(k.is_zero() && over == 0);) {
    if ((k.w[0] & 1) == 0) {
      const int n = k.w[0] == 0 ? 63 : std::countr_zero(k.w[0]);
      k = k >> static_cast<unsigned>(n);
      if (over != 0) {
        const unsigned at = 256u - static_cast<unsigned>(n);
        k.w[at / 64] |= uint64_t{1} << (at % 64);
        over = 0;
      }
      i += n;
      continue;
    }
    const uint64_t low = k.w[0] & (full - 1);
    if (low >= full / 2) {
      out[i] = static_cast<int8_t>(static_cast<int64_t>(low) - static_cast<int64_t>(full));
      if (!add_checked(k, U256{full - low}, k)) over = 1;
    } else {
      out[i] = static_cast<int8_t>(low);
      k = k - U256{low};
    }
    top = i + 1;
  }
  return top;
}

}  // namespace zg
