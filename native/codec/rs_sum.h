// The numbers by which parity is checked (storage.md 11, "Consistency of parity"): GF(2^128) as a tower over the code's GF(2^8),
// X^16 + X^3 + X + 6; byte i of an element is the coefficient of X^i. The TypeScript form is lib/crypto/tower.ts.
#pragma once

#include "rs.h"

namespace zg {

inline constexpr size_t kTowerBytes = 16;

// a · b.
void tower_mul(const uint8_t* a, const uint8_t* b, uint8_t* out) noexcept;

// out = Σ_i data[i] · rho^i for `size` bytes, 1 to kMaxShardBytes. Linear over GF(2^8), so the sums of a code word are a code word.
// False: no memory.
bool shard_sum(const uint8_t* rho, const uint8_t* data, size_t size, uint8_t* out, const RsPath& path) noexcept;

}  // namespace zg
