// The 128-bit check of the fast mode (da-design.md 4, steps 4 and 5): sums Σ_j row[j] · r[j] with coefficients r that follow from the
// commitment to the rows.
#pragma once

#include "da_hash.h"

namespace zg {

// seedR of the 48 bytes P.
void coefficient_seed(const uint8_t* p, uint8_t* seed, const Kernels& k) noexcept;

// Sums of rows, 16 bytes each: eight symbols, u16 LE.
//   rows   count pointers to w bytes each, w a multiple of 64
// False when there is no memory for `count` sums.
bool row_sums(const uint8_t* seed, const uint8_t* const* rows, size_t count, size_t w, uint8_t* out,
              const Kernels& k) noexcept;

}  // namespace zg
