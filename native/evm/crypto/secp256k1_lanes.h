// Public key recovery on eight signatures at once, with the 52-bit multiply-add of AVX-512 IFMA. The reference is libsecp256k1
// (crypto/secp256k1.h), which also takes what the lanes' incomplete addition formulas cannot decide.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/types.h"
#include "base/u256.h"

namespace zg {

// Signatures a call is best at: inversions are shared among them.
inline constexpr size_t kRecoverLanesBatch = 128;

struct LaneItem {
  // In: r and s in 1…n−1, digest modulo n taken here.
  U256 digest, r, s;
  bool y_parity = false;
  // Out.
  enum class Answer : uint8_t {
    key,     // x and y are the key
    none,    // r is no abscissa: nobody signed this
    unknown  // ask the reference: an addition met its own point, or the result is infinity
  } answer = Answer::unknown;
  U256 x, y;
};

// Whether this CPU and system have AVX-512 F, DQ, VL, BW and IFMA.
bool recover_lanes_available() noexcept;
// At most kRecoverLanesBatch items; only where it is available. Thread safe.
void recover_lanes(LaneItem* items, size_t count) noexcept;

}  // namespace zg
