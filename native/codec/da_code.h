// The Reed–Solomon code of rate 1/3 over the rows of a blob (da-design.md 3): additive FFT for encoding, error locator for decoding.
// The TypeScript form is lib/codec/da/code.ts (there decoding is Lagrange interpolation); a test compares them.
#pragma once

#include "da_lanes.h"

namespace zg {

inline constexpr size_t kMaxLogRows = 10;
inline constexpr size_t kMaxRows = size_t{1} << kMaxLogRows;

// Code rows k … 3k − 1.
//   rows    k pointers to w bytes each; w a multiple of 64
//   parity  2k × w bytes, row k first
// False when there is no memory for the work buffers (about half a MiB).
bool encode_rows(const uint8_t* const* rows, size_t k, size_t w, uint8_t* parity, const Lanes& lanes) noexcept;

// Data rows 0 … k − 1 from k different code rows.
//   indexes  k code rows below 3k, all different
//   rows     k pointers to w bytes each, in that order
//   out      k × w bytes; must not overlap the rows
bool decode_rows(const uint16_t* indexes, const uint8_t* const* rows, size_t k, size_t w, uint8_t* out,
                 const Lanes& lanes) noexcept;

// Enc(z): k × 16 bytes (eight symbols, u16 LE) to 3k × 16.
bool extend_z(const uint8_t* z, size_t k, uint8_t* out, const Lanes& lanes) noexcept;

}  // namespace zg
