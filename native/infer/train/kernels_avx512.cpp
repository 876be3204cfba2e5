// The kernels with AVX-512: 8 rows of 3 vectors.
#include "kernels.h"

#define ZG_LEVEL kernels_avx512
#ifdef __x86_64__
#include <immintrin.h>
#define ZG_FN __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")))
#define ZG_BYTES 64
#define ZG_ROWS 8
#define ZG_VECTORS 3
#define ZG_DEPTH 144
#define ZG_TURNS
#include "kernels_turn512.inc"
#else
#define ZG_FN
#define ZG_BYTES 16
#define ZG_ROWS 4
#define ZG_VECTORS 2
#define ZG_DEPTH 256
#endif
#include "kernels.inc"
