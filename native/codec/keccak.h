// Keccak-256 (the one of Ethereum: pad 0x01, not SHA-3's 0x06) for single messages and for the two shapes of Merkle trees, in
// one implementation for each width of the machine.
//
//   path       lanes  needs
//   generic    1      nothing; keccak_scalar.cpp, the truth that all others are tested against
//   avx2       4      AVX2
//   avx512vl   4      AVX-512 F and VL (rotates and three-input logic on 256-bit registers)
//   avx512     8      AVX-512 F and VL
//
// All functions are pure, thread safe and noexcept. Buffers need no alignment and may not overlap unless it says so.
#pragma once

#include <cstddef>
#include <cstdint>

namespace zg {

inline constexpr size_t kHashBytes = 32;
inline constexpr size_t kSectorBytes = 256;

// keccak-256 of one message by the scalar path.
void keccak256(const uint8_t* data, size_t size, uint8_t* out) noexcept;
#if defined(__x86_64__)
// The same with rotates that keep their operand and with and-not (BMI1 and 2, on all machines that have AVX2).
void keccak256_bmi2(const uint8_t* data, size_t size, uint8_t* out) noexcept;
// The same in one half of 128-bit registers with AVX-512VL: all 25 words fit into registers.
void keccak256_avx512vl(const uint8_t* data, size_t size, uint8_t* out) noexcept;
#endif

// The hashing of a Merkle tree on one path.
struct Kernels {
  const char* name;
  // keccak-256 of one message of any length.
  void (*one)(const uint8_t* data, size_t size, uint8_t* out) noexcept;
  // Messages hashed at once.
  size_t lanes;
  // out[32·i …] = keccak(data[256·i … 256·i + 255]) for i < lanes.
  void (*leaves)(const uint8_t* data, uint8_t* out) noexcept;
  // out[32·i …] = keccak(pairs[64·i … 64·i + 63]) for i < lanes. `out` may be `pairs`: all is read before anything is written.
  void (*nodes)(const uint8_t* pairs, uint8_t* out) noexcept;
  // out[32·i …] = keccak(words[32·i … 32·i + 31]) for i < lanes. `out` may be `words`.
  void (*words)(const uint8_t* words, uint8_t* out) noexcept;
  // out[32·i …] = keccak(seed, 32 bytes ‖ u64 LE first + i) for i < lanes.
  void (*stream)(const uint8_t* seed, uint64_t first, uint8_t* out) noexcept;
};

extern const Kernels kGeneric;
#if defined(__x86_64__)
extern const Kernels kAvx2;
extern const Kernels kAvx512vl;
extern const Kernels kAvx512;
#endif

}  // namespace zg
