#include "blake2b.h"

#include <bit>
#include <cstring>

namespace zg {

namespace {

inline void mix(uint64_t* v, size_t a, size_t b, size_t c, size_t d, uint64_t x, uint64_t y) noexcept {
  v[a] += v[b] + x;
  v[d] = std::rotr(v[d] ^ v[a], 32);
  v[c] += v[d];
  v[b] = std::rotr(v[b] ^ v[c], 24);
  v[a] += v[b] + y;
  v[d] = std::rotr(v[d] ^ v[a], 16);
  v[c] += v[d];
  v[b] = std::rotr(v[b] ^ v[c], 63);
}

void compress(uint64_t* h, const uint8_t* block, uint64_t bytes, bool last) noexcept {
  uint64_t m[16];
  std::memcpy(m, block, sizeof m);
  uint64_t v[16];
  for (size_t i = 0; i < 8; i++) {
    v[i] = h[i];
    v[8 + i] = kBlake2bIv[i];
  }
  v[12] ^= bytes;
  if (last) v[14] = ~v[14];
#pragma GCC unroll 12
  for (size_t round = 0; round < 12; round++) {
    const uint8_t* s = kBlake2bSigma[round % 10];
    mix(v, 0, 4, 8, 12, m[s[0]], m[s[1]]);
    mix(v, 1, 5, 9, 13, m[s[2]], m[s[3]]);
    mix(v, 2, 6, 10, 14, m[s[4]], m[s[5]]);
    mix(v, 3, 7, 11, 15, m[s[6]], m[s[7]]);
    mix(v, 0, 5, 10, 15, m[s[8]], m[s[9]]);
    mix(v, 1, 6, 11, 12, m[s[10]], m[s[11]]);
    mix(v, 2, 7, 8, 13, m[s[12]], m[s[13]]);
    mix(v, 3, 4, 9, 14, m[s[14]], m[s[15]]);
  }
  for (size_t i = 0; i < 8; i++) h[i] ^= v[i] ^ v[8 + i];
}

}  // namespace

void blake2b_512(const uint8_t* data, size_t size, uint8_t* out) noexcept {
  uint64_t h[8];
  std::memcpy(h, kBlake2bIv, sizeof h);
  h[0] ^= kBlake2bParameters;
  size_t at = 0;
  // The last block, even when it is full, is the one that says so.
  for (; size - at > kBlake2bBlockBytes; at += kBlake2bBlockBytes) compress(h, data + at, at + kBlake2bBlockBytes, false);
  uint8_t last[kBlake2bBlockBytes] = {};
  if (size > at) std::memcpy(last, data + at, size - at);
  compress(h, last, size, true);
  std::memcpy(out, h, kBlake2bBytes);
}

}  // namespace zg
