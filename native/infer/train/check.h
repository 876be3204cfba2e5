// Two proofs that training is right, run by `zg-train check`: derivatives against finite differences, and every SIMD level
// against the plain one.
#pragma once

#include <cstdint>
#include <string>

namespace zg::train {

/// Gradients of a small model, in double against central differences at random places of every tensor, and in float
/// against double, for every level of this processor. `json` gets the figures; true when all are within tolerance.
bool check_gradients(uint64_t seed, std::string* json);

/// The forward pass beside the deterministic reference (native/infer/det, keys and values as floats) on the first `count` ids of a seed.
/// JSON: the largest difference of a logit in standard deviations of the logits, and whether the reference rounds activations to 8 bits
/// (files with quantized matrices). The fault, or empty.
std::string compare_reference(const std::string& path, long count, uint64_t seed, std::string* json);

}  // namespace zg::train
