// u1·G + u2·R on eight signatures at once.
//
// Field. A number modulo p = 2^256 − c, c = 0x1000003d1, is five limbs of 52 bits in five registers, one signature a lane. *Weak* form: limbs below 2^52,
// the top one below 2^49; products take weak operands and give weak results. A product is ten columns of low and high halves; the upper five
// fold down with 2^260 = 16·c, and what is above bit 256 folds with c in the same carry chain, so one chain is enough.
//
// Scalars. u2 splits into two signed halves of 128 bits by the curve's endomorphism (λ, β): 26 digits of 5 bits each, −15 … 16, from a table of
// 1 … 16 times R that is brought to one denominator Z (the points are then affine on an isomorphic curve, whose formulas are the same because a = 0). u1
// splits at bit 128 into digits of 8 bits for fixed tables of G and 2^128·G, mapped to that curve on the way (two products). The accumulator starts at a fixed
// point B and ends with −2^130·B, so it is never infinite. When two points that an incomplete addition must not meet do meet, Z becomes 0 and stays 0: such a lane
// answers `unknown`.
//
// Sources: SEC 1 4.1.6; Gallant, Lambert, Vanstone 2001; Hankerson, Menezes, Vanstone, Guide to ECC 3.2.2; the formulas dbl-2009-l and madd of the EFD.
#include "crypto/secp256k1_lanes.h"

#if defined(__x86_64__)

// GCC 12 sees the undefined operands of its own intrinsics as mistakes.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

#include <memory>

#define LANES __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,avx512ifma")))
#define INLINE LANES inline __attribute__((always_inline))

namespace zg {
namespace {

using V = __m512i;

constexpr uint64_t kMask52 = (uint64_t{1} << 52) - 1, kMask48 = (uint64_t{1} << 48) - 1;
constexpr uint64_t kC = 0x1000003d1ULL;
constexpr U256 kP{0xfffffffefffffc2fULL, ~uint64_t{0}, ~uint64_t{0}, ~uint64_t{0}};
constexpr U256 kN{0xbfd25e8cd0364141ULL, 0xbaaedce6af48a03bULL, 0xfffffffffffffffeULL, ~uint64_t{0}};
constexpr U256 kG[2] = {{0x59f2815b16f81798ULL, 0x029bfcdb2dce28d9ULL, 0x55a06295ce870b07ULL, 0x79be667ef9dcbbacULL},
                        {0x9c47d08ffb10d4b8ULL, 0xfd17b448a6855419ULL, 0x5da4fbfc0e1108a8ULL, 0x483ada7726a3c465ULL}};
// 2^128·G.
constexpr U256 kG128[2] = {{0x1b7b444c9ec4c0daULL, 0xe88c5678723ea335ULL, 0x9239c1ad981f162eULL, 0x8f68b9d2f63b5f33ULL},
                           {0xf23cbf79501fff82ULL, 0xbbea2cfe95510bfdULL, 0xde1d90c2b6be215dULL, 0x662a9f2dba063986ULL}};
// B: the first abscissa from sha256("zg recovery offset") on; −2^130·B.
constexpr U256 kB[2] = {{0x7e3789eb8c0394f8ULL, 0x8f2931f76ce837e1ULL, 0x8b33f0cfcdbb6496ULL, 0xdb285e933b924e41ULL},
                        {0x123db6760cb89cafULL, 0x3672fe6ea5ec8df7ULL, 0xd2e55893dbbf4022ULL, 0xbea7c76bd8a3f4afULL}};
constexpr U256 kMinusB130[2] = {{0xde95cde49fbe6f12ULL, 0x996f29dddbc48f2dULL, 0x03132ca46bf1bfe8ULL, 0x8d9dfff5eddf00d6ULL},
                                {0xa5b6cd3a8878df36ULL, 0x8363592f8c063396ULL, 0x884a6a0c1654557dULL, 0x256ff198452b5593ULL}};
constexpr U256 kBeta{0xc1396c28719501eeULL, 0x9cf0497512f58995ULL, 0x6e64479eac3434e9ULL, 0x7ae96a2b657c0710ULL};

// ---- the field in lanes ---------------------------------------------------------------------------------------------------------

struct Fe {
  V n[5];
};

INLINE V splat(uint64_t x) { return _mm512_set1_epi64(static_cast<long long>(x)); }
INLINE V lo(V acc, V a, V b) { return _mm512_madd52lo_epu64(acc, a, b); }
INLINE V hi(V acc, V a, V b) { return _mm512_madd52hi_epu64(acc, a, b); }
INLINE V add(V a, V b) { return _mm512_add_epi64(a, b); }
INLINE V and_(V a, V b) { return _mm512_and_si512(a, b); }

// The carry chain: limbs below 2^62, `over` what stands at 2^256 beside the bits of t[4] above 48.
INLINE Fe settle(V t0, V t1, V t2, V t3, V t4, V over) {
  const V m = splat(kMask52), c = splat(kC);
  over = add(over, _mm512_srli_epi64(t4, 48));
  t4 = and_(t4, splat(kMask48));
  t0 = lo(t0, over, c);
  t1 = hi(t1, over, c);
  Fe r;
  t1 = add(t1, _mm512_srli_epi64(t0, 52));
  r.n[0] = and_(t0, m);
  t2 = add(t2, _mm512_srli_epi64(t1, 52));
  r.n[1] = and_(t1, m);
  t3 = add(t3, _mm512_srli_epi64(t2, 52));
  r.n[2] = and_(t2, m);
  r.n[4] = add(t4, _mm512_srli_epi64(t3, 52));
  r.n[3] = and_(t3, m);
  return r;
}

// Of sums and differences of weak numbers.
INLINE Fe weak(const Fe& a) { return settle(a.n[0], a.n[1], a.n[2], a.n[3], a.n[4], _mm512_setzero_si512()); }

// Ten columns to a weak number.
INLINE Fe fold(V* t) {
  const V m = splat(kMask52), r = splat(kC << 4);
  for (int i = 5; i < 9; ++i) {
    t[i + 1] = add(t[i + 1], _mm512_srli_epi64(t[i], 52));
    t[i] = and_(t[i], m);
  }
  V over = _mm512_setzero_si512();
  t[0] = lo(t[0], t[5], r);
  t[1] = lo(hi(t[1], t[5], r), t[6], r);
  t[2] = lo(hi(t[2], t[6], r), t[7], r);
  t[3] = lo(hi(t[3], t[7], r), t[8], r);
  t[4] = lo(hi(t[4], t[8], r), t[9], r);
  over = _mm512_slli_epi64(hi(over, t[9], r), 4);
  return settle(t[0], t[1], t[2], t[3], t[4], over);
}

LANES __attribute__((noinline)) Fe mul(const Fe& a, const Fe& b) {
  V t[10];
  for (V& x : t) x = _mm512_setzero_si512();
#pragma GCC unroll 5
  for (int i = 0; i < 5; ++i) {
#pragma GCC unroll 5
    for (int j = 0; j < 5; ++j) {
      t[i + j] = lo(t[i + j], a.n[i], b.n[j]);
      t[i + j + 1] = hi(t[i + j + 1], a.n[i], b.n[j]);
    }
  }
  return fold(t);
}

LANES __attribute__((noinline)) Fe sqr(const Fe& a) {
  V t[10];
  for (V& x : t) x = _mm512_setzero_si512();
#pragma GCC unroll 5
  for (int i = 0; i < 5; ++i) {
#pragma GCC unroll 5
    for (int j = i + 1; j < 5; ++j) {
      t[i + j] = lo(t[i + j], a.n[i], a.n[j]);
      t[i + j + 1] = hi(t[i + j + 1], a.n[i], a.n[j]);
    }
  }
  for (V& x : t) x = add(x, x);
#pragma GCC unroll 5
  for (int i = 0; i < 5; ++i) {
    t[2 * i] = lo(t[2 * i], a.n[i], a.n[i]);
    t[2 * i + 1] = hi(t[2 * i + 1], a.n[i], a.n[i]);
  }
  return fold(t);
}

// Limb by limb, not weak: for sums that go into `weak` before a product.
INLINE Fe plus(const Fe& a, const Fe& b) {
  Fe r;
  for (int i = 0; i < 5; ++i) r.n[i] = add(a.n[i], b.n[i]);
  return r;
}
template <int K>
INLINE Fe shifted(const Fe& a) {
  Fe r;
  for (int i = 0; i < 5; ++i) r.n[i] = _mm512_slli_epi64(a.n[i], K);
  return r;
}
// a − b + 2^K·p: limbs stay positive while those of b are below 2^K times those of p, K ≥ 2 for a weak b.
template <int K>
INLINE Fe minus(const Fe& a, const Fe& b) {
  constexpr uint64_t p[5] = {0xffffefffffc2fULL, kMask52, kMask52, kMask52, kMask48};
  Fe r;
  for (int i = 0; i < 5; ++i) r.n[i] = add(a.n[i], _mm512_sub_epi64(splat(p[i] << K), b.n[i]));
  return r;
}
INLINE Fe blend(__mmask8 m, const Fe& no, const Fe& yes) {
  Fe r;
  for (int i = 0; i < 5; ++i) r.n[i] = _mm512_mask_blend_epi64(m, no.n[i], yes.n[i]);
  return r;
}

void limbs_of(const U256& x, uint64_t out[5]) noexcept {
  out[0] = x.w[0] & kMask52;
  out[1] = ((x.w[0] >> 52) | (x.w[1] << 12)) & kMask52;
  out[2] = ((x.w[1] >> 40) | (x.w[2] << 24)) & kMask52;
  out[3] = ((x.w[2] >> 28) | (x.w[3] << 36)) & kMask52;
  out[4] = x.w[3] >> 16;
}
LANES Fe same(const U256& x) {
  uint64_t l[5];
  limbs_of(x, l);
  Fe r;
  for (int i = 0; i < 5; ++i) r.n[i] = splat(l[i]);
  return r;
}
LANES Fe gathered(const U256 x[8]) {
  alignas(64) uint64_t l[5][8];
  for (int lane = 0; lane < 8; ++lane) {
    uint64_t one[5];
    limbs_of(x[lane], one);
    for (int i = 0; i < 5; ++i) l[i][lane] = one[i];
  }
  Fe r;
  for (int i = 0; i < 5; ++i) r.n[i] = _mm512_load_si512(l[i]);
  return r;
}
// The eight canonical numbers of a weak one.
LANES void scattered(const Fe& a, U256 out[8]) {
  alignas(64) uint64_t l[5][8];
  for (int i = 0; i < 5; ++i) _mm512_store_si512(l[i], a.n[i]);
  for (int lane = 0; lane < 8; ++lane) {
    const uint64_t x0 = l[0][lane], x1 = l[1][lane], x2 = l[2][lane], x3 = l[3][lane], x4 = l[4][lane];
    U256 x{x0 | (x1 << 52), (x1 >> 12) | (x2 << 40), (x2 >> 24) | (x3 << 28), (x3 >> 36) | (x4 << 16)};
    const uint64_t over = x4 >> 48;
    // over is 0 or 1: 2^256 = c.
    if (over != 0 && !add_checked(x, U256{over * kC}, x)) x = x + U256{kC};
    if (x >= kP) x = x - kP;
    out[lane] = x;
  }
}

// x^(2^223 − 1), x^(2^22 − 1), x^3: the common stem of square root and inverse.
struct Stem {
  Fe x223, x22, x2;
};
LANES Fe power(Fe a, int squarings, const Fe& times) {
  for (int i = 0; i < squarings; ++i) a = sqr(a);
  return mul(a, times);
}
LANES Stem stem(const Fe& a) {
  const Fe x2 = power(a, 1, a), x3 = power(x2, 1, a), x6 = power(x3, 3, x3), x9 = power(x6, 3, x3), x11 = power(x9, 2, x2);
  const Fe x22 = power(x11, 11, x11), x44 = power(x22, 22, x22), x88 = power(x44, 44, x44), x176 = power(x88, 88, x88);
  const Fe x220 = power(x176, 44, x44);
  return {power(x220, 3, x3), x22, x2};
}
// a^((p+1)/4): a root when there is one.
LANES Fe root(const Fe& a) {
  const Stem s = stem(a);
  const Fe t = power(power(s.x223, 23, s.x22), 6, s.x2);
  return sqr(sqr(t));
}
// a^(p−2).
LANES Fe inverse(const Fe& a) {
  const Stem s = stem(a);
  return power(power(power(power(s.x223, 23, s.x22), 5, a), 3, s.x2), 2, a);
}

// ---- the curve ---------------------------------------------------------------------------------------------------------------------

struct Point {
  Fe x, y, z;
};

LANES Point doubled(const Point& p) {
  const Fe a = sqr(p.x), b = sqr(p.y), c = sqr(b), d4 = mul(p.x, b);
  const Fe e = weak(plus(plus(a, a), a)), d = shifted<2>(d4);
  const Fe f = sqr(e);
  Point r;
  r.x = weak(minus<5>(f, shifted<1>(d)));
  r.y = weak(minus<5>(mul(e, weak(minus<2>(d, r.x))), shifted<3>(c)));
  const Fe yz = mul(p.y, p.z);
  r.z = weak(plus(yz, yz));
  return r;
}

// p + (x, ±y); `h` is what Z was multiplied with. `negate`: lanes that take −y.
LANES Point added(const Point& p, const Fe& x, const Fe& y, __mmask8 negate, Fe& h) {
  const Fe zz = sqr(p.z), u = mul(x, zz), s = mul(mul(y, p.z), zz);
  h = weak(minus<2>(u, p.x));
  const Fe zero{{_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()}};
  const Fe r = weak(minus<2>(blend(negate, s, minus<2>(zero, s)), p.y));
  const Fe hh = sqr(h), hhh = mul(h, hh), v = mul(p.x, hh);
  Point q;
  q.x = weak(minus<4>(sqr(r), plus(hhh, shifted<1>(v))));
  q.y = weak(minus<2>(mul(r, weak(minus<2>(v, q.x))), mul(p.y, hhh)));
  q.z = mul(p.z, h);
  return q;
}
INLINE Point choose(__mmask8 m, const Point& no, const Point& yes) {
  return {blend(m, no.x, yes.x), blend(m, no.y, yes.y), blend(m, no.z, yes.z)};
}

// ---- scalars modulo n, one at a time ---------------------------------------------------------------------------------------------

using u128 = unsigned __int128;

void wide(const U256& a, const U256& b, uint64_t t[8]) noexcept {
  for (int i = 0; i < 8; ++i) t[i] = 0;
  for (int i = 0; i < 4; ++i) {
    uint64_t carry = 0;
    for (int j = 0; j < 4; ++j) {
      const u128 m = static_cast<u128>(a.w[i]) * b.w[j] + t[i + j] + carry;
      t[i + j] = static_cast<uint64_t>(m);
      carry = static_cast<uint64_t>(m >> 64);
    }
    t[i + 4] = carry;
  }
}
// 2^256 − n.
constexpr uint64_t kNotN[3] = {0x402da1732fc9bebfULL, 0x4551231950b75fc4ULL, 1};
U256 times(const U256& a, const U256& b) noexcept {
  uint64_t t[8];
  wide(a, b, t);
  // Three folds bring 512 bits below 2^256 + a little.
  for (int round = 0; round < 3; ++round) {
    uint64_t s[8] = {t[0], t[1], t[2], t[3], 0, 0, 0, 0};
    for (int i = 0; i < 4; ++i) {
      if (t[4 + i] == 0) continue;
      uint64_t carry = 0;
      for (int j = 0; j < 3; ++j) {
        const u128 m = static_cast<u128>(t[4 + i]) * kNotN[j] + s[i + j] + carry;
        s[i + j] = static_cast<uint64_t>(m);
        carry = static_cast<uint64_t>(m >> 64);
      }
      for (int k = i + 3; carry != 0 && k < 8; ++k) {
        const u128 m = static_cast<u128>(s[k]) + carry;
        s[k] = static_cast<uint64_t>(m);
        carry = static_cast<uint64_t>(m >> 64);
      }
    }
    for (int i = 0; i < 8; ++i) t[i] = s[i];
  }
  U256 r{t[0], t[1], t[2], t[3]};
  if (t[4] != 0) r = r + U256{kNotN[0], kNotN[1], kNotN[2], 0};
  while (r >= kN) r = r - kN;
  return r;
}
U256 inverse_mod_n(const U256& a) noexcept {
  const U256 e = kN - U256{2};
  U256 r{1};
  for (int i = 255; i >= 0; --i) {
    r = times(r, r);
    if (((e.w[i / 64] >> (i % 64)) & 1) != 0) r = times(r, a);
  }
  return r;
}

// round(k·g / 2^384).
U256 rounded(const U256& k, const U256& g) noexcept {
  uint64_t t[8];
  wide(k, g, t);
  return U256{t[6], t[7], 0, 0} + U256{t[5] >> 63};
}
constexpr U256 kG1{0xe893209a45dbb031ULL, 0x3daa8a1471e8ca7fULL, 0xe86c90e49284eb15ULL, 0x3086d221a7d46bcdULL};
constexpr U256 kG2{0x1571b4ae8ac47f71ULL, 0x221208ac9df506c6ULL, 0x6f547fa90abfe4c4ULL, 0xe4437ed6010e8828ULL};
constexpr U256 kA1{0xe86c90e49284eb15ULL, 0x3086d221a7d46bcdULL, 0, 0};
constexpr U256 kMinusB1{0x6f547fa90abfe4c3ULL, 0xe4437ed6010e8828ULL, 0, 0};
constexpr U256 kA2{0x57c1108d9d44cfd8ULL, 0x14ca50f7a8e2f3f6ULL, 1, 0};

// k = k1 + k2·λ modulo n, |k1| and |k2| below 2^128, in two's complement of 256 bits.
void split(const U256& k, U256& k1, U256& k2) noexcept {
  const U256 c1 = rounded(k, kG1), c2 = rounded(k, kG2);
  k1 = k - c1 * kA1 - c2 * kA2;
  k2 = c1 * kMinusB1 - c2 * kA1;
}

constexpr int kWindows = 26;
// 26 digits of 5 bits, −15 … 16, lowest first. True when the number was negative; the digits are of its magnitude.
bool digits_of(U256 k, int8_t out[kWindows]) noexcept {
  const bool negative = k.negative();
  if (negative) k = -k;
  int carry = 0;
  for (int i = 0; i < kWindows; ++i) {
    int d = static_cast<int>(k.w[0] & 31) + carry;
    k = k >> 5;
    carry = d > 16 ? 1 : 0;
    out[i] = static_cast<int8_t>(d - 32 * carry);
  }
  return negative;
}

// ---- fixed tables --------------------------------------------------------------------------------------------------------------------

// x and y of i·G (half 0) and i·2^128·G (half 1), ten limbs each; entry 0 is never used.
struct FixedTable {
  alignas(64) uint64_t limbs[2][256][10];
};

LANES std::unique_ptr<FixedTable> make_fixed() {
  auto table = std::make_unique<FixedTable>();
  const U256 xs[8] = {kG[0], kG128[0], kG[0], kG[0], kG[0], kG[0], kG[0], kG[0]};
  const U256 ys[8] = {kG[1], kG128[1], kG[1], kG[1], kG[1], kG[1], kG[1], kG[1]};
  const Fe x = gathered(xs), y = gathered(ys);
  Point p{x, y, same(U256{1})};
  Fe h;
  for (int i = 1; i < 256; ++i) {
    if (i == 2) p = doubled(p);
    else if (i > 2) p = added(p, x, y, 0, h);
    const Fe inv = inverse(p.z), inv2 = sqr(inv);
    U256 ax[8], ay[8];
    scattered(mul(p.x, inv2), ax);
    scattered(mul(p.y, mul(inv2, inv)), ay);
    for (int half = 0; half < 2; ++half) {
      limbs_of(ax[half], table->limbs[half][i]);
      limbs_of(ay[half], table->limbs[half][i] + 5);
    }
  }
  return table;
}
const FixedTable& fixed() {
  static const std::unique_ptr<FixedTable> table = make_fixed();
  return *table;
}

// ---- eight signatures -----------------------------------------------------------------------------------------------------------------

struct Octet {
  U256 rx[8];
  U256 u1[8];
  int8_t digits[2][kWindows][8];
  __mmask8 negative[2] = {0, 0};
  __mmask8 odd = 0;       // wanted parity of R's y
  __mmask8 no_point = 0;  // r is no abscissa
  Point result;
};

LANES void multiply(Octet& o) {
  // R.
  const Fe x = gathered(o.rx), seven = same(U256{7});
  const Fe yy = weak(plus(mul(sqr(x), x), seven));
  Fe y = root(yy);
  U256 canonical[8];
  scattered(weak(minus<2>(sqr(y), yy)), canonical);
  for (int lane = 0; lane < 8; ++lane)
    if (!canonical[lane].is_zero()) o.no_point = static_cast<__mmask8>(o.no_point | (1 << lane));
  scattered(y, canonical);
  __mmask8 flip = 0;
  for (int lane = 0; lane < 8; ++lane)
    if ((canonical[lane].w[0] & 1) != ((o.odd >> lane) & 1u)) flip = static_cast<__mmask8>(flip | (1 << lane));
  const Fe zero = same(U256{});
  y = blend(flip, y, weak(minus<2>(zero, y)));

  // 1 … 16 times R, then all on the Z of the last.
  struct Entry {
    Fe x, y;
  };
  alignas(64) Entry table[2][16];
  Fe ratio[16];
  Point p{x, y, same(U256{1})};
  table[0][0] = {x, y};
  for (int i = 1; i < 16; ++i) {
    if (i == 1) {
      ratio[0] = weak(plus(y, y));
      p = doubled(p);
    } else {
      p = added(p, x, y, 0, ratio[i - 1]);
    }
    table[0][i] = {p.x, p.y};
  }
  const Fe beta = same(kBeta), z = p.z;
  Fe scale = same(U256{1});
  for (int i = 15; i >= 0; --i) {
    if (i < 15) {
      scale = i == 14 ? ratio[14] : mul(scale, ratio[i]);
      const Fe s2 = sqr(scale);
      table[0][i].x = mul(table[0][i].x, s2);
      table[0][i].y = mul(table[0][i].y, mul(s2, scale));
    }
    table[1][i] = {mul(table[0][i].x, beta), table[0][i].y};
  }

  // The sum, on the isomorphic curve.
  const Fe zz = sqr(z), zzz = mul(zz, z);
  Point acc{mul(same(kB[0]), zz), mul(same(kB[1]), zzz), same(U256{1})};
  const FixedTable& g = fixed();
  const V lane_index = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
  Fe h;
  for (int bit = 129; bit >= 0; --bit) {
    acc = doubled(acc);
    if (bit % 5 == 0) {
      for (int half = 0; half < 2; ++half) {
        const V d = _mm512_cvtepi8_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(o.digits[half][bit / 5])));
        const __mmask8 some = _mm512_test_epi64_mask(d, d);
        const __mmask8 below = _mm512_movepi64_mask(d);
        // Entries lie 80 words apart; a limb has one word a lane.
        const V entry = _mm512_max_epi64(_mm512_sub_epi64(_mm512_abs_epi64(d), splat(1)), _mm512_setzero_si512());
        V at = add(_mm512_mullo_epi64(entry, splat(80)), lane_index);
        Entry e;
        const auto* base = reinterpret_cast<const long long*>(table[half]);
        for (int i = 0; i < 5; ++i) e.x.n[i] = _mm512_i64gather_epi64(at, base + 8 * i, 8);
        for (int i = 0; i < 5; ++i) e.y.n[i] = _mm512_i64gather_epi64(at, base + 40 + 8 * i, 8);
        const Point sum = added(acc, e.x, e.y, static_cast<__mmask8>(below ^ o.negative[half]), h);
        acc = choose(some, acc, sum);
      }
    }
    if (bit % 8 == 0 && bit < 128) {
      for (int half = 0; half < 2; ++half) {
        alignas(64) long long d[8];
        for (int lane = 0; lane < 8; ++lane)
          d[lane] = static_cast<long long>((o.u1[lane].w[2 * half + bit / 64] >> (bit % 64)) & 255);
        const V digit = _mm512_load_si512(d);
        const __mmask8 some = _mm512_test_epi64_mask(digit, digit);
        const V at = _mm512_mullo_epi64(digit, splat(10));
        Entry e;
        const auto* base = reinterpret_cast<const long long*>(g.limbs[half]);
        for (int i = 0; i < 5; ++i) e.x.n[i] = _mm512_i64gather_epi64(at, base + i, 8);
        for (int i = 0; i < 5; ++i) e.y.n[i] = _mm512_i64gather_epi64(at, base + 5 + i, 8);
        const Point sum = added(acc, mul(e.x, zz), mul(e.y, zzz), 0, h);
        acc = choose(some, acc, sum);
      }
    }
  }
  acc = added(acc, mul(same(kMinusB130[0]), zz), mul(same(kMinusB130[1]), zzz), 0, h);
  o.result = {acc.x, acc.y, mul(acc.z, z)};
}

LANES void run(LaneItem* items, size_t count) {
  // 1/r of all, by one inversion.
  U256 before[kRecoverLanesBatch], product{1};
  for (size_t i = 0; i < count; ++i) {
    before[i] = product;
    product = times(product, items[i].r);
  }
  U256 inv = inverse_mod_n(product);
  alignas(64) Octet octets[kRecoverLanesBatch / 8];
  const size_t groups = (count + 7) / 8;
  for (size_t i = count; i-- > 0;) {
    const U256 r_inv = times(inv, before[i]);
    inv = times(inv, items[i].r);
    Octet& o = octets[i / 8];
    const size_t lane = i % 8;
    U256 zn = items[i].digest;
    if (zn >= kN) zn = zn - kN;
    const U256 u1 = times(zn, r_inv);
    o.u1[lane] = u1.is_zero() ? u1 : kN - u1;
    o.rx[lane] = items[i].r;
    if (items[i].y_parity) o.odd = static_cast<__mmask8>(o.odd | (1 << lane));
    U256 half[2];
    split(times(items[i].s, r_inv), half[0], half[1]);
    for (int k = 0; k < 2; ++k) {
      int8_t d[kWindows];
      if (digits_of(half[k], d)) o.negative[k] = static_cast<__mmask8>(o.negative[k] | (1 << lane));
      for (int w = 0; w < kWindows; ++w) o.digits[k][w][lane] = d[w];
    }
  }
  // Lanes without a signature repeat the first of their octet.
  for (size_t i = count; i < 8 * groups; ++i) {
    Octet& o = octets[i / 8];
    const size_t lane = i % 8;
    o.u1[lane] = o.u1[0];
    o.rx[lane] = o.rx[0];
    if ((o.odd & 1) != 0) o.odd = static_cast<__mmask8>(o.odd | (1 << lane));
    for (int k = 0; k < 2; ++k) {
      if ((o.negative[k] & 1) != 0) o.negative[k] = static_cast<__mmask8>(o.negative[k] | (1 << lane));
      for (int w = 0; w < kWindows; ++w) o.digits[k][w][lane] = o.digits[k][w][0];
    }
  }
  for (size_t g = 0; g < groups; ++g) multiply(octets[g]);
  // 1/Z of all groups by one inversion in lanes. A Z of 0 would spoil the lane of every group: it is taken as 1 and noted.
  const Fe one = same(U256{1});
  Fe prefix[kRecoverLanesBatch / 8], all = one;
  __mmask8 unknown[kRecoverLanesBatch / 8];
  for (size_t g = 0; g < groups; ++g) {
    U256 z[8];
    scattered(octets[g].result.z, z);
    unknown[g] = 0;
    for (int lane = 0; lane < 8; ++lane)
      if (z[lane].is_zero()) unknown[g] = static_cast<__mmask8>(unknown[g] | (1 << lane));
    octets[g].result.z = blend(unknown[g], octets[g].result.z, one);
    prefix[g] = all;
    all = mul(all, octets[g].result.z);
  }
  Fe back = inverse(all);
  for (size_t g = groups; g-- > 0;) {
    const Octet& o = octets[g];
    const Fe zi = mul(back, prefix[g]), zi2 = sqr(zi);
    back = mul(back, o.result.z);
    U256 x[8], y[8];
    scattered(mul(o.result.x, zi2), x);
    scattered(mul(o.result.y, mul(zi2, zi)), y);
    for (size_t lane = 0; lane < 8 && 8 * g + lane < count; ++lane) {
      LaneItem& item = items[8 * g + lane];
      item.x = x[lane];
      item.y = y[lane];
      item.answer = ((o.no_point >> lane) & 1) != 0    ? LaneItem::Answer::none
                    : ((unknown[g] >> lane) & 1) != 0 ? LaneItem::Answer::unknown
                                                      : LaneItem::Answer::key;
    }
  }
}

}  // namespace

bool recover_lanes_available() noexcept {
  static const bool yes = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                          __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512ifma");
  return yes;
}
void recover_lanes(LaneItem* items, size_t count) noexcept {
  if (count != 0) run(items, count);
}

}  // namespace zg

#else

namespace zg {
bool recover_lanes_available() noexcept { return false; }
void recover_lanes(LaneItem*, size_t) noexcept {}
}  // namespace zg

#endif
