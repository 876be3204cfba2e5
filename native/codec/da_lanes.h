// Arithmetic on strips of a code row, in one implementation for each width of the machine. A strip is a whole number of 64-byte
// blocks; in a block, byte i and byte 32 + i are the low and high byte of symbol i.
//
//   path      needs                what multiplies
//   generic   nothing              eight look-ups a symbol; the truth that all others are tested against
//   ssse3     SSSE3                eight shuffles of 16 bytes by nibbles
//   avx2      AVX2                 the same on 32 bytes
//   gfni      AVX2 and GFNI        four 8 × 8 bit matrices on 32 bytes
//
// A factor is expanded once into a table of kFactorBytes. All functions are pure, thread safe and noexcept; strips need no
// alignment and do not overlap.
#pragma once

#include <cstddef>
#include <cstdint>

namespace zg {

inline constexpr size_t kBlockBytes = 64;
inline constexpr size_t kFactorBytes = 128;

struct Lanes {
  const char* name;
  // Expands a factor.
  void (*expand)(uint16_t factor, uint8_t* table) noexcept;
  // a += factor · b; then b += a.
  void (*forward)(uint8_t* a, uint8_t* b, size_t size, const uint8_t* table) noexcept;
  // b += a; then a += factor · b.
  void (*backward)(uint8_t* a, uint8_t* b, size_t size, const uint8_t* table) noexcept;
  // to = factor · from; both may be the same strip.
  void (*scale)(uint8_t* to, const uint8_t* from, size_t size, const uint8_t* table) noexcept;
};

extern const Lanes kLanesGeneric;
#if defined(__x86_64__)
extern const Lanes kLanesSsse3;
extern const Lanes kLanesAvx2;
extern const Lanes kLanesGfni;
#endif

// All paths of this machine, narrowest first; ends with nullptr. Static storage.
const Lanes* const* available_lanes() noexcept;

// The path by name, or nullptr when it is unknown or the machine lacks it.
const Lanes* lanes_by_name(const char* name) noexcept;

// The widest path that fits a path of the hashing (cpu.h): ZG_CPU names one of those.
const Lanes* lanes_for(const char* kernels_name) noexcept;

// Nibble tables of a factor: table[32·n + v] and table[32·n + 16 + v] are the low and high byte of factor · (v << 4n).
void expand_nibbles(uint16_t factor, uint8_t* table) noexcept;

// to += from, any size.
inline void add_bytes(uint8_t* __restrict to, const uint8_t* __restrict from, size_t size) noexcept {
  for (size_t i = 0; i < size; i++) to[i] ^= from[i];
}

}  // namespace zg
