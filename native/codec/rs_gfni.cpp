// 32 bytes at a time with affine transformations: a factor is one 8 × 8 bit matrix. (The instruction that multiplies in GF(2^8)
// itself is of no use: its polynomial is 0x11b.)
#if defined(__x86_64__)
#include <immintrin.h>

#include "rs.h"

#define ZG_TARGET __attribute__((target("avx2,gfni")))

namespace zg {
namespace rs_gfni {
namespace {

const RsTables& tables = rs_tables();

struct Lane {
  using V = __m256i;
  static constexpr size_t kBytes = 32;

  ZG_TARGET static inline V load(const uint8_t* p) noexcept { return _mm256_loadu_si256(reinterpret_cast<const V*>(p)); }
  ZG_TARGET static inline void store(uint8_t* p, V v) noexcept { _mm256_storeu_si256(reinterpret_cast<V*>(p), v); }
  ZG_TARGET static inline V zero() noexcept { return _mm256_setzero_si256(); }
  ZG_TARGET static inline V xor_of(V a, V b) noexcept { return _mm256_xor_si256(a, b); }

  struct Factor {
    V matrix;

    ZG_TARGET inline explicit Factor(uint8_t coefficient) noexcept
        : matrix(_mm256_set1_epi64x(static_cast<long long>(tables.matrix[coefficient]))) {}
    ZG_TARGET inline V times(V v) const noexcept { return _mm256_gf2p8affine_epi64_epi8(v, matrix, 0); }
  };
};

#include "rs_lanes.inc"

}  // namespace
}  // namespace rs_gfni

const RsPath kRsGfni = {"gfni", rs_gfni::dot};

}  // namespace zg
#endif
