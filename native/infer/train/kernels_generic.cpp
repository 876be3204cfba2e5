// The kernels for any processor: what the compiler's baseline gives (SSE2 on x86-64, NEON on arm64).
#include "kernels.h"

#define ZG_LEVEL kernels_generic
#define ZG_FN
#define ZG_BYTES 16
#define ZG_ROWS 4
#define ZG_VECTORS 2
#define ZG_DEPTH 256
#include "kernels.inc"
