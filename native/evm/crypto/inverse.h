/* The inverse of a 256-bit number modulo an odd one, in variable time (public values only: recovery of public keys).
 *
 * Bernstein and Yang, "Fast constant-time gcd computation and modular inversion" (2019), sections 8 to 11, in batches of 62 steps: a batch looks at the
 * lowest words only and gathers its steps in a matrix of small numbers, which is then applied to the whole ones. About a microsecond, a tenth of
 * an exponentiation. C, because libsecp256k1's translation unit includes it. */
#ifndef ZG_CRYPTO_INVERSE_H
#define ZG_CRYPTO_INVERSE_H

#include <stdint.h>

typedef __int128 zg_wide;
typedef unsigned __int128 zg_uwide;

#define ZG_BITS 62
#define ZG_MASK (UINT64_MAX >> 2)

/* 2^62 (f', g') = (u f + v g, q f + r g); |u| + |v| and |q| + |r| are at most 2^62. */
struct zg_steps {
  int64_t u, v, q, r;
};

/* 62 steps on the lowest words. `eta` is minus the delta of the paper. */
static inline int64_t zg_batch(int64_t eta, uint64_t f, uint64_t g, struct zg_steps* out) {
  /* Unsigned, since intermediate shifts wrap. */
  uint64_t u = 1, v = 0, q = 0, r = 1;
  int left = ZG_BITS;
  for (;;) {
    const int zeros = __builtin_ctzll(g | UINT64_MAX << left);
    g >>= zeros;
    u <<= zeros;
    v <<= zeros;
    eta -= zeros;
    left -= zeros;
    if (left == 0) break;
    if (eta < 0) {
      const uint64_t f0 = f, u0 = u, v0 = v;
      eta = -eta;
      f = g;
      g = -f0;
      u = q;
      q = -u0;
      v = r;
      r = -v0;
    }
    {
      /* Until the next exchange the steps only add f where g is odd: up to six of them at once, by the multiple of f that clears so many bits.
       * f (2 - f f) is the inverse of an odd f modulo 64. */
      const int64_t steps = eta + 1 < left ? eta + 1 : left;
      const uint64_t mask = steps < 6 ? (UINT64_C(1) << steps) - 1 : 63;
      const uint64_t w = (-g * (f * (2 - f * f))) & mask;
      g += w * f;
      q += w * u;
      r += w * v;
    }
  }
  out->u = (int64_t)u;
  out->v = (int64_t)v;
  out->q = (int64_t)q;
  out->r = (int64_t)r;
  return eta;
}

/* (a x + b y) / 2^62 for signed numbers of five 62-bit words, the topmost signed; the division has no rest. */
static inline void zg_combine(int64_t out[5], int64_t a, const int64_t x[5], int64_t b, const int64_t y[5]) {
  zg_wide sum = (zg_wide)a * x[0] + (zg_wide)b * y[0];
  int i;
  sum >>= ZG_BITS;
  for (i = 1; i < 5; ++i) {
    sum += (zg_wide)a * x[i] + (zg_wide)b * y[i];
    out[i - 1] = (int64_t)((uint64_t)sum & ZG_MASK);
    sum >>= ZG_BITS;
  }
  out[4] = (int64_t)sum;
}

static inline int zg_below(const uint64_t a[4], const uint64_t m[4]) {
  int i;
  for (i = 3; i > 0 && a[i] == m[i]; --i) continue;
  return a[i] < m[i];
}

/* a = m - a for a in [0, m); 0 stays. */
static inline void zg_negate(uint64_t a[4], const uint64_t m[4]) {
  uint64_t borrow = 0;
  int i;
  if ((a[0] | a[1] | a[2] | a[3]) == 0) return;
  for (i = 0; i < 4; ++i) {
    const zg_uwide d = (zg_uwide)m[i] - a[i] - borrow;
    a[i] = (uint64_t)d;
    borrow = (uint64_t)(d >> 64) & 1;
  }
}

/* (a x + b y) / 2^62 modulo m, all of x, y and the answer in [0, m): a multiple of m makes the sum divisible. `minus` is -1/m modulo 2^64. */
static inline void zg_combine_modulo(uint64_t out[4], int64_t a, const uint64_t x[4], int64_t b, const uint64_t y[4], const uint64_t m[4], uint64_t minus) {
  uint64_t p[4], s[4], sum[5];
  const uint64_t ua = a < 0 ? -(uint64_t)a : (uint64_t)a, ub = b < 0 ? -(uint64_t)b : (uint64_t)b;
  uint64_t k, carry = 0, more = 0;
  int i;
  for (i = 0; i < 4; ++i) {
    p[i] = x[i];
    s[i] = y[i];
  }
  if (a < 0) zg_negate(p, m);
  if (b < 0) zg_negate(s, m);
  for (i = 0; i < 4; ++i) {
    /* Two products of 62 and 64 bits and two carries fit. */
    const zg_uwide t = (zg_uwide)ua * p[i] + (zg_uwide)ub * s[i] + carry;
    sum[i] = (uint64_t)t;
    carry = (uint64_t)(t >> 64);
  }
  sum[4] = carry;
  k = (sum[0] * minus) & ZG_MASK;
  for (i = 0; i < 4; ++i) {
    const zg_uwide t = (zg_uwide)k * m[i] + sum[i] + more;
    sum[i] = (uint64_t)t;
    more = (uint64_t)(t >> 64);
  }
  sum[4] += more;
  for (i = 0; i < 4; ++i) out[i] = sum[i] >> ZG_BITS | sum[i + 1] << (64 - ZG_BITS);
  /* Below 2 m; its 257th bit, if any, is in the topmost word. */
  if (sum[4] >> ZG_BITS != 0 || !zg_below(out, m)) {
    uint64_t borrow = 0;
    for (i = 0; i < 4; ++i) {
      const zg_uwide d = (zg_uwide)out[i] - m[i] - borrow;
      out[i] = (uint64_t)d;
      borrow = (uint64_t)(d >> 64) & 1;
    }
  }
}

/* out = 1 / x modulo m, least significant word first; x in [1, m), m odd and prime to x, its top word not 0. `out` may be `x`. */
static inline void zg_inverse(uint64_t out[4], const uint64_t x[4], const uint64_t m[4]) {
  int64_t f[5], g[5], eta = -1;
  uint64_t d[4] = {0, 0, 0, 0}, e[4] = {1, 0, 0, 0};
  uint64_t minus = m[0]; /* right modulo 8, and three more times */
  int i;
  for (i = 0; i < 5; ++i) minus *= 2 - m[0] * minus;
  minus = -minus;
  for (i = 0; i < 5; ++i) {
    const int bit = ZG_BITS * i, word = bit / 64, shift = bit % 64;
    const uint64_t mh = word + 1 < 4 && shift != 0 ? m[word + 1] << (64 - shift) : 0, xh = word + 1 < 4 && shift != 0 ? x[word + 1] << (64 - shift) : 0;
    f[i] = (int64_t)((m[word] >> shift | mh) & ZG_MASK);
    g[i] = (int64_t)((x[word] >> shift | xh) & ZG_MASK);
  }
  while ((g[0] | g[1] | g[2] | g[3] | g[4]) != 0) {
    struct zg_steps t;
    int64_t f2[5], g2[5];
    uint64_t d2[4], e2[4];
    eta = zg_batch(eta, (uint64_t)f[0] | (uint64_t)f[1] << ZG_BITS, (uint64_t)g[0] | (uint64_t)g[1] << ZG_BITS, &t);
    zg_combine(f2, t.u, f, t.v, g);
    zg_combine(g2, t.q, f, t.r, g);
    zg_combine_modulo(d2, t.u, d, t.v, e, m, minus);
    zg_combine_modulo(e2, t.q, d, t.r, e, m, minus);
    for (i = 0; i < 5; ++i) {
      f[i] = f2[i];
      g[i] = g2[i];
    }
    for (i = 0; i < 4; ++i) {
      d[i] = d2[i];
      e[i] = e2[i];
    }
  }
  /* f is 1 or -1. */
  if (f[4] < 0) zg_negate(d, m);
  for (i = 0; i < 4; ++i) out[i] = d[i];
}

#endif
