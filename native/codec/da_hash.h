// Hashing of the fast mode of data availability (da-design.md 4): row roots, streams of coefficients, complete trees.
#pragma once

#include "keccak.h"

namespace zg {

inline constexpr size_t kLineBytes = 32768;
inline constexpr size_t kTagBytes = 16;
inline constexpr size_t kMaxRowBytes = 32704;

// ρ of each row: keccak tree over 128 sectors of row ‖ zeros ‖ tag.
//   rows   count pointers to w bytes each, 64 ≤ w ≤ kMaxRowBytes
//   out    count × 32 bytes
void row_roots(const uint8_t* tag, const uint8_t* const* rows, size_t count, size_t w, uint8_t* out,
               const Kernels& k) noexcept;

// Hashes number `first` and following of keccak(seed ‖ u64 0) ‖ keccak(seed ‖ u64 1) ‖ …
void hash_stream(const uint8_t* seed, uint64_t first, size_t count, uint8_t* out, const Kernels& k) noexcept;

// All nodes over n leaves, n a power of two: out holds the leaves and gets the levels behind them, (2n − 1) × 32 bytes.
void tree_nodes(uint8_t* out, size_t n, const Kernels& k) noexcept;

}  // namespace zg
