// Reed-Solomon over GF(2^8) modulo x^8 + x^4 + x^3 + x^2 + 1 (0x11d), systematic, with the Cauchy parity matrix of storage.md 11:
// parity row i has the coefficients 1 / ((k + i) xor j) for data shard j. The TypeScript form of the same is
// lib/crypto/reed-solomon.ts; a test compares them.
//
//   path      needs                     what multiplies
//   generic   nothing                   one look-up a byte; the truth that all others are tested against
//   avx2      AVX2                      two shuffles of 32 bytes by nibbles
//   gfni      AVX2 and GFNI             one 8 × 8 bit matrix on 32 bytes
//   gfni512   AVX-512 F, BW and GFNI    the same on 64 bytes
//
// All functions are pure, thread safe and noexcept. Buffers need no alignment and do not overlap.
#pragma once

#include <cstddef>
#include <cstdint>

namespace zg {

// Shards of a code word, data and parity together.
inline constexpr size_t kMaxShards = 256;
inline constexpr size_t kMaxShardBytes = 262144;

// Products of the field, one table for each kind of path: all are indexed by the factor first.
struct RsTables {
  uint8_t product[256][256];
  uint8_t inverse[256];      // inverse[0] is 0 and means nothing
  uint8_t nibbles[256][32];  // factor · v, then factor · 16v, for v < 16
  uint64_t matrix[256];      // what GFNI's affine transformation takes
  RsTables() noexcept;
};

// Built at the first call, 0.2 ms.
const RsTables& rs_tables() noexcept;

struct RsPath {
  const char* name;
  // out[r] = Σ_c coefficients[r·cols + c] · in[c], `size` bytes each, any number of rows and columns.
  void (*dot)(const uint8_t* coefficients, size_t rows, size_t cols, const uint8_t* const* in, uint8_t* const* out,
              size_t size) noexcept;
};

extern const RsPath kRsGeneric;
#if defined(__x86_64__)
extern const RsPath kRsAvx2;
extern const RsPath kRsGfni;
extern const RsPath kRsGfni512;
#endif

// All paths of this machine, narrowest first; ends with nullptr. Static storage.
const RsPath* const* available_rs() noexcept;

// The path by name, or nullptr when it is unknown or the machine lacks it.
const RsPath* rs_by_name(const char* name) noexcept;

// The widest path that fits a path of the hashing (cpu.h): ZG_CPU names one of those.
const RsPath* rs_for(const char* kernels_name) noexcept;

// True for 1 ≤ k, 0 ≤ m, k + m ≤ 256.
constexpr bool rs_shape(size_t k, size_t m) noexcept { return k >= 1 && k <= kMaxShards && m <= kMaxShards - k; }

// Coefficients of the parity rows, m × k.
void rs_parity_matrix(size_t k, size_t m, uint8_t* out) noexcept;

// Coefficients that make the wanted shards from k others.
//   have      k different indexes below k + m, in any order
//   wanted    `count` indexes below k + m
//   out       count × k: row w gives shard wanted[w] from the shards in the order of `have`
//   work      2 · k · k bytes of the caller's
void rs_recovery_matrix(size_t k, const uint16_t* have, const uint16_t* wanted, size_t count, uint8_t* out,
                        uint8_t* work) noexcept;

}  // namespace zg
