// What the translation unit with the library's internals gives to secp256k1.cpp. Plain C.
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct zg_secp;  // secp256k1_context

// For signing and recovery; never freed. Null when memory is short.
const struct zg_secp* zg_secp_create(void);

// digest ‖ r ‖ s, big-endian, and the parity of y. `key`: 64 bytes, x ‖ y. `ok`: whether there is one.
struct zg_secp_item {
  uint8_t digest[32], r[32], s[32];
  uint8_t key[64];
  uint8_t parity, ok;
};
#define ZG_SECP_BATCH 64
// n at most ZG_SECP_BATCH: one scalar and one field inversion for all of them.
void zg_secp_recover(const struct zg_secp* context, struct zg_secp_item* items, size_t n);

// 0 for a bad key. `out`: r ‖ s, low s; parity of y.
int zg_secp_sign(const struct zg_secp* context, const uint8_t digest[32], const uint8_t secret[32], uint8_t out[64], int* parity);
int zg_secp_public(const struct zg_secp* context, const uint8_t secret[32], uint8_t key[64]);

#ifdef __cplusplus
}
#endif
