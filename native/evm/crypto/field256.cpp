#include "crypto/field256.h"

#ifdef ZG_FIELD_ADX
#include <cpuid.h>
#endif

namespace zg::field_detail {

#ifdef ZG_FIELD_ADX
namespace {
bool find_adx() noexcept {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b >> 8 & 1) != 0 && (b >> 19 & 1) != 0;
}
}  // namespace
const bool has_adx = find_adx();
#endif

namespace {

constexpr uint64_t kMask62 = ~uint64_t{0} >> 2;

// Signed numbers of up to 310 bits, 62 bits a limb; the last limb carries the sign.
struct Limbs {
  int64_t w[5];
};

Limbs limbs_of(const U256& x) noexcept {
  return {{static_cast<int64_t>(x.w[0] & kMask62), static_cast<int64_t>((x.w[0] >> 62 | x.w[1] << 2) & kMask62),
           static_cast<int64_t>((x.w[1] >> 60 | x.w[2] << 4) & kMask62), static_cast<int64_t>((x.w[2] >> 58 | x.w[3] << 6) & kMask62),
           static_cast<int64_t>(x.w[3] >> 56)}};
}

// The product of 62 division steps, times 2^62.
struct Steps {
  int64_t u, v, q, r;
};

int64_t divide_62(int64_t eta, uint64_t f, uint64_t g, Steps& out) noexcept {
  uint64_t u = 1, v = 0, q = 0, r = 1;
  int left = 62;
  for (;;) {
    const int zeros = std::countr_zero(g | (~uint64_t{0} << left));
    g >>= zeros;
    u <<= zeros;
    v <<= zeros;
    eta -= zeros;
    left -= zeros;
    if (left == 0) break;
    uint64_t w;
    if (eta < 0) {
      eta = -eta;
      uint64_t t = f;
      f = g;
      g = ~t + 1;
      t = u;
      u = q;
      q = ~t + 1;
      t = v;
      v = r;
      r = ~t + 1;
      const int limit = eta + 1 > left ? left : static_cast<int>(eta) + 1;
      w = (f * g * (f * f - 2)) & ((~uint64_t{0} >> (64 - limit)) & 63);
    } else {
      const int limit = eta + 1 > left ? left : static_cast<int>(eta) + 1;
      w = f + (((f + 1) & 4) << 1);
      w = ((~w + 1) * g) & ((~uint64_t{0} >> (64 - limit)) & 15);
    }
    g += f * w;
    q += u * w;
    r += v * w;
  }
  out = {static_cast<int64_t>(u), static_cast<int64_t>(v), static_cast<int64_t>(q), static_cast<int64_t>(r)};
  return eta;
}

void update_fg(Limbs& f, Limbs& g, const Steps& t) noexcept {
  i128 a = static_cast<i128>(t.u) * f.w[0] + static_cast<i128>(t.v) * g.w[0];
  i128 b = static_cast<i128>(t.q) * f.w[0] + static_cast<i128>(t.r) * g.w[0];
  a >>= 62;
  b >>= 62;
  for (int i = 1; i < 5; ++i) {
    a += static_cast<i128>(t.u) * f.w[i] + static_cast<i128>(t.v) * g.w[i];
    b += static_cast<i128>(t.q) * f.w[i] + static_cast<i128>(t.r) * g.w[i];
    f.w[i - 1] = static_cast<int64_t>(static_cast<uint64_t>(a) & kMask62);
    g.w[i - 1] = static_cast<int64_t>(static_cast<uint64_t>(b) & kMask62);
    a >>= 62;
    b >>= 62;
  }
  f.w[4] = static_cast<int64_t>(a);
  g.w[4] = static_cast<int64_t>(b);
}

// The same on d and e, modulo m: a multiple of m makes the low limb vanish. Keeps both in (−2m, m).
void update_de(Limbs& d, Limbs& e, const Steps& t, const Limbs& m, uint64_t inverse62) noexcept {
  const int64_t sd = d.w[4] >> 63, se = e.w[4] >> 63;
  int64_t md = (t.u & sd) + (t.v & se);
  int64_t me = (t.q & sd) + (t.r & se);
  i128 a = static_cast<i128>(t.u) * d.w[0] + static_cast<i128>(t.v) * e.w[0];
  i128 b = static_cast<i128>(t.q) * d.w[0] + static_cast<i128>(t.r) * e.w[0];
  md -= static_cast<int64_t>((inverse62 * static_cast<uint64_t>(a) + static_cast<uint64_t>(md)) & kMask62);
  me -= static_cast<int64_t>((inverse62 * static_cast<uint64_t>(b) + static_cast<uint64_t>(me)) & kMask62);
  a += static_cast<i128>(m.w[0]) * md;
  b += static_cast<i128>(m.w[0]) * me;
  a >>= 62;
  b >>= 62;
  for (int i = 1; i < 5; ++i) {
    a += static_cast<i128>(t.u) * d.w[i] + static_cast<i128>(t.v) * e.w[i] + static_cast<i128>(m.w[i]) * md;
    b += static_cast<i128>(t.q) * d.w[i] + static_cast<i128>(t.r) * e.w[i] + static_cast<i128>(m.w[i]) * me;
    d.w[i - 1] = static_cast<int64_t>(static_cast<uint64_t>(a) & kMask62);
    e.w[i - 1] = static_cast<int64_t>(static_cast<uint64_t>(b) & kMask62);
    a >>= 62;
    b >>= 62;
  }
  d.w[4] = static_cast<int64_t>(a);
  e.w[4] = static_cast<int64_t>(b);
}

}  // namespace

U256 inverse_modulo(const U256& x, const U256& m, uint64_t minus_inverse) noexcept {
  const Limbs modulus = limbs_of(m);
  const uint64_t inverse62 = (~minus_inverse + 1) & kMask62;
  Limbs d{}, e{{1, 0, 0, 0, 0}}, f = modulus, g = limbs_of(x);
  int64_t eta = -1;
  // 12 rounds are enough for 256 bits (741 steps).
  for (int i = 0; i < 12; ++i) {
    Steps t;
    eta = divide_62(eta, static_cast<uint64_t>(f.w[0]), static_cast<uint64_t>(g.w[0]), t);
    update_de(d, e, t, modulus, inverse62);
    update_fg(f, g, t);
    if ((g.w[0] | g.w[1] | g.w[2] | g.w[3] | g.w[4]) == 0) break;
  }
  // d = ±1/x, in (−2m, m): the sign is f's.
  const bool negative = f.w[4] < 0;
  i128 carry = 0;
  U256 r;  // modulo 2^256, with the sign beside it
  int64_t w[5];
  for (int i = 0; i < 5; ++i) {
    carry += negative ? -static_cast<i128>(d.w[i]) : static_cast<i128>(d.w[i]);
    w[i] = i == 4 ? static_cast<int64_t>(carry) : static_cast<int64_t>(static_cast<uint64_t>(carry) & kMask62);
    carry >>= 62;
  }
  const auto u = [&](int i) { return static_cast<uint64_t>(w[i]); };
  r.w[0] = u(0) | u(1) << 62;
  r.w[1] = u(1) >> 2 | u(2) << 60;
  r.w[2] = u(2) >> 4 | u(3) << 58;
  r.w[3] = u(3) >> 6 | u(4) << 56;
  int64_t high = w[4] >> 8;  // the bits above 256, signed
  while (high < 0) {
    uint64_t c = 0;
    for (int i = 0; i < 4; ++i) r.w[i] = addc(r.w[i], m.w[i], c);
    high += static_cast<int64_t>(c);
  }
  while (high > 0 || r >= m) {
    uint64_t b = 0;
    for (int i = 0; i < 4; ++i) r.w[i] = subb(r.w[i], m.w[i], b);
    high -= static_cast<int64_t>(b);
  }
  return r;
}

}  // namespace zg::field_detail
