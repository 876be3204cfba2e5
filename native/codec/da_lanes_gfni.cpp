// 32 bytes at a time with affine transformations: a factor is four 8 × 8 bit matrices, from low and high byte to low and high byte.
#if defined(__x86_64__)
#include <immintrin.h>

#include <cstring>

#include "da_field.h"
#include "da_lanes.h"

#define ZG_TARGET __attribute__((target("avx2,gfni")))

namespace zg {
namespace da_gfni {
namespace {

// The matrix that takes bit b of a byte to byte `out` (0 low, 1 high) of factor · (1 << (8·in + b)), as the instruction wants it: byte
// 7 − i of the matrix selects the inputs of output bit i.
uint64_t matrix(uint16_t factor, size_t in, size_t out) noexcept {
  const Field& f = field();
  uint64_t m = 0;
  for (size_t b = 0; b < 8; b++) {
    const uint16_t product = field_mul(f, factor, static_cast<uint16_t>(1u << (8 * in + b)));
    const uint32_t byte = (product >> (8 * out)) & 0xff;
    for (size_t i = 0; i < 8; i++) {
      if ((byte >> i & 1) != 0) m |= uint64_t{1} << (8 * (7 - i) + b);
    }
  }
  return m;
}

void expand(uint16_t factor, uint8_t* table) noexcept {
  for (size_t in = 0; in < 2; in++) {
    for (size_t out = 0; out < 2; out++) {
      const uint64_t m = matrix(factor, in, out);
      std::memcpy(table + 8 * (2 * in + out), &m, 8);
    }
  }
}

struct Lane {
  using V = __m256i;
  static constexpr size_t kBytes = 32;

  ZG_TARGET static inline V load(const uint8_t* p) noexcept { return _mm256_loadu_si256(reinterpret_cast<const V*>(p)); }
  ZG_TARGET static inline void store(uint8_t* p, V v) noexcept { _mm256_storeu_si256(reinterpret_cast<V*>(p), v); }
  ZG_TARGET static inline V add(V a, V b) noexcept { return _mm256_xor_si256(a, b); }
  ZG_TARGET static inline V zero() noexcept { return _mm256_setzero_si256(); }

  struct Factor {
    V m[4];

    ZG_TARGET inline explicit Factor(const uint8_t* table) noexcept {
      for (size_t i = 0; i < 4; i++) {
        long long word;
        std::memcpy(&word, table + 8 * i, 8);
        m[i] = _mm256_set1_epi64x(word);
      }
    }

    ZG_TARGET inline void add(V lo, V hi, V& to_lo, V& to_hi) const noexcept {
      to_lo = Lane::add(to_lo, Lane::add(_mm256_gf2p8affine_epi64_epi8(lo, m[0], 0), _mm256_gf2p8affine_epi64_epi8(hi, m[2], 0)));
      to_hi = Lane::add(to_hi, Lane::add(_mm256_gf2p8affine_epi64_epi8(lo, m[1], 0), _mm256_gf2p8affine_epi64_epi8(hi, m[3], 0)));
    }
  };
};

#include "da_lanes.inc"

}  // namespace
}  // namespace da_gfni

const Lanes kLanesGfni = {"gfni", da_gfni::expand, da_gfni::forward, da_gfni::backward, da_gfni::scale};

}  // namespace zg
#endif
