/* libsecp256k1 as one translation unit with a batch recovery on its internals: the two inversions of a recovery (of r in the scalar field, of z at
 * the end) are shared by the whole batch (Montgomery's trick). C, because the library's sources are not C++. */
#include "src/secp256k1.c"

#include "inverse.h"
#include "secp256k1_core.h"

const struct zg_secp* zg_secp_create(void) {
  return (const struct zg_secp*)secp256k1_context_create(SECP256K1_CONTEXT_SIGN | SECP256K1_CONTEXT_VERIFY);
}

static const secp256k1_context* context_of(const struct zg_secp* c) { return (const secp256k1_context*)c; }

/* This copy of the library inverts by exponentiation, which is a third of a recovery: ours takes its place (inverse.h). */
static void inverse_bytes(uint8_t bytes[32], const uint64_t modulus[4]) {
  uint64_t x[4];
  int i, k;
  for (i = 0; i < 4; ++i) {
    x[i] = 0;
    for (k = 0; k < 8; ++k) x[i] = x[i] << 8 | bytes[8 * (3 - i) + k];
  }
  zg_inverse(x, x, modulus);
  for (i = 0; i < 4; ++i)
    for (k = 0; k < 8; ++k) bytes[8 * (3 - i) + k] = (uint8_t)(x[i] >> (56 - 8 * k));
}

static void inverse_scalar(secp256k1_scalar* out, const secp256k1_scalar* x) {
  static const uint64_t order[4] = {UINT64_C(0xbfd25e8cd0364141), UINT64_C(0xbaaedce6af48a03b), UINT64_C(0xfffffffffffffffe), UINT64_MAX};
  uint8_t bytes[32];
  secp256k1_scalar_get_b32(bytes, x);
  inverse_bytes(bytes, order);
  secp256k1_scalar_set_b32(out, bytes, NULL);
}

static void inverse_field(secp256k1_fe* out, const secp256k1_fe* x) {
  static const uint64_t prime[4] = {UINT64_C(0xfffffffefffffc2f), UINT64_MAX, UINT64_MAX, UINT64_MAX};
  secp256k1_fe normal = *x;
  uint8_t bytes[32];
  secp256k1_fe_normalize_var(&normal);
  secp256k1_fe_get_b32(bytes, &normal);
  inverse_bytes(bytes, prime);
  secp256k1_fe_set_b32(out, bytes);
}

/* Writes the inverses of the n field elements, none zero. */
static void invert_fields(secp256k1_fe* out, const secp256k1_fe* in, size_t n) {
  secp256k1_fe all;
  size_t i;
  if (n == 0) return;
  out[0] = in[0];
  for (i = 1; i < n; ++i) secp256k1_fe_mul(&out[i], &out[i - 1], &in[i]);
  inverse_field(&all, &out[n - 1]);
  for (i = n; i-- > 1;) {
    secp256k1_fe_mul(&out[i], &out[i - 1], &all);
    secp256k1_fe_mul(&all, &all, &in[i]);
  }
  out[0] = all;
}

/* Writes the inverses of the n non-zero scalars. */
static void invert_scalars(secp256k1_scalar* out, const secp256k1_scalar* in, size_t n) {
  secp256k1_scalar all;
  size_t i;
  if (n == 0) return;
  out[0] = in[0];
  for (i = 1; i < n; ++i) secp256k1_scalar_mul(&out[i], &out[i - 1], &in[i]);
  inverse_scalar(&all, &out[n - 1]);
  for (i = n; i-- > 1;) {
    secp256k1_scalar_mul(&out[i], &out[i - 1], &all);
    secp256k1_scalar_mul(&all, &all, &in[i]);
  }
  out[0] = all;
}

void zg_secp_recover(const struct zg_secp* context, struct zg_secp_item* items, size_t n) {
  const secp256k1_context* ctx = context_of(context);
  secp256k1_scalar r[ZG_SECP_BATCH], inverse[ZG_SECP_BATCH], s[ZG_SECP_BATCH];
  secp256k1_ge point[ZG_SECP_BATCH];
  secp256k1_gej sum[ZG_SECP_BATCH];
  secp256k1_fe z[ZG_SECP_BATCH], zi[ZG_SECP_BATCH];
  size_t at[ZG_SECP_BATCH];
  size_t live = 0, finite = 0, i;
  for (i = 0; i < n && i < ZG_SECP_BATCH; ++i) {
    int over_r = 0, over_s = 0;
    secp256k1_fe x;
    items[i].ok = 0;
    secp256k1_scalar_set_b32(&r[live], items[i].r, &over_r);
    secp256k1_scalar_set_b32(&s[live], items[i].s, &over_s);
    if (over_r || over_s || secp256k1_scalar_is_zero(&r[live]) || secp256k1_scalar_is_zero(&s[live])) continue;
    secp256k1_fe_set_b32(&x, items[i].r); /* below the order, so below p */
    if (!secp256k1_ge_set_xo_var(&point[live], &x, items[i].parity & 1)) continue;
    at[live++] = i;
  }
  invert_scalars(inverse, r, live);
  for (i = 0; i < live; ++i) {
    secp256k1_scalar u1, u2;
    secp256k1_gej from;
    secp256k1_scalar_set_b32(&u1, items[at[i]].digest, NULL);
    secp256k1_scalar_mul(&u1, &u1, &inverse[i]);
    secp256k1_scalar_negate(&u1, &u1);
    secp256k1_scalar_mul(&u2, &s[i], &inverse[i]);
    secp256k1_gej_set_ge(&from, &point[i]);
    secp256k1_ecmult(&ctx->ecmult_ctx, &sum[finite], &from, &u2, &u1);
    if (secp256k1_gej_is_infinity(&sum[finite])) continue;
    z[finite] = sum[finite].z;
    at[finite++] = at[i]; /* finite never overtakes i */
  }
  invert_fields(zi, z, finite);
  for (i = 0; i < finite; ++i) {
    secp256k1_ge key;
    secp256k1_ge_set_gej_zinv(&key, &sum[i], &zi[i]);
    secp256k1_fe_normalize_var(&key.x);
    secp256k1_fe_normalize_var(&key.y);
    secp256k1_fe_get_b32(items[at[i]].key, &key.x);
    secp256k1_fe_get_b32(items[at[i]].key + 32, &key.y);
    items[at[i]].ok = 1;
  }
}

int zg_secp_sign(const struct zg_secp* context, const uint8_t digest[32], const uint8_t secret[32], uint8_t out[64], int* parity) {
  const secp256k1_context* ctx = context_of(context);
  secp256k1_ecdsa_recoverable_signature signature;
  if (!secp256k1_ecdsa_sign_recoverable(ctx, &signature, digest, secret, NULL, NULL)) return 0;
  return secp256k1_ecdsa_recoverable_signature_serialize_compact(ctx, out, parity, &signature);
}

int zg_secp_public(const struct zg_secp* context, const uint8_t secret[32], uint8_t key[64]) {
  const secp256k1_context* ctx = context_of(context);
  secp256k1_pubkey point;
  uint8_t full[65];
  size_t size = sizeof full;
  if (!secp256k1_ec_pubkey_create(ctx, &point, secret)) return 0;
  secp256k1_ec_pubkey_serialize(ctx, full, &size, &point, SECP256K1_EC_UNCOMPRESSED);
  memcpy(key, full + 1, 64);
  return 1;
}
