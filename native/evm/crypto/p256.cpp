#include "crypto/p256.h"

#include "crypto/curve.h"
#include "crypto/field256.h"

namespace zg {
namespace {

constexpr U256 kP{0xffffffffffffffffULL, 0x00000000ffffffffULL, 0, 0xffffffff00000001ULL};
constexpr U256 kN{0xf3b9cac2fc632551ULL, 0xbce6faada7179e84ULL, 0xffffffffffffffffULL, 0xffffffff00000000ULL};
constexpr U256 kB{0x3bce3c3e27d2604bULL, 0x651d06b0cc53b0f6ULL, 0xb3ebbd55769886bcULL, 0x5ac635d8aa3a93e7ULL};
constexpr U256 kGx{0xf4a13945d898c296ULL, 0x77037d812deb33a0ULL, 0xf8bce6e563a440f2ULL, 0x6b17d1f2e12c4247ULL};
constexpr U256 kGy{0xcbb6406837bf51f5ULL, 0x2bce33576b315eceULL, 0x8ee7eb4a7c0f9e16ULL, 0x4fe342e2fe1a7f9bULL};

using Fp = Prime<kP>;
using Fn = Prime<kN>;
using Point = Jacobian<Fp, CurveA::minus_three>;

constexpr int kBaseWindow = 7, kBaseSize = 1 << (kBaseWindow - 2);
constexpr int kWindow = 5, kSize = 1 << (kWindow - 2);

struct BaseTable {
  Affine<Fp> odd[kBaseSize];
  BaseTable() noexcept {
    odd_multiples<kBaseSize, Fp, CurveA::minus_three>({Fp::from(kGx), Fp::from(kGy), false}, odd);
  }
};

template <int N>
void add_digit(Point& sum, const Affine<Fp> (&table)[N], int digit) noexcept {
  if (digit > 0) sum = sum.plus(table[digit >> 1]);
  if (digit < 0) sum = sum.plus(table[-digit >> 1].negated());
}

}  // namespace

bool p256_verify(const Hash& digest, const U256& r, const U256& s, const U256& x, const U256& y) noexcept {
  if (r.is_zero() || r >= kN || s.is_zero() || s >= kN) return false;
  if (x >= kP || y >= kP || (x.is_zero() && y.is_zero())) return false;
  const Affine<Fp> key{Fp::from(x), Fp::from(y), false};
  if (!(key.y.squared() == (key.x.squared() - Fp::from(U256{3})) * key.x + Fp::from(kB))) return false;

  static const BaseTable base;
  const Fn inverse = Fn::from(s).inverse();
  const U256 u1 = (Fn::from(U256::from(digest)) * inverse).number();
  const U256 u2 = (Fn::from(r) * inverse).number();
  Affine<Fp> odd[kSize];
  odd_multiples<kSize, Fp, CurveA::minus_three>(key, odd);
  int8_t digits1[258], digits2[258];
  const int n1 = naf_digits(u1, kBaseWindow, digits1), n2 = naf_digits(u2, kWindow, digits2);
  Point sum = Point::infinity();
  for (int i = n1 > n2 ? n1 : n2; i-- > 0;) {
    sum = sum.twice();
    add_digit(sum, base.odd, digits1[i]);
    add_digit(sum, odd, digits2[i]);
  }
  if (sum.is_infinity()) return false;
  // x mod n = r, compared as X = r·Z², or (r + n)·Z² when that is still below p.
  const Fp zz = sum.z.squared();
  if (Fp::from(r) * zz == sum.x) return true;
  U256 above;
  return add_checked(r, kN, above) && above < kP && Fp::from(above) * zz == sum.x;
}

}  // namespace zg
