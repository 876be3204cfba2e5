// Merkle trees of the storage layer. The TypeScript form of the same is lib/crypto/reference.ts; a test compares them.
//
//   leaf = keccak(sector of 256 bytes), node = keccak(left ‖ right), an odd last one moves up unchanged
#pragma once

#include "keccak.h"

namespace zg {

inline constexpr size_t kSegmentSectors = 1024;
inline constexpr size_t kSegmentBytes = kSegmentSectors * kSectorBytes;

// Number of segments that `size` bytes make; no bytes are one segment of zeros.
constexpr size_t segment_count(size_t size) noexcept {
  return size == 0 ? 1 : (size + kSegmentBytes - 1) / kSegmentBytes;
}

// True when the last segment of `size` bytes can have so many leaves.
constexpr bool leaves_fit(size_t size, size_t last_leaves) noexcept {
  const size_t rest = size == 0 ? 0 : (size - 1) % kSegmentBytes + 1;
  return last_leaves >= 1 && last_leaves <= kSegmentSectors && last_leaves * kSectorBytes >= rest;
}

// Roots of consecutive segments.
//   data         size bytes; all segments but the last are whole, the last is filled with zero bytes
//   last_leaves  leaves of the last segment; leaves_fit(size, last_leaves) must hold
//   out          segment_count(size) × 32 bytes
void segment_roots(const uint8_t* data, size_t size, size_t last_leaves, uint8_t* out, const Kernels& k) noexcept;

// Root over count ≥ 1 hashes, in place: the result is hashes[0 … 31], the rest is overwritten.
void tree_root(uint8_t* hashes, size_t count, const Kernels& k) noexcept;

}  // namespace zg
