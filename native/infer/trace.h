// What a checker needs of each token (compute.md 6.2, inference.md 12.1): the digest of the state that predicts it, and a running hash of
// tokens and largest logits.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace zg::infer {

using Digest = std::array<uint8_t, 32>;

// Largest logits that enter the running hash.
inline constexpr size_t kTraceLogits = 16;

// keccak-256 of n floats as bits, little endian.
Digest hidden_digest(const float* hidden, size_t n);
// keccak-256 of the largest logits (fewer when there are fewer), best first, ties by lower id: for each its id and its bits, u32 little
// endian.
Digest logits_digest(const float* logits, size_t count);
// t_i = keccak-256(t_{i−1} ‖ token, u32 little endian ‖ digest of the logits).
Digest next_hash(const Digest& before, uint32_t token, const Digest& logits);

}  // namespace zg::infer
