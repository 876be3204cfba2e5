// 64 bytes at a time with affine transformations.
#if defined(__x86_64__)
#include <immintrin.h>

#include "rs.h"

#define ZG_TARGET __attribute__((target("avx512f,avx512bw,gfni")))

namespace zg {
namespace rs_gfni512 {
namespace {

const RsTables& tables = rs_tables();

struct Lane {
  using V = __m512i;
  static constexpr size_t kBytes = 64;

  ZG_TARGET static inline V load(const uint8_t* p) noexcept { return _mm512_loadu_si512(p); }
  ZG_TARGET static inline void store(uint8_t* p, V v) noexcept { _mm512_storeu_si512(p, v); }
  ZG_TARGET static inline V zero() noexcept { return _mm512_setzero_si512(); }
  ZG_TARGET static inline V xor_of(V a, V b) noexcept { return _mm512_xor_si512(a, b); }

  struct Factor {
    V matrix;

    ZG_TARGET inline explicit Factor(uint8_t coefficient) noexcept
        : matrix(_mm512_set1_epi64(static_cast<long long>(tables.matrix[coefficient]))) {}
    ZG_TARGET inline V times(V v) const noexcept { return _mm512_gf2p8affine_epi64_epi8(v, matrix, 0); }
  };
};

#include "rs_lanes.inc"

}  // namespace
}  // namespace rs_gfni512

const RsPath kRsGfni512 = {"gfni512", rs_gfni512::dot};

}  // namespace zg
#endif
