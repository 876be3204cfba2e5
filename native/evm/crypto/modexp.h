// base^exponent mod modulus on byte strings, big-endian, any length: Montgomery multiplication with windows for the odd part of the modulus, truncated
// products for its power of two, joined by the Chinese remainder theorem. Time and memory grow with the lengths: the caller has charged
// for them. Variable time. Thread safe.
#pragma once

#include "base/types.h"

namespace zg {

// As long as the modulus; zeros for a modulus of 0 or 1. 0^0 = 1.
Bytes modexp(ByteView base, ByteView exponent, ByteView modulus);
// The same without special instructions: the reference of the other one, for tests.
Bytes modexp_plain(ByteView base, ByteView exponent, ByteView modulus);

}  // namespace zg
