#include "crypto/bn254.h"

namespace zg::bn254 {
namespace {

using J1 = Jacobian<Fp, CurveA::zero>;
using J2 = Jacobian<Fp2, CurveA::zero>;

constexpr uint64_t kX = 0x44e992b44a6909f1ULL;  // p and r are polynomials in it

// What follows from the modulus.
struct Constants {
  Fp b = Fp::from(U256{3});
  Fp2 b2;                // 3/ξ
  Fp2 gamma2, gamma3;    // ξ^((p−1)/3), ξ^((p−1)/2)
  // The endomorphism (x, y) → (βx, y) multiplies by λ in the group; a basis of {(u, v): u + vλ = 0 mod r} is (a1, −a2), (a2, b2v).
  Fp beta = Fp::from(U256{0xe4bd44e5607cfd48ULL, 0xc28f069fbb966e3dULL, 0x5e6dd9e7e0acccb0ULL, 0x30644e72e131a029ULL});
  Constants() noexcept {
    const Fp2 xi = Fp2::one().times_xi();
    b2 = xi.inverse() * b;
    const U256 e = divided_by_6(kP - U256{1});
    Fp2 g = Fp2::one();
    for (unsigned i = e.bit_width(); i-- > 0;) {
      g = g.squared();
      if (((e.w[i / 64] >> (i % 64)) & 1) != 0) g = g * xi;
    }
    gamma2 = g.squared();
    gamma3 = gamma2 * g;
  }
  static U256 divided_by_6(const U256& x) noexcept {
    U256 q;
    unsigned __int128 rest = 0;
    for (int i = 3; i >= 0; --i) {
      rest = rest << 64 | x.w[i];
      q.w[i] = static_cast<uint64_t>(rest / 6);
      rest %= 6;
    }
    return q;
  }
};
const Constants& constants() noexcept {
  static const Constants c;
  return c;
}

// p-power Frobenius seen on the twist.
G2 frobenius(const G2& q) noexcept {
  return {q.x.conjugate() * constants().gamma2, q.y.conjugate() * constants().gamma3, q.infinity};
}
J2 frobenius(const J2& q) noexcept {
  return {q.x.conjugate() * constants().gamma2, q.y.conjugate() * constants().gamma3, q.z.conjugate()};
}

bool on_curve(const G2& q) noexcept { return q.y.squared() == q.x.squared() * q.x + constants().b2; }

// [x+1]Q + ψ([x]Q) + ψ²([x]Q) = ψ³([2x]Q): Dai, Lin, Zhao, Zhou, "Fast subgroup membership testings for G1, G2 and GT" (2022).
bool in_subgroup(const G2& q) noexcept {
  J2 xq = J2::from(q);
  for (int i = 61; i >= 0; --i) {
    xq = xq.twice();
    if (((kX >> i) & 1) != 0) xq = xq.plus(q);
  }
  const J2 one = frobenius(xq), two = frobenius(one);
  const J2 left = xq.plus(q).plus(one).plus(two);
  const J2 right = frobenius(two).twice();
  if (left.is_infinity() || right.is_infinity()) return left.is_infinity() && right.is_infinity();
  const Fp2 zl = left.z.squared(), zr = right.z.squared();
  return left.x * zr == right.x * zl && left.y * zr * right.z == right.y * zl * left.z;
}

// The high half of a product of 256 bits with up to 192 bits.
U256 multiply_high(const U256& a, const U256& b) noexcept {
  uint64_t t[8] = {};
  for (int i = 0; i < 4; ++i) {
    uint64_t carry = 0;
    for (int j = 0; j < 4; ++j) {
      const unsigned __int128 c = static_cast<unsigned __int128>(a.w[i]) * b.w[j] + t[i + j] + carry;
      t[i + j] = static_cast<uint64_t>(c);
      carry = static_cast<uint64_t>(c >> 64);
    }
    t[i + 4] = carry;
  }
  return {t[4], t[5], t[6], t[7]};
}

// Lines of the Miller loop: homogeneous projective point on the twist, formulas of Aranha et al., "The realm of the pairings" (2013).
struct Line {
  Fp2 a, b, c;
};
struct Runner {
  Fp2 x, y, z;

  Line twice() noexcept {
    static const Fp half = Fp::from(U256{2}).inverse();
    const Fp2 a = x * y * half, b = y.squared(), c = z.squared();
    const Fp2 e = constants().b2 * (c.doubled() + c), f = e.doubled() + e;
    const Fp2 g = (b + f) * half, h = (y + z).squared() - b - c, j = x.squared(), ee = e.squared();
    x = a * (b - f);
    y = g.squared() - ee.doubled() - ee;
    z = b * h;
    return {h.negated(), j.doubled() + j, e - b};
  }
  Line add(const G2& q) noexcept {
    const Fp2 theta = y - q.y * z, lambda = x - q.x * z;
    const Fp2 c = theta.squared(), d = lambda.squared(), e = lambda * d, f = z * c, g = x * d;
    const Fp2 h = e + f - g.doubled();
    x = lambda * h;
    y = theta * (g - h) - e * y;
    z = z * e;
    return {lambda, theta.negated(), theta * q.x - lambda * q.y};
  }
};

// Signed digits of 6x + 2, highest first after the leading 1.
struct LoopDigits {
  int8_t digit[66];
  int count = 0;
  LoopDigits() noexcept {
    const U256 six = U256{kX} * U256{6} + U256{2};
    int8_t low_first[258];
    count = naf_digits(six, 2, low_first) - 1;
    for (int i = 0; i < count; ++i) digit[i] = low_first[count - 1 - i];
  }
};

Fp12 miller_loop(std::span<const Pair> pairs, std::span<Runner> runners) noexcept {
  static const LoopDigits loop;
  Fp12 f = Fp12::one();
  const auto eat = [&f](const Line& l, const G1& p) noexcept { f = f.times_line(l.a * p.y, l.b * p.x, l.c); };
  for (size_t i = 0; i < pairs.size(); ++i) runners[i] = {pairs[i].q.x, pairs[i].q.y, Fp2::one()};
  for (int k = 0; k < loop.count; ++k) {
    if (k != 0) f = f.squared();
    for (size_t i = 0; i < pairs.size(); ++i) {
      eat(runners[i].twice(), pairs[i].p);
      if (loop.digit[k] > 0) eat(runners[i].add(pairs[i].q), pairs[i].p);
      if (loop.digit[k] < 0) eat(runners[i].add(pairs[i].q.negated()), pairs[i].p);
    }
  }
  for (size_t i = 0; i < pairs.size(); ++i) {
    const G2 q1 = frobenius(pairs[i].q);
    eat(runners[i].add(q1), pairs[i].p);
    eat(runners[i].add(frobenius(q1).negated()), pairs[i].p);
  }
  return f;
}

Fp12 frobenius(const Fp12& f) noexcept {
  static const struct Gammas {
    Fp2 g[6];
    Gammas() noexcept {
      const Constants& c = constants();
      g[0] = Fp2::one();
      g[1] = c.gamma3 * c.gamma2.inverse();
      for (int i = 2; i < 6; ++i) g[i] = g[i - 1] * g[1];
    }
  } gammas;
  const auto at = [](const Fp2& x, int i) noexcept { return x.conjugate() * gammas.g[i]; };
  return {{f.c0.c0.conjugate(), at(f.c0.c1, 2), at(f.c0.c2, 4)}, {at(f.c1.c0, 1), at(f.c1.c1, 3), at(f.c1.c2, 5)}};
}

// f^(−x) in the cyclotomic subgroup.
Fp12 power_minus_x(const Fp12& f) noexcept {
  static const struct Digits {
    int8_t d[258];
    int count;
    Digits() noexcept { count = naf_digits(U256{kX}, 4, d); }
  } x;
  Fp12 odd[4];  // f, f³, f⁵, f⁷
  odd[0] = f;
  const Fp12 ff = f.cyclotomic_squared();
  for (int i = 1; i < 4; ++i) odd[i] = odd[i - 1] * ff;
  Fp12 r = Fp12::one();
  for (int i = x.count; i-- > 0;) {
    if (i != x.count - 1) r = r.cyclotomic_squared();
    if (x.d[i] > 0) r = r * odd[x.d[i] >> 1];
    if (x.d[i] < 0) r = r * odd[-x.d[i] >> 1].conjugate();
  }
  return r.conjugate();
}

// Fuentes-Castañeda, Knapp, Rodríguez-Henríquez, "Faster hashing to G2" (2011), section 5.
Fp12 final_exponentiation(const Fp12& in) noexcept {
  Fp12 f = in.conjugate() * in.inverse();
  f = frobenius(frobenius(f)) * f;
  const Fp12 y0 = power_minus_x(f), y1 = y0.cyclotomic_squared();
  const Fp12 y3 = y1.cyclotomic_squared() * y1;
  const Fp12 y4 = power_minus_x(y3);
  const Fp12 y6 = power_minus_x(y4.cyclotomic_squared()).conjugate();
  const Fp12 y8 = y6 * y4 * y3.conjugate();
  const Fp12 y9 = y8 * y1;
  const Fp12 y11 = y8 * y4 * f;
  const Fp12 y14 = frobenius(frobenius(y8)) * (frobenius(y9) * y11);
  return frobenius(frobenius(frobenius(f.conjugate() * y9))) * y14;
}

}  // namespace

std::optional<G1> decode_g1(const uint8_t in[64]) noexcept {
  const U256 x = U256::from_be(in), y = U256::from_be(in + 32);
  if (x >= kP || y >= kP) return std::nullopt;
  if (x.is_zero() && y.is_zero()) return G1{{}, {}, true};
  const G1 p{Fp::from(x), Fp::from(y), false};
  if (!(p.y.squared() == p.x.squared() * p.x + constants().b)) return std::nullopt;
  return p;
}

void encode_g1(const G1& p, uint8_t out[64]) noexcept {
  (p.infinity ? U256{} : p.x.number()).to_be(out);
  (p.infinity ? U256{} : p.y.number()).to_be(out + 32);
}

std::optional<G2> decode_g2(const uint8_t in[128]) noexcept {
  U256 n[4];
  bool zero = true;
  for (int i = 0; i < 4; ++i) {
    n[i] = U256::from_be(in + 32 * i);
    if (n[i] >= kP) return std::nullopt;
    zero = zero && n[i].is_zero();
  }
  if (zero) return G2{{}, {}, true};
  const G2 q{{Fp::from(n[1]), Fp::from(n[0])}, {Fp::from(n[3]), Fp::from(n[2])}, false};
  if (!on_curve(q) || !in_subgroup(q)) return std::nullopt;
  return q;
}

G1 g1_generator() noexcept { return {Fp::one(), Fp::one().doubled(), false}; }

G2 g2_generator() noexcept {
  static const G2 g = {{Fp::from({0x46debd5cd992f6edULL, 0x674322d4f75edaddULL, 0x426a00665e5c4479ULL, 0x1800deef121f1e76ULL}),
                        Fp::from({0x97e485b7aef312c2ULL, 0xf1aa493335a9e712ULL, 0x7260bfb731fb5d25ULL, 0x198e9393920d483aULL})},
                       {Fp::from({0x4ce6cc0166fa7daaULL, 0xe3d1e7690c43d37bULL, 0x4aab71808dcb408fULL, 0x12c85ea5db8c6debULL}),
                        Fp::from({0x55acdadcd122975bULL, 0xbc4b313370b38ef3ULL, 0xec9e99ad690c3395ULL, 0x090689d0585ff075ULL})},
                       false};
  return g;
}

G1 add(const G1& a, const G1& b) noexcept { return J1::from(a).plus(b).affine(); }

G1 multiply(const G1& p, const U256& scalar) noexcept {
  if (p.infinity) return p;
  U256 k = scalar;
  while (k >= kR) k = k - kR;  // at most 5 times
  if (k.is_zero()) return {{}, {}, true};
  // k = k1 + k2·λ with halves of about 128 bits.
  constexpr U256 kA1{0x8211bbeb7d4f1128ULL, 0x6f4d8248eeb859fcULL, 0, 0};
  constexpr U256 kA2{0x89d3256894d213e3ULL};
  constexpr U256 kB2{0x0be4e1541221250bULL, 0x6f4d8248eeb859fdULL, 0, 0};
  constexpr U256 kRatio1{0x5398fd0300ff6565ULL, 0x4ccef014a773d2d2ULL, 2, 0};  // 2^256·b2/r, 2^256·a2/r
  constexpr U256 kRatio2{0xd91d232ec7e0b3d7ULL, 2, 0, 0};
  const U256 c1 = multiply_high(k, kRatio1), c2 = multiply_high(k, kRatio2);
  U256 k1 = k - c1 * kA1 - c2 * kA2;
  U256 k2 = c1 * kA2 - c2 * kB2;
  const bool negative1 = k1.negative(), negative2 = k2.negative();
  if (negative1) k1 = -k1;
  if (negative2) k2 = -k2;

  constexpr int kWindow = 5, kSize = 1 << (kWindow - 2);
  Affine<Fp> odd[kSize];
  odd_multiples<kSize, Fp, CurveA::zero>(p, odd);
  int8_t digits1[258], digits2[258];
  const int n1 = naf_digits(k1, kWindow, digits1), n2 = naf_digits(k2, kWindow, digits2);
  J1 sum = J1::infinity();
  for (int i = n1 > n2 ? n1 : n2; i-- > 0;) {
    sum = sum.twice();
    if (const int d = negative1 ? -digits1[i] : digits1[i]; d != 0)
      sum = sum.plus(d > 0 ? odd[d >> 1] : odd[-d >> 1].negated());
    if (const int d = negative2 ? -digits2[i] : digits2[i]; d != 0) {
      const Affine<Fp>& from = odd[(d > 0 ? d : -d) >> 1];
      const Affine<Fp> turned{from.x * constants().beta, from.y, false};
      sum = sum.plus(d > 0 ? turned : turned.negated());
    }
  }
  return sum.affine();
}

G1 sum(std::span<const G1> points) noexcept {
  J1 all = J1::infinity();
  for (const G1& p : points) all = all.plus(p);
  return all.affine();
}

bool pairing_check(std::span<const Pair> pairs) noexcept {
  constexpr size_t kAtOnce = 32;  // bounds the stack; the squarings of one loop are shared
  Pair some[kAtOnce];
  Runner runners[kAtOnce];
  Fp12 f = Fp12::one();
  size_t n = 0;
  for (size_t i = 0; i <= pairs.size(); ++i) {
    if (n == kAtOnce || (i == pairs.size() && n != 0)) {
      f = f * miller_loop({some, n}, {runners, n});
      n = 0;
    }
    if (i < pairs.size() && !pairs[i].p.infinity && !pairs[i].q.infinity) some[n++] = pairs[i];
  }
  return final_exponentiation(f).is_one();
}

}  // namespace zg::bn254
