// How each quantized type lies in packed form, as constants for templates (see layout.h: macros and enums only).
#pragma once

#include "layout.h"

// X(id, name, code, offset's power of two or −1 for none, scale)
#define ZG_QUANTIZED_TYPES(X)                              \
  X(2, Q4_0, ZG_CODE_4, 3, ZG_SCALE_D)                     \
  X(3, Q4_1, ZG_CODE_4, -1, ZG_SCALE_DM)                   \
  X(6, Q5_0, ZG_CODE_5, 4, ZG_SCALE_D)                     \
  X(7, Q5_1, ZG_CODE_5, -1, ZG_SCALE_DM)                   \
  X(8, Q8_0, ZG_CODE_8, 7, ZG_SCALE_D)                     \
  X(10, Q2_K, ZG_CODE_2, -1, ZG_SCALE_K2M)                 \
  X(11, Q3_K, ZG_CODE_3, 2, ZG_SCALE_K2)                   \
  X(12, Q4_K, ZG_CODE_4, -1, ZG_SCALE_K1M)                 \
  X(13, Q5_K, ZG_CODE_5, -1, ZG_SCALE_K1M)                 \
  X(14, Q6_K, ZG_CODE_6, 5, ZG_SCALE_K2)                   \
  X(20, IQ4_NL, ZG_CODE_4_TABLE, 7, ZG_SCALE_D)            \
  X(23, IQ4_XS, ZG_CODE_4_TABLE, 7, ZG_SCALE_K1)           \
  X(39, MXFP4, ZG_CODE_4_TABLE, 7, ZG_SCALE_F)

// Values of nibbles.
#define ZG_TABLE_IQ4 {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}
#define ZG_TABLE_MX {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12}

// Bytes of a tile by code, and of aux by scale (for one block, or for eight).
#define ZG_TILE_BYTES(code)                                                                                                       \
  ((code) == ZG_CODE_8 ? 512 : (code) == ZG_CODE_6 ? 384 : (code) == ZG_CODE_5 ? 320 : (code) == ZG_CODE_3 ? 192 : (code) == ZG_CODE_2 ? 128 : 256)
#define ZG_IS_K(scale) ((scale) >= ZG_SCALE_K1)
// Of the aux of a segment of so many blocks: tiles behind it are aligned.
#define ZG_SEGMENT_AUX(scale, blocks) (((ZG_IS_K(scale) ? ZG_AUX_BYTES(scale) : (blocks) * ZG_AUX_BYTES(scale)) + 63) / 64 * 64)
#define ZG_AUX_BYTES(scale)                                                                                                       \
  ((scale) == ZG_SCALE_D ? 32 : (scale) == ZG_SCALE_K1 ? 160 : (scale) == ZG_SCALE_K1M ? 320 : (scale) == ZG_SCALE_K2 ? 288 : (scale) == ZG_SCALE_K2M ? 576 : 64)
