// The tower over the base field of BN254 (alt_bn128): Fp2 = Fp[i]/(i²+1), Fp6 = Fp2[v]/(v³−ξ), Fp12 = Fp6[w]/(w²−v), ξ = 9 + i.
// Devegili et al., "Multiplication and squaring on pairing-friendly fields"; Granger and Scott for squaring in the cyclotomic subgroup.
#pragma once

#include "crypto/field256.h"

namespace zg::bn254 {

inline constexpr U256 kP{0x3c208c16d87cfd47ULL, 0x97816a916871ca8dULL, 0xb85045b68181585dULL, 0x30644e72e131a029ULL};
inline constexpr U256 kR{0x43e1f593f0000001ULL, 0x2833e84879b97091ULL, 0xb85045b68181585dULL, 0x30644e72e131a029ULL};

using Fp = Prime<kP>;

struct Fp2 {
  Fp a, b;  // a + b·i

  static Fp2 one() noexcept { return {Fp::one(), Fp{}}; }
  [[nodiscard]] bool is_zero() const noexcept { return a.is_zero() && b.is_zero(); }
  friend bool operator==(const Fp2& x, const Fp2& y) noexcept { return x.a == y.a && x.b == y.b; }
  friend Fp2 operator+(const Fp2& x, const Fp2& y) noexcept { return {x.a + y.a, x.b + y.b}; }
  friend Fp2 operator-(const Fp2& x, const Fp2& y) noexcept { return {x.a - y.a, x.b - y.b}; }
  friend Fp2 operator*(const Fp2& x, const Fp2& y) noexcept {
    const Fp t = x.a * y.a, u = x.b * y.b;
    return {t - u, (x.a + x.b) * (y.a + y.b) - t - u};
  }
  friend Fp2 operator*(const Fp2& x, const Fp& k) noexcept { return {x.a * k, x.b * k}; }
  [[nodiscard]] Fp2 squared() const noexcept { return {(a + b) * (a - b), (a * b).doubled()}; }
  [[nodiscard]] Fp2 doubled() const noexcept { return {a.doubled(), b.doubled()}; }
  [[nodiscard]] Fp2 negated() const noexcept { return {a.negated(), b.negated()}; }
  [[nodiscard]] Fp2 conjugate() const noexcept { return {a, b.negated()}; }
  [[nodiscard]] Fp2 inverse() const noexcept {
    const Fp n = (a.squared() + b.squared()).inverse();
    return {a * n, (b * n).negated()};
  }
  [[nodiscard]] Fp2 times_xi() const noexcept {
    const Fp a9 = a.doubled().doubled().doubled() + a, b9 = b.doubled().doubled().doubled() + b;
    return {a9 - b, b9 + a};
  }
};

struct Fp6 {
  Fp2 c0, c1, c2;

  static Fp6 one() noexcept { return {Fp2::one(), Fp2{}, Fp2{}}; }
  friend bool operator==(const Fp6& x, const Fp6& y) noexcept { return x.c0 == y.c0 && x.c1 == y.c1 && x.c2 == y.c2; }
  friend Fp6 operator+(const Fp6& x, const Fp6& y) noexcept { return {x.c0 + y.c0, x.c1 + y.c1, x.c2 + y.c2}; }
  friend Fp6 operator-(const Fp6& x, const Fp6& y) noexcept { return {x.c0 - y.c0, x.c1 - y.c1, x.c2 - y.c2}; }
  friend Fp6 operator*(const Fp6& x, const Fp6& y) noexcept {
    const Fp2 t0 = x.c0 * y.c0, t1 = x.c1 * y.c1, t2 = x.c2 * y.c2;
    return {((x.c1 + x.c2) * (y.c1 + y.c2) - t1 - t2).times_xi() + t0,
            (x.c0 + x.c1) * (y.c0 + y.c1) - t0 - t1 + t2.times_xi(), (x.c0 + x.c2) * (y.c0 + y.c2) - t0 - t2 + t1};
  }
  [[nodiscard]] Fp6 negated() const noexcept { return {c0.negated(), c1.negated(), c2.negated()}; }
  [[nodiscard]] Fp6 times_v() const noexcept { return {c2.times_xi(), c0, c1}; }
  [[nodiscard]] Fp6 scaled(const Fp2& k) const noexcept { return {c0 * k, c1 * k, c2 * k}; }
  // By a + b·v.
  [[nodiscard]] Fp6 times_01(const Fp2& a, const Fp2& b) const noexcept {
    const Fp2 t0 = c0 * a, t1 = c1 * b;
    return {((c1 + c2) * b - t1).times_xi() + t0, (c0 + c1) * (a + b) - t0 - t1, (c0 + c2) * a - t0 + t1};
  }
  [[nodiscard]] Fp6 inverse() const noexcept {
    const Fp2 t0 = c0.squared() - (c1 * c2).times_xi(), t1 = c2.squared().times_xi() - c0 * c1, t2 = c1.squared() - c0 * c2;
    const Fp2 n = (c0 * t0 + (c2 * t1 + c1 * t2).times_xi()).inverse();
    return {t0 * n, t1 * n, t2 * n};
  }
};

struct Fp12 {
  Fp6 c0, c1;

  static Fp12 one() noexcept { return {Fp6::one(), Fp6{}}; }
  [[nodiscard]] bool is_one() const noexcept { return c0 == Fp6::one() && c1 == Fp6{}; }
  friend Fp12 operator*(const Fp12& x, const Fp12& y) noexcept {
    const Fp6 t0 = x.c0 * y.c0, t1 = x.c1 * y.c1;
    return {t0 + t1.times_v(), (x.c0 + x.c1) * (y.c0 + y.c1) - t0 - t1};
  }
  [[nodiscard]] Fp12 squared() const noexcept {
    const Fp6 t = c0 * c1;
    return {(c0 + c1) * (c0 + c1.times_v()) - t - t.times_v(), t + t};
  }
  // The inverse of an element whose norm to Fp6 is 1.
  [[nodiscard]] Fp12 conjugate() const noexcept { return {c0, c1.negated()}; }
  [[nodiscard]] Fp12 inverse() const noexcept {
    const Fp6 n = (c0 * c0 - (c1 * c1).times_v()).inverse();
    return {c0 * n, (c1 * n).negated()};
  }
  // By a line a + (b + c·v)·w.
  [[nodiscard]] Fp12 times_line(const Fp2& a, const Fp2& b, const Fp2& c) const noexcept {
    const Fp6 t0 = c0.scaled(a), t1 = c1.times_01(b, c);
    return {t0 + t1.times_v(), (c0 + c1).times_01(a + b, c) - t0 - t1};
  }
  // Only after the easy part of the final exponentiation.
  [[nodiscard]] Fp12 cyclotomic_squared() const noexcept {
    struct Pair {
      Fp2 x, y;
    };
    const auto fp4 = [](const Fp2& x, const Fp2& y) noexcept -> Pair {
      const Fp2 t = x * y;
      return {(x + y) * (y.times_xi() + x) - t - t.times_xi(), t.doubled()};
    };
    const auto minus = [](const Fp2& t, const Fp2& z) noexcept { return (t - z).doubled() + t; };
    const auto plus = [](const Fp2& t, const Fp2& z) noexcept { return (t + z).doubled() + t; };
    const Pair p = fp4(c0.c0, c1.c1), q = fp4(c1.c0, c0.c2), r = fp4(c0.c1, c1.c2);
    return {{minus(p.x, c0.c0), minus(q.x, c0.c1), minus(r.x, c0.c2)},
            {plus(r.y.times_xi(), c1.c0), plus(p.y, c1.c1), plus(q.y, c1.c2)}};
  }
};

}  // namespace zg::bn254
