// The kernels with AVX2 and fused multiply-add: 6 rows of 2 vectors fill 12 of the 16 registers.
#include "kernels.h"

#define ZG_LEVEL kernels_avx2
#ifdef __x86_64__
#define ZG_FN __attribute__((target("avx2,fma")))
#define ZG_BYTES 32
#define ZG_ROWS 6
#else
#define ZG_FN
#define ZG_BYTES 16
#define ZG_ROWS 4
#endif
#define ZG_VECTORS 2
#define ZG_DEPTH 256
#include "kernels.inc"
