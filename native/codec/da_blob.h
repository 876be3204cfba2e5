// Encoding of a whole blob (da-design.md 4, steps 1 to 5).
#pragma once

#include "da_code.h"
#include "da_hash.h"

namespace zg {

struct DaShape {
  size_t k = 0;  // data rows, a power of two up to kMaxRows
  size_t w = 0;  // bytes a row, a multiple of 64 up to kMaxRowBytes
};

// Reads k and w of a shape tag; false when they are out of range.
bool shape_of(const uint8_t* tag, DaShape* shape) noexcept;

// Row roots and z of a blob.
//   data     size ≤ k·w bytes, rows one behind the other; the rest is zero
//   parity   2k·w bytes for the code rows k … 3k − 1, or nullptr: then they live in memory of their own meanwhile
//   out      3k × 32 bytes of row roots, then k × 16 bytes of z
// False when there is no memory.
bool encode_blob(const uint8_t* tag, const uint8_t* data, size_t size, uint8_t* parity, uint8_t* out, const Kernels& k,
                 const Lanes& lanes) noexcept;

}  // namespace zg
