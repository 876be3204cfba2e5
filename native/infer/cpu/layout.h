// Plain structures shared by the engine and the files of the CPU levels. Level files are compiled for wider processors than the one the
// program may run on, so nothing here may be an inline function or template that the linker could take from them.
#pragma once

#include <stddef.h>
#include <stdint.h>

// Weights are kept in groups of 16 rows. Quantized types: for each block of 32 columns a tile, in which 4 columns of 16 rows (a quad)
// are 64 bytes; before the tiles of each 8 blocks (a segment; the last may be shorter) their scales ("aux"), so that a product reads one
// stream of ascending addresses: two streams are read half as fast. Codes are unsigned: value = code − offset, and the offset is taken off
// through the activations' sums.
//
//   8 bits       quad k at byte 64k
//   4 bits       byte i of quad k: low nibble, of quad k + 4: high nibble of byte 64k + i, k < 4
//   2 bits more  two times 64 bytes: quad k in bits 2(k mod 4) of the bytes of half k / 4
//   1 bit more   64 bytes: quad k in bit k
//
// Float types: for each column 16 values.
constexpr int ZG_ROWS = 16;
constexpr int ZG_BLOCK = 32;
constexpr int ZG_SEGMENT = 256;
// Tokens of a page of the cache, positions of a block of attention.
constexpr int ZG_PAGE = 16;
constexpr int ZG_KEYS = 64;
// Tokens that go through a product side by side at most.
constexpr int ZG_TOKENS = 12;
// Query heads of one row computed side by side in attention at most, and rows × heads: those that share the reading of keys and values.
constexpr int ZG_HEADS = 4;
constexpr int ZG_QUERIES = 8;

// How 32 weights of a row lie: bits of the code, and whether a nibble is looked up.
enum ZgCode { ZG_CODE_8, ZG_CODE_4, ZG_CODE_4_TABLE, ZG_CODE_5, ZG_CODE_6, ZG_CODE_2, ZG_CODE_3, ZG_CODE_FLOAT };

// What stands in aux.
enum ZgScale {
  // Every block: 16 halves d; the same as floats; d and 16 halves that are added times the activations' sum.
  ZG_SCALE_D,
  ZG_SCALE_F,
  ZG_SCALE_DM,
  // Every 8 blocks: 16 halves d [16 halves dmin], then for each block 16 bytes per factor: s · s, m · s0, s1 · s0, s1, m0, m1.
  ZG_SCALE_K1,
  ZG_SCALE_K1M,
  ZG_SCALE_K2,
  ZG_SCALE_K2M,
};

struct ZgMatrix {
  const uint8_t* data;
  // Id of the type as in files.
  uint32_t type;
  uint32_t columns;
  uint32_t rows;
  uint32_t groups;
  size_t group_bytes;
};

// Activations of up to ZG_TOKENS tokens side by side. Blocks of 32: quants [block][token][32]; d [block][2][token]: the scale, and the sum
// of all quants times −1 as a float; sums [block][3][token]: of the quants of each half (AVX-512: times −1), and of all times −1. As floats [column][token].
struct ZgTokens {
  uint32_t count;
  const int8_t* q;
  const float* d;
  const int32_t* sums;
  const float* x;
};

// Where one token's 8-bit blocks go: the same, count tokens apart.
struct ZgSlot {
  uint32_t count;
  int8_t* q;
  float* d;
  int32_t* sums;
};

// Attention of the query heads of one key-value head, for rows at the positions position … position + rows − 1 of one sequence: each sees the
// positions up to its own, with a window only so many.
struct ZgAttention {
  // Of each page of the sequence: keys of this layer and head [dimension][16], values [16][padded head size], in cells.
  const void* const* pages;
  // Cells are floats, else halves.
  int floats;
  size_t key_offset;
  size_t value_offset;
  // Rows are stride apart.
  const float* q;
  float* out;
  size_t stride;
  uint32_t rows;
  uint32_t heads;
  uint32_t head_size;
  // Rounded up to 16.
  uint32_t padded;
  uint32_t position;
  // 0: none.
  uint32_t window;
  float scale;
  // 0: none.
  float cap;
  // 2 · ZG_QUERIES · padded floats.
  float* scratch;
};

// Where one token's keys and values go within a page, in cells.
struct ZgPlace {
  int floats;
  uint32_t slot;
  uint32_t heads;
  uint32_t head_size;
  uint32_t padded;
  size_t key_offset;
  size_t value_offset;
};

// One level of CPU: all of the arithmetic. Every function gives the bits of native/infer/det.
struct ZgLevel {
  const char* name;
  // Quants of Q8_0 are stored with 128 added.
  int unsigned_q8;

  // y[token · stride + row] for the rows of groups begin … end − 1; rows up to a multiple of 16 are written.
  void (*product)(const struct ZgMatrix* w, uint32_t begin, uint32_t end, const struct ZgTokens* tokens, uint32_t token_groups, float* y,
                  size_t stride);
  // 8-bit blocks of one token; its columns are padded with zeros up to a whole block.
  void (*quantize)(const float* x, uint32_t columns, const struct ZgSlot* slot);
  // RMS norm of count vectors of n values one behind the other; out may be x.
  void (*norm)(const float* x, const float* weight, float* out, uint32_t n, uint32_t count, float epsilon);
  // x += y.
  void (*add)(float* x, const float* y, size_t n);
  // g = act(g) · u, act: SiLU, or GELU.
  void (*gate)(float* g, const float* u, size_t n, int gelu);
  // x = cap · tanh(x / cap).
  void (*soft_cap)(float* x, size_t n, float cap);
  // RoPE of count heads; turns: the cosines of all pairs, then the sines.
  void (*rotate)(float* heads, uint32_t count, uint32_t head_size, uint32_t pairs, const float* turns, int half_split);
  // Writes one token's keys and values, floats, into its slot of a page.
  void (*store)(const float* k, const float* v, void* page, const struct ZgPlace* to);
  void (*attend)(const struct ZgAttention* a);
  // y = fma(weight, x, y).
  void (*mix)(float* y, const float* x, size_t n, float weight);
  // 1 when no value is infinite or no number.
  int (*finite)(const float* x, size_t n);
  // The largest of each of so many blocks, whose length is a multiple of 16; all are numbers.
  void (*maxima)(const float* x, size_t blocks, size_t block, float* out);
  // Σ ⌊exp(x / t − most) · 2³²⌋ over n values, none above most · t; in e, unless null, the exponentials. No number counts as 0.
  uint64_t (*weigh)(const float* x, size_t n, float t, float most, float* e);
};

extern "C" {
extern const struct ZgLevel zg_level_generic;
extern const struct ZgLevel zg_level_avx2;
extern const struct ZgLevel zg_level_avx512;
extern const struct ZgLevel zg_level_neon;
// Linked to benchmarks alone: other bits (free.cpp).
extern const struct ZgLevel zg_level_free;
}
