// AVX-512 with products of BF16 pairs: matrices are rounded to BF16 as they are laid out for a product, sums stay in float.
#include "kernels.h"

#define ZG_LEVEL kernels_bf16
#ifdef __x86_64__
#include <immintrin.h>
#define ZG_FN __attribute__((target("avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")))
#define ZG_BYTES 64
#define ZG_ROWS 8
#define ZG_VECTORS 3
#define ZG_DEPTH 144
#define ZG_TURNS
#define ZG_PAIRS
#include "kernels_turn512.inc"
namespace zg::train {
namespace {
ZG_FN __attribute__((always_inline)) inline __m512 multiply_pairs(__m512 sum, float a, __m512 b) {
  return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_set1_ps(a), (__m512bh)b);
}
}  // namespace
}  // namespace zg::train
#else
#define ZG_FN
#define ZG_BYTES 16
#define ZG_ROWS 4
#define ZG_VECTORS 2
#define ZG_DEPTH 256
#endif
#include "kernels.inc"
