// ECDSA verification on P-256 (FIPS 186-5, SP 800-186), for the precompile of EIP-7951. Thread safe.
#pragma once

#include "base/types.h"
#include "base/u256.h"

namespace zg {

// False for r or s outside 1…n−1, a key that is off the curve, has a coordinate ≥ p or is (0, 0), and for a signature that does not fit.
bool p256_verify(const Hash& digest, const U256& r, const U256& s, const U256& x, const U256& y) noexcept;

}  // namespace zg
