// GF(2^16) in the Cantor basis (da-design.md 3): numbers are coordinates, addition is exclusive or. The TypeScript form of the same is
// lib/codec/da/field.ts; a test compares them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace zg {

inline constexpr uint32_t kFieldOrder = 65535;

struct Field {
  uint16_t exp[2 * kFieldOrder];  // generator^i in Cantor coordinates, twice over
  uint16_t log[65536];            // log[0] is never read
  // Between Cantor coordinates and polynomials modulo x^16 + x^5 + x^3 + x^2 + 1, by low and high byte.
  uint16_t to_polynomial[2][256];
  uint16_t from_polynomial[2][256];
  Field() noexcept;
};

// Built at the first call, 1 ms.
const Field& field() noexcept;

// β_0 … β_15 as polynomials.
extern const uint16_t kCantorBasis[16];

inline uint16_t field_mul(const Field& f, uint16_t a, uint16_t b) noexcept {
  return a == 0 || b == 0 ? uint16_t{0} : f.exp[f.log[a] + f.log[b]];
}

}  // namespace zg
