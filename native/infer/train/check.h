// Two proofs that training is right, run by `zg-train check`: derivatives against finite differences, and every SIMD level
// against the plain one.
#pragma once

#include <cstdint>
#include <string>

namespace zg::train {

/// Gradients of a small model, in double against central differences at random places of every tensor, and in float
/// against double, for every level of this processor. `json` gets the figures; true when all are within tolerance.
bool check_gradients(uint64_t seed, std::string* json);

}  // namespace zg::train
