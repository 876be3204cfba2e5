// Proof of random access (storage.md 9): sealing data for a miner and trying numbers against it. The TypeScript form of the same is
// lib/codec/storage/pora.ts; the vectors of both come from the protocol.
//
// Hashing goes through the lanes of keccak.h; BLAKE2b, which costs most of a try, has its own:
//
//   path       seals at once  needs
//   generic    1              nothing; the truth that all others are tested against
//   avx2       4              AVX2
//   avx512vl   4              AVX-512 F and VL
//
// All functions are pure, thread safe and noexcept.
#pragma once

#include "keccak.h"

namespace zg {

inline constexpr size_t kSealBytes = 4096;
inline constexpr size_t kSegmentSeals = 64;
inline constexpr size_t kPadBytes = 16384;
inline constexpr size_t kPadSeedBytes = 64;

// out = sealed data of `count` seals. `masks` are the first masks, 32 bytes a seal; data and out may be the same.
void pora_seal(const uint8_t* masks, const uint8_t* data, uint8_t* out, size_t count, const Kernels& k) noexcept;

// The reverse; data and out may not overlap.
void pora_unseal(const uint8_t* masks, const uint8_t* data, uint8_t* out, size_t count, const Kernels& k) noexcept;

// Seed, pad and recall number of `count` tries.
//   miner, subtask, range   32 bytes each
//   nonces                  32 bytes a try
//   seeds, pads, recalls    64, 16384 and 32 bytes a try
void pora_pads(const uint8_t* miner, const uint8_t* nonces, const uint8_t* subtask, const uint8_t* range, size_t count,
               uint8_t* seeds, uint8_t* pads, uint8_t* recalls, const Kernels& k) noexcept;

struct PoraPath {
  const char* name;
  size_t lanes;
  // Qualities of seals first … first + lanes − 1 (first a multiple of lanes), 32 bytes each. `sealed` is the data of seal `first`.
  void (*qualities)(size_t first, const uint8_t* seed, const uint8_t* sealed, const uint8_t* pad, uint8_t* out) noexcept;
};

extern const PoraPath kPoraGeneric;
#if defined(__x86_64__)
extern const PoraPath kPoraAvx2;
extern const PoraPath kPoraAvx512vl;
#endif

// The widest path that fits a path of the hashing.
const PoraPath& pora_for(const Kernels& k) noexcept;

// The best quality of a segment of 64 seals.
//   held    bit i set: seal i is there and counts
//   out     its 32 bytes, the lowest as a big-endian number; untouched when nothing is held
// Gives the seal's index, 64 when nothing is held.
size_t pora_best(uint64_t held, const uint8_t* seed, const uint8_t* sealed, const uint8_t* pad, uint8_t* out,
                 const PoraPath& path) noexcept;

}  // namespace zg
