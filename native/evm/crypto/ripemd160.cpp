#include "crypto/ripemd160.h"

#include <bit>

namespace zg {
namespace {

constexpr uint8_t kWordLeft[80] = {0, 1, 2,  3,  4,  5,  6,  7,  8, 9,  10, 11, 12, 13, 14, 15, 7, 4, 13, 1,  10, 6, 15, 3,  12, 0, 9,
                                   5, 2, 14, 11, 8,  3,  10, 14, 4, 9,  15, 8,  1,  2,  7,  0,  6, 13, 11, 5, 12, 1, 9,  11, 10, 0, 8,
                                   12, 4, 13, 3, 7,  15, 14, 5,  6, 2,  4,  0,  5,  9,  7,  12, 2, 10, 14, 1, 3,  8, 11, 6,  15, 13};
constexpr uint8_t kWordRight[80] = {5,  14, 7, 0,  9, 2,  11, 4,  13, 6,  15, 8, 1,  10, 3, 12, 6,  11, 3, 7, 0,  13, 5, 10, 14, 15, 8,
                                    12, 4,  9, 1,  2, 15, 5,  1,  3,  7,  14, 6, 9,  11, 8, 12, 2,  10, 0, 4, 13, 8,  6, 4,  1,  3,  11,
                                    15, 0,  5, 12, 2, 13, 9,  7,  10, 14, 12, 15, 10, 4, 1, 5,  8,  7,  6, 2, 13, 14, 0, 3,  9,  11};
constexpr uint8_t kTurnLeft[80] = {11, 14, 15, 12, 5,  8,  7,  9,  11, 13, 14, 15, 6,  7,  9,  8,  7,  6,  8,  13, 11, 9,  7,  15, 7,  12, 15,
                                   9,  11, 7,  13, 12, 11, 13, 6,  7,  14, 9,  13, 15, 14, 8,  13, 6,  5,  12, 7,  5,  11, 12, 14, 15, 14, 15,
                                   9,  8,  9,  14, 5,  6,  8,  6,  5,  12, 9,  15, 5,  11, 6,  8,  13, 12, 5,  12, 13, 14, 11, 8,  5,  6};
constexpr uint8_t kTurnRight[80] = {8,  9,  9,  11, 13, 15, 15, 5,  7,  7,  8,  11, 14, 14, 12, 6,  9,  13, 15, 7,  12, 8,  9,  11, 7,  7,  12,
                                    7,  6,  15, 13, 11, 9,  7,  15, 11, 8,  6,  6,  14, 12, 13, 5,  14, 13, 13, 7,  5,  15, 5,  8,  11, 14, 14,
                                    6,  14, 6,  9,  12, 9,  12, 5,  15, 8,  8,  5,  12, 9,  12, 5,  14, 6,  8,  13, 6,  5,  15, 13, 11, 11};
constexpr uint32_t kAddLeft[5] = {0, 0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xa953fd4e};
constexpr uint32_t kAddRight[5] = {0x50a28be6, 0x5c4dd124, 0x6d703ef3, 0x7a6d76e9, 0};

constexpr uint32_t mix(int kind, uint32_t x, uint32_t y, uint32_t z) noexcept {
  switch (kind) {
    case 0: return x ^ y ^ z;
    case 1: return (x & y) | (~x & z);
    case 2: return (x | ~y) ^ z;
    case 3: return (x & z) | (y & ~z);
    default: return x ^ (y | ~z);
  }
}

void compress(uint32_t h[5], const uint8_t* block) noexcept {
  uint32_t w[16];
  std::memcpy(w, block, 64);
  uint32_t l[5], r[5];
  std::memcpy(l, h, sizeof l);
  std::memcpy(r, h, sizeof r);
  const auto step = [&w](uint32_t(&s)[5], uint32_t f, int word, uint32_t k, int turn) noexcept {
    const uint32_t t = std::rotl(s[0] + f + w[word] + k, turn) + s[4];
    s[0] = s[4], s[4] = s[3], s[3] = std::rotl(s[2], 10), s[2] = s[1], s[1] = t;
  };
  for (int i = 0; i < 80; ++i) {
    const int round = i / 16;
    step(l, mix(round, l[1], l[2], l[3]), kWordLeft[i], kAddLeft[round], kTurnLeft[i]);
    step(r, mix(4 - round, r[1], r[2], r[3]), kWordRight[i], kAddRight[round], kTurnRight[i]);
  }
  const uint32_t t = h[1] + l[2] + r[3];
  h[1] = h[2] + l[3] + r[4];
  h[2] = h[3] + l[4] + r[0];
  h[3] = h[4] + l[0] + r[1];
  h[4] = h[0] + l[1] + r[2];
  h[0] = t;
}

}  // namespace

Fixed<20> ripemd160(ByteView data) noexcept {
  uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
  size_t at = 0;
  for (; data.size() - at >= 64; at += 64) compress(h, data.data() + at);
  const size_t rest = data.size() - at;
  uint8_t tail[128] = {};
  if (rest != 0) std::memcpy(tail, data.data() + at, rest);
  tail[rest] = 0x80;
  const size_t blocks = rest < 56 ? 1 : 2;
  const uint64_t bits = static_cast<uint64_t>(data.size()) * 8;
  std::memcpy(tail + 64 * blocks - 8, &bits, 8);
  for (size_t i = 0; i < blocks; ++i) compress(h, tail + 64 * i);
  Fixed<20> out;
  std::memcpy(out.b, h, 20);
  return out;
}

}  // namespace zg
