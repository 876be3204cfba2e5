// The kernels with AVX-512: 8 rows of 2 vectors, multipliers broadcast from memory by the instruction itself.
#include "kernels.h"

#define ZG_LEVEL kernels_avx512
#ifdef __x86_64__
#define ZG_FN __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")))
#define ZG_BYTES 64
#define ZG_ROWS 8
#else
#define ZG_FN
#define ZG_BYTES 16
#define ZG_ROWS 4
#endif
#include "kernels.inc"
