#include "da_field.h"

#include <memory>

namespace zg {

const uint16_t kCantorBasis[16] = {0x0001, 0xacca, 0x3c0e, 0x163e, 0xc582, 0xed2e, 0x914c, 0x4012,
                                   0x6c98, 0x10d8, 0x6a72, 0xb900, 0xfdb8, 0xfb34, 0xff38, 0x991e};

namespace {

constexpr uint32_t kPolynomial = 0x1002d;

// Images of all 16-bit vectors under the linear map that takes unit vector i to basis[i].
std::unique_ptr<uint16_t[]> spread(const uint16_t (&basis)[16]) noexcept {
  auto out = std::make_unique<uint16_t[]>(65536);
  for (uint32_t i = 0; i < 16; i++) {
    for (uint32_t s = 0; s < (1u << i); s++) out[s + (1u << i)] = out[s] ^ basis[i];
  }
  return out;
}

}  // namespace

Field::Field() noexcept {
  const auto polynomial_of = spread(kCantorBasis);
  auto cantor_of = std::make_unique<uint16_t[]>(65536);
  for (uint32_t s = 0; s < 65536; s++) cantor_of[polynomial_of[s]] = static_cast<uint16_t>(s);
  uint32_t x = 1;
  log[0] = 0;
  for (uint32_t i = 0; i < kFieldOrder; i++) {
    const uint16_t s = cantor_of[x];
    exp[i] = s;
    exp[i + kFieldOrder] = s;
    log[s] = static_cast<uint16_t>(i);
    x <<= 1;
    if (x >= 65536) x ^= kPolynomial;
  }
  for (uint32_t b = 0; b < 256; b++) {
    to_polynomial[0][b] = polynomial_of[b];
    to_polynomial[1][b] = polynomial_of[b << 8];
    from_polynomial[0][b] = cantor_of[b];
    from_polynomial[1][b] = cantor_of[b << 8];
  }
}

const Field& field() noexcept {
  static const Field f;
  return f;
}

}  // namespace zg
