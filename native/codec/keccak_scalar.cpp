// The truth: Keccak-f[1600] in plain loops as FIPS 202 writes it (theta, rho and pi, chi, iota on 25 words, x + 5·y), one message
// at a time. The wide paths share no line with it.
#include <bit>
#include <cstring>

#include "keccak.h"
#include "keccak_constants.h"

namespace zg {
namespace {

constexpr size_t kRateBytes = 136;

static_assert(std::endian::native == std::endian::little, "words are read as they lie in memory");

struct Rho {
  int rotation[25];
  int target[25];
};

// Where each word goes and by how much it turns: pi sends (x, y) to (y, 2x + 3y); rho follows the same walk from (1, 0).
constexpr Rho make_rho() {
  Rho r{};
  for (int y = 0; y < 5; y++) {
    for (int x = 0; x < 5; x++) r.target[x + 5 * y] = y + 5 * ((2 * x + 3 * y) % 5);
  }
  int x = 1;
  int y = 0;
  for (int t = 0; t < 24; t++) {
    r.rotation[x + 5 * y] = ((t + 1) * (t + 2) / 2) % 64;
    const int next = (2 * x + 3 * y) % 5;
    x = y;
    y = next;
  }
  return r;
}
constexpr Rho kRho = make_rho();

void permute(uint64_t a[25]) noexcept {
  for (const uint64_t constant : kRoundConstants) {
    uint64_t c[5];
    uint64_t b[25];
#pragma GCC unroll 5
    for (int x = 0; x < 5; x++) c[x] = a[x] ^ a[x + 5] ^ a[x + 10] ^ a[x + 15] ^ a[x + 20];
#pragma GCC unroll 25
    for (int i = 0; i < 25; i++) {
      const uint64_t d = c[(i + 4) % 5] ^ std::rotl(c[(i + 1) % 5], 1);
      b[kRho.target[i]] = std::rotl(a[i] ^ d, kRho.rotation[i]);
    }
#pragma GCC unroll 25
    for (int i = 0; i < 25; i++) {
      const int row = i - i % 5;
      a[i] = b[i] ^ (~b[row + (i + 1) % 5] & b[row + (i + 2) % 5]);
    }
    a[0] ^= constant;
  }
}

void absorb(uint64_t state[25], const uint8_t block[kRateBytes]) noexcept {
  for (size_t i = 0; i < kRateBytes / 8; i++) {
    uint64_t word;
    std::memcpy(&word, block + 8 * i, 8);
    state[i] ^= word;
  }
  permute(state);
}

void one_leaf(const uint8_t* data, uint8_t* out) noexcept { keccak256(data, kSectorBytes, out); }
void one_node(const uint8_t* pairs, uint8_t* out) noexcept { keccak256(pairs, 2 * kHashBytes, out); }
void one_word(const uint8_t* hash, uint8_t* out) noexcept { keccak256(hash, kHashBytes, out); }

void one_of_stream(const uint8_t* seed, uint64_t first, uint8_t* out) noexcept {
  uint8_t message[kHashBytes + 8];
  std::memcpy(message, seed, kHashBytes);
  for (size_t i = 0; i < 8; i++) message[kHashBytes + i] = static_cast<uint8_t>(first >> (8 * i));
  keccak256(message, sizeof message, out);
}

}  // namespace

void keccak256(const uint8_t* data, size_t size, uint8_t* out) noexcept {
  uint64_t state[25] = {};
  size_t at = 0;
  for (; size - at >= kRateBytes; at += kRateBytes) absorb(state, data + at);
  uint8_t last[kRateBytes] = {};
  // memcpy from a null pointer is undefined even for no bytes, and an empty array may have one.
  if (size > at) std::memcpy(last, data + at, size - at);
  last[size - at] = 0x01;
  last[kRateBytes - 1] |= 0x80;
  absorb(state, last);
  std::memcpy(out, state, kHashBytes);
}

const Kernels kGeneric = {"generic", keccak256, 1, one_leaf, one_node, one_word, one_of_stream};

}  // namespace zg
