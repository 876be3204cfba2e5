// The level for AVX-512 with VNNI. A lane is a row: one register holds four columns of sixteen rows. Compiled with its own flags, so it
// includes nothing that another file could get from it (inference.md 15).
#include "types.h"

#if defined(__AVX512VNNI__)
#include <immintrin.h>
#include <string.h>

namespace {

// ---- vectors ----

constexpr int W = 16;
using vf = __m512;
using vm = __mmask16;
#define ZG_INLINE static inline __attribute__((always_inline))
ZG_INLINE vf vset(float a) { return _mm512_set1_ps(a); }
ZG_INLINE vf vload(const float* p) { return _mm512_loadu_ps(p); }
ZG_INLINE void vstore(float* p, vf a) { _mm512_storeu_ps(p, a); }
ZG_INLINE vf vadd(vf a, vf b) { return _mm512_add_ps(a, b); }
ZG_INLINE vf vsub(vf a, vf b) { return _mm512_sub_ps(a, b); }
ZG_INLINE vf vmul(vf a, vf b) { return _mm512_mul_ps(a, b); }
ZG_INLINE vf vfma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
ZG_INLINE vf vdiv(vf a, vf b) { return _mm512_div_ps(a, b); }
ZG_INLINE vf vrint(vf a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
ZG_INLINE vf vloadh(const uint16_t* p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }
ZG_INLINE vf vmax(vf a, vf b) { return _mm512_max_ps(a, b); }
ZG_INLINE vm vlt(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
ZG_INLINE vm vgt(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
ZG_INLINE vm vunord(vf a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }
ZG_INLINE vm vor(vm a, vm b) { return (vm)(a | b); }
ZG_INLINE bool vany(vm a) { return a != 0; }
ZG_INLINE vf vsel(vm m, vf a, vf b) { return _mm512_mask_blend_ps(m, b, a); }
ZG_INLINE __m512i vint(vf a) { return _mm512_castps_si512(a); }
ZG_INLINE vf vflt(__m512i a) { return _mm512_castsi512_ps(a); }
ZG_INLINE vf vneg(vf a) { return vflt(_mm512_xor_si512(vint(a), _mm512_set1_epi32((int)0x80000000u))); }
ZG_INLINE vf vabs(vf a) { return vflt(_mm512_and_si512(vint(a), _mm512_set1_epi32(0x7fffffff))); }
ZG_INLINE vf vsign(vf magnitude, vf of) {
  return vflt(_mm512_or_si512(vint(magnitude), _mm512_and_si512(vint(of), _mm512_set1_epi32((int)0x80000000u))));
}
ZG_INLINE vf vpow2(vf p, vf n) { return vflt(_mm512_add_epi32(vint(p), _mm512_slli_epi32(_mm512_cvtps_epi32(n), 23))); }
ZG_INLINE float vtop(vf a) {
  const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
  __m128 half = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  half = _mm_max_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_max_ss(half, _mm_shuffle_ps(half, half, 1)));
}
ZG_INLINE float vjoin(vf a) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_shuffle_ps(half, half, 1)));
}
ZG_INLINE void vstoreh(uint16_t* p, vf a) { _mm256_storeu_si256((__m256i*)p, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)); }

// A build for comparison alone (bench.cpp), never part of the product: sums and factors in the order that suits the processor, not that of
// inference.md 12. What the deterministic order costs is the difference.
#ifdef ZG_FREE_ORDER
constexpr bool kFree = true;
#define ZG_LEVEL zg_level_free
#else
constexpr bool kFree = false;
#define ZG_LEVEL zg_level_avx512
#endif

#include "vector.inc"

// ---- products ----

// Bytes of weights that are asked for in advance.
constexpr int kAhead = 1'024;
constexpr int kFarAhead = 6'144;

constexpr int8_t kIq4[16] = ZG_TABLE_IQ4;
constexpr int8_t kMx[16] = ZG_TABLE_MX;

ZG_INLINE __m512i load(const uint8_t* p) { return _mm512_loadu_si512(p); }
ZG_INLINE __m512 halves(const uint8_t* p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }

// Bits of a plane to place `to` of each byte: those at `from`, under a mask.
template <int kFrom, int kTo>
ZG_INLINE __m512i moved(__m512i v) {
  if constexpr (kFrom > kTo) return _mm512_srli_epi16(v, kFrom - kTo);
  if constexpr (kFrom < kTo) return _mm512_slli_epi16(v, kTo - kFrom);
  return v;
}
// a | (b & mask).
ZG_INLINE __m512i or_masked(__m512i a, __m512i b, __m512i mask) { return _mm512_ternarylogic_epi32(a, b, mask, 0xf8); }

// The eight quads of a tile as unsigned codes.
template <int kType, int kCode>
ZG_INLINE void unpack(const uint8_t* tile, __m512i* w) {
  const __m512i low = _mm512_set1_epi8(15);
  if constexpr (kCode == ZG_CODE_8) {
    for (int k = 0; k < 8; k++) w[k] = load(tile + 64 * k);
  } else if constexpr (kCode == ZG_CODE_2 || kCode == ZG_CODE_3) {
    const __m512i two = _mm512_set1_epi8(3);
    const __m512i a = load(tile), b = load(tile + 64);
    w[0] = _mm512_and_si512(a, two);
    w[1] = _mm512_and_si512(_mm512_srli_epi16(a, 2), two);
    w[2] = _mm512_and_si512(_mm512_srli_epi16(a, 4), two);
    w[3] = _mm512_and_si512(_mm512_srli_epi16(a, 6), two);
    w[4] = _mm512_and_si512(b, two);
    w[5] = _mm512_and_si512(_mm512_srli_epi16(b, 2), two);
    w[6] = _mm512_and_si512(_mm512_srli_epi16(b, 4), two);
    w[7] = _mm512_and_si512(_mm512_srli_epi16(b, 6), two);
    if constexpr (kCode == ZG_CODE_3) {
      const __m512i h = load(tile + 128);
      const __m512i four = _mm512_set1_epi8(4);
      w[0] = or_masked(w[0], moved<0, 2>(h), four);
      w[1] = or_masked(w[1], moved<1, 2>(h), four);
      w[2] = or_masked(w[2], moved<2, 2>(h), four);
      w[3] = or_masked(w[3], moved<3, 2>(h), four);
      w[4] = or_masked(w[4], moved<4, 2>(h), four);
      w[5] = or_masked(w[5], moved<5, 2>(h), four);
      w[6] = or_masked(w[6], moved<6, 2>(h), four);
      w[7] = or_masked(w[7], moved<7, 2>(h), four);
    }
  } else {
    for (int k = 0; k < 4; k++) {
      const __m512i v = load(tile + 64 * k);
      w[k] = _mm512_and_si512(v, low);
      w[k + 4] = _mm512_and_si512(_mm512_srli_epi16(v, 4), low);
    }
    if constexpr (kCode == ZG_CODE_4_TABLE) {
      __m128i values;
      memcpy(&values, kType == 39 ? kMx : kIq4, sizeof values);
      // Unsigned: 128 is added.
      const __m512i table = _mm512_broadcast_i32x4(_mm_xor_si128(values, _mm_set1_epi8((char)0x80)));
      for (int k = 0; k < 8; k++) w[k] = _mm512_shuffle_epi8(table, w[k]);
    }
    if constexpr (kCode == ZG_CODE_5) {
      const __m512i h = load(tile + 256);
      const __m512i bit = _mm512_set1_epi8(16);
      w[0] = or_masked(w[0], moved<0, 4>(h), bit);
      w[1] = or_masked(w[1], moved<1, 4>(h), bit);
      w[2] = or_masked(w[2], moved<2, 4>(h), bit);
      w[3] = or_masked(w[3], moved<3, 4>(h), bit);
      w[4] = or_masked(w[4], moved<4, 4>(h), bit);
      w[5] = or_masked(w[5], moved<5, 4>(h), bit);
      w[6] = or_masked(w[6], moved<6, 4>(h), bit);
      w[7] = or_masked(w[7], moved<7, 4>(h), bit);
    }
    if constexpr (kCode == ZG_CODE_6) {
      const __m512i bits = _mm512_set1_epi8(48);
      const __m512i a = load(tile + 256), b = load(tile + 320);
      w[0] = or_masked(w[0], moved<0, 4>(a), bits);
      w[1] = or_masked(w[1], moved<2, 4>(a), bits);
      w[2] = or_masked(w[2], moved<4, 4>(a), bits);
      w[3] = or_masked(w[3], moved<6, 4>(a), bits);
      w[4] = or_masked(w[4], moved<0, 4>(b), bits);
      w[5] = or_masked(w[5], moved<2, 4>(b), bits);
      w[6] = or_masked(w[6], moved<4, 4>(b), bits);
      w[7] = or_masked(w[7], moved<6, 4>(b), bits);
    }
  }
}

ZG_INLINE __m512 bytes_signed(const uint8_t* p) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p))); }
ZG_INLINE __m512 bytes_unsigned(const uint8_t* p) { return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p))); }
// Factors of a segment's block number j as floats. Products of two are exact (inference.md 12.2), so scaling in floats gives the bits of scaling in integers,
// except for the sign of zero: + 0 takes care of that.
struct Factors {
  __m512 d, dm, s0, s1, m0, m1;
};

// Of the free build: factors with the block's scale in them.
template <int kScale>
ZG_INLINE void join_factors(Factors* f) {
  if constexpr (ZG_IS_K(kScale)) f->s0 = _mm512_mul_ps(f->s0, f->d);
  if constexpr (kScale == ZG_SCALE_K2 || kScale == ZG_SCALE_K2M) f->s1 = _mm512_mul_ps(f->s1, f->d);
  if constexpr (kScale == ZG_SCALE_K1M || kScale == ZG_SCALE_K2M) f->m0 = _mm512_mul_ps(f->m0, f->dm);
  if constexpr (kScale == ZG_SCALE_K2M) f->m1 = _mm512_mul_ps(f->m1, f->dm);
}

template <int kScale>
ZG_INLINE void block_factors(const uint8_t* aux, uint32_t j, Factors* f) {
  const uint8_t* own = aux + (size_t)j * ZG_AUX_BYTES(kScale);
  if constexpr (kScale == ZG_SCALE_D) f->d = halves(own);
  if constexpr (kScale == ZG_SCALE_F) f->d = _mm512_loadu_ps((const float*)own);
  if constexpr (kScale == ZG_SCALE_DM) {
    f->d = halves(own);
    f->dm = halves(own + 32);
  }
  if constexpr (ZG_IS_K(kScale)) {
    constexpr bool minimum = kScale == ZG_SCALE_K1M || kScale == ZG_SCALE_K2M;
    const uint8_t* bytes = aux + (minimum ? 64 : 32);
    f->d = halves(aux);
    if (minimum) f->dm = halves(aux + 32);
    if constexpr (kScale == ZG_SCALE_K1) f->s0 = bytes_signed(bytes + 16 * j);
    if constexpr (kScale == ZG_SCALE_K1M) {
      f->s0 = bytes_unsigned(bytes + 32 * j);
      f->m0 = bytes_unsigned(bytes + 32 * j + 16);
    }
    if constexpr (kScale == ZG_SCALE_K2) {
      f->s0 = bytes_signed(bytes + 32 * j);
      f->s1 = bytes_signed(bytes + 32 * j + 16);
    }
    if constexpr (kScale == ZG_SCALE_K2M) {
      f->s0 = bytes_unsigned(bytes + 64 * j);
      f->s1 = bytes_unsigned(bytes + 64 * j + 16);
      f->m0 = bytes_unsigned(bytes + 64 * j + 32);
      f->m1 = bytes_unsigned(bytes + 64 * j + 48);
    }
  }
}

// Tokens whose chains of dot products run side by side in a block. One chain of eight takes 32 cycles and more; in the order of a token at a time the
// processor would have to look 80 instructions ahead to find work for them, which its queues do not hold.
constexpr int kChains = 4;

// acc + w · four bytes of a token, those repeated. Compilers load them to a register of their own first, which costs an instruction in three.
typedef int32_t Four __attribute__((may_alias));
ZG_INLINE __m512i dot(__m512i acc, __m512i w, const int8_t* q) {
  asm("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(acc) : "v"(w), "m"(*(const Four*)q));
  return acc;
}

// One block of T tokens, n apart in d and sums, onto their sums.
template <int kOffset, int kScale, int T>
ZG_INLINE void block_tokens(const __m512i* w, const Factors& f, const int8_t* q, const float* d, const int32_t* sums, size_t n, __m512* acc) {
  const __m512 zero = _mm512_setzero_ps();
  constexpr bool halves_apart = kScale == ZG_SCALE_K2 || kScale == ZG_SCALE_K2M;
  __m512i a[T];
  __m512i c[T];
  __m512 s[T];
#pragma GCC unroll 4
  for (int t = 0; t < T; t++) {
    a[t] = c[t] = _mm512_setzero_si512();
    if constexpr (kOffset >= 0) {
      a[t] = _mm512_slli_epi32(_mm512_set1_epi32(sums[(halves_apart ? 0 : 2 * n) + t]), kOffset);
      if constexpr (halves_apart) c[t] = _mm512_slli_epi32(_mm512_set1_epi32(sums[n + t]), kOffset);
    }
  }
#pragma GCC unroll 4
  for (int k = 0; k < 4; k++) {
#pragma GCC unroll 4
    for (int t = 0; t < T; t++) {
      a[t] = dot(a[t], w[k], q + 32 * t + 4 * k);
      if constexpr (halves_apart) c[t] = dot(c[t], w[k + 4], q + 32 * t + 4 * k + 16);
    }
  }
#pragma GCC unroll 4
  for (int k = 4; k < 8 && !halves_apart; k++) {
#pragma GCC unroll 4
    for (int t = 0; t < T; t++) a[t] = dot(a[t], w[k], q + 32 * t + 4 * k);
  }
  if constexpr (kFree && kOffset < 0 && kScale != ZG_SCALE_K2M) {
#pragma GCC unroll 4
    for (int t = 0; t < T; t++) {
      // Here d holds the sum times the scale.
      const __m512 scale = _mm512_mul_ps(ZG_IS_K(kScale) ? f.s0 : f.d, _mm512_set1_ps(d[t]));
      acc[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(a[t]), scale, acc[t]);
      acc[t] = kScale == ZG_SCALE_DM ? _mm512_fnmadd_ps(f.dm, _mm512_set1_ps(d[n + t]), acc[t])
                                     : _mm512_fmadd_ps(f.m0, _mm512_set1_ps(d[n + t]), acc[t]);
    }
    return;
  }
#pragma GCC unroll 4
  for (int t = 0; t < T; t++) {
    if constexpr (halves_apart) {
      s[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(c[t]), f.s1, zero);
      s[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(a[t]), f.s0, s[t]);
    } else {
      s[t] = _mm512_cvtepi32_ps(a[t]);
      if constexpr (ZG_IS_K(kScale)) s[t] = _mm512_fmadd_ps(s[t], f.s0, zero);
    }
  }
#pragma GCC unroll 4
  for (int t = 0; t < T; t++) {
    const __m512 dx = _mm512_set1_ps(d[t]);
    if constexpr (kFree && ZG_IS_K(kScale)) {
      if constexpr (kScale == ZG_SCALE_K2M) {
        s[t] = _mm512_fmadd_ps(f.m0, _mm512_cvtepi32_ps(_mm512_set1_epi32(sums[t])), s[t]);
        s[t] = _mm512_fmadd_ps(f.m1, _mm512_cvtepi32_ps(_mm512_set1_epi32(sums[n + t])), s[t]);
      }
      acc[t] = _mm512_fmadd_ps(s[t], dx, acc[t]);
      continue;
    }
    acc[t] = _mm512_fmadd_ps(s[t], _mm512_mul_ps(f.d, dx), acc[t]);
    if constexpr (kScale == ZG_SCALE_DM) {
      // The minimum is added: its factor is −1.
      acc[t] = _mm512_fmadd_ps(_mm512_sub_ps(zero, _mm512_set1_ps(d[n + t])), _mm512_mul_ps(f.dm, dx), acc[t]);
    }
    if constexpr (kScale == ZG_SCALE_K1M) {
      const __m512 m = _mm512_fmadd_ps(f.m0, _mm512_set1_ps(d[n + t]), zero);
      acc[t] = _mm512_fmadd_ps(m, _mm512_mul_ps(f.dm, dx), acc[t]);
    }
    if constexpr (kScale == ZG_SCALE_K2M) {
      __m512 m = _mm512_fmadd_ps(f.m0, _mm512_cvtepi32_ps(_mm512_set1_epi32(sums[t])), zero);
      m = _mm512_fmadd_ps(f.m1, _mm512_cvtepi32_ps(_mm512_set1_epi32(sums[n + t])), m);
      acc[t] = _mm512_fmadd_ps(m, _mm512_mul_ps(f.dm, dx), acc[t]);
    }
  }
}

// Asks for weights in advance. With one or two tokens the processor's own guesses keep memory busy, and requests of ours would take their
// place in the first cache's few; with more a tile takes so long that it forgets to guess.
template <int kCode, int N>
ZG_INLINE void ask_ahead(const uint8_t* at) {
  if constexpr (N > 2) {
    for (int line = 0; line < ZG_TILE_BYTES(kCode); line += 64) _mm_prefetch((const char*)at + line + kFarAhead, _MM_HINT_T0);
  } else if constexpr (kCode == ZG_CODE_8) {
    for (int line = 0; line < ZG_TILE_BYTES(kCode); line += 64) _mm_prefetch((const char*)at + line + kAhead, _MM_HINT_T1);
  }
}

// A row group times N tokens.
template <int kType, int kCode, int kOffset, int kScale, int N>
static void product_group(const uint8_t* at, uint32_t blocks, const ZgTokens& x, float* y, size_t stride) {
  constexpr int kBytes = ZG_TILE_BYTES(kCode);
  __m512 total[N];
  for (int t = 0; t < N; t++) total[t] = _mm512_setzero_ps();
  for (uint32_t first = 0; first < blocks; first += 8) {
    const uint32_t count = blocks - first < 8 ? blocks - first : 8;
    const uint8_t* aux = at;
    at += ZG_SEGMENT_AUX(kScale, count);
    if constexpr (N == 1) {
      // Of a long row the weights push the activations out of the first cache.
      const char* ahead = (const char*)x.q + 32 * (size_t)(first + 8);
      for (int line = 0; line < 256; line += 64) _mm_prefetch(ahead + line, _MM_HINT_T0);
      _mm_prefetch((const char*)(x.d + 2 * (size_t)(first + 8)), _MM_HINT_T0);
      _mm_prefetch((const char*)(x.sums + 3 * (size_t)(first + 8)), _MM_HINT_T0);
      _mm_prefetch((const char*)(x.sums + 3 * (size_t)(first + 8)) + 64, _MM_HINT_T0);
    }
    __m512 acc[N];
    for (int t = 0; t < N; t++) acc[t] = _mm512_setzero_ps();
    for (uint32_t j = 0; j < count; j++, at += kBytes) {
      ask_ahead<kCode, N>(at);
      __m512i w[8];
      unpack<kType, kCode>(at, w);
      Factors f;
      block_factors<kScale>(aux, j, &f);
      if constexpr (kFree) join_factors<kScale>(&f);
      const size_t b = first + j;
      const int8_t* q = x.q + b * N * 32;
      const float* d = x.d + b * 2 * N;
      const int32_t* sums = x.sums + b * 3 * N;
      constexpr int T = N < kChains ? N : kChains;
#pragma GCC unroll 12
      for (int t = 0; t < N; t += T) block_tokens<kOffset, kScale, T>(w, f, q + 32 * t, d + t, sums + t, N, acc + t);
    }
    for (int t = 0; t < N; t++) total[t] = _mm512_add_ps(total[t], acc[t]);
  }
  for (int t = 0; t < N; t++) _mm512_storeu_ps(y + t * stride, total[t]);
}

template <int kType>
ZG_INLINE __m512 column(const uint8_t* p) {
  if constexpr (kType == 0) return _mm512_loadu_ps((const float*)p);
  if constexpr (kType == 1) return halves(p);
  return vflt(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)), 16));
}

// R row groups, group_bytes apart, times N tokens of float weights: several chains of sums at a time.
template <int kType, int N, int R>
static void product_floats(const uint8_t* w, size_t group_bytes, uint32_t columns, const ZgTokens& x, float* y, size_t stride) {
  constexpr int kBytes = kType == 0 ? 64 : 32;
  __m512 total[N * R];
  for (int t = 0; t < N * R; t++) total[t] = _mm512_setzero_ps();
  for (uint32_t first = 0; first < columns; first += ZG_SEGMENT) {
    const uint32_t end = columns - first < (uint32_t)ZG_SEGMENT ? columns : first + ZG_SEGMENT;
    __m512 acc[N * R];
    for (int t = 0; t < N * R; t++) acc[t] = _mm512_setzero_ps();
    for (uint32_t c = first; c < end; c++) {
#pragma GCC unroll 4
      for (int r = 0; r < R; r++) {
        const __m512 v = column<kType>(w + r * group_bytes + (size_t)c * kBytes);
#pragma GCC unroll 12
        for (int t = 0; t < N; t++) acc[r * N + t] = _mm512_fmadd_ps(v, _mm512_set1_ps(x.x[(size_t)c * N + t]), acc[r * N + t]);
      }
    }
    for (int t = 0; t < N * R; t++) total[t] = _mm512_add_ps(total[t], acc[t]);
  }
  for (int r = 0; r < R; r++) {
    for (int t = 0; t < N; t++) _mm512_storeu_ps(y + t * stride + r * ZG_ROWS, total[r * N + t]);
  }
}

template <int kType>
static void product_floats_all(const ZgMatrix* w, uint32_t begin, uint32_t end, const ZgTokens& x, float* y, size_t stride) {
  for (uint32_t g = begin; g < end;) {
    const uint8_t* data = w->data + g * w->group_bytes;
    float* out = y + (size_t)g * ZG_ROWS;
    if (x.count == 1 && end - g >= 4) {
      product_floats<kType, 1, 4>(data, w->group_bytes, w->columns, x, out, stride);
      g += 4;
      continue;
    }
    switch (x.count) {
      case 1: product_floats<kType, 1, 1>(data, w->group_bytes, w->columns, x, out, stride); break;
      case 2: product_floats<kType, 2, 1>(data, w->group_bytes, w->columns, x, out, stride); break;
      case 4: product_floats<kType, 4, 1>(data, w->group_bytes, w->columns, x, out, stride); break;
      case 8: product_floats<kType, 8, 1>(data, w->group_bytes, w->columns, x, out, stride); break;
      default: product_floats<kType, 12, 1>(data, w->group_bytes, w->columns, x, out, stride); break;
    }
    g++;
  }
}

template <int kType, int kCode, int kOffset, int kScale>
static void product_quants(const ZgMatrix* w, uint32_t begin, uint32_t end, const ZgTokens* tokens, uint32_t token_groups, float* y, size_t stride) {
  for (uint32_t g = begin; g < end; g++) {
    const uint8_t* data = w->data + g * w->group_bytes;
    const uint32_t blocks = w->columns / 32;
    float* out = y + (size_t)g * ZG_ROWS;
    for (uint32_t i = 0; i < token_groups; out += tokens[i++].count * stride) {
      const ZgTokens& x = tokens[i];
      switch (x.count) {
        case 1: product_group<kType, kCode, kOffset, kScale, 1>(data, blocks, x, out, stride); break;
        case 2: product_group<kType, kCode, kOffset, kScale, 2>(data, blocks, x, out, stride); break;
        case 4: product_group<kType, kCode, kOffset, kScale, 4>(data, blocks, x, out, stride); break;
        case 8: product_group<kType, kCode, kOffset, kScale, 8>(data, blocks, x, out, stride); break;
        default: product_group<kType, kCode, kOffset, kScale, 12>(data, blocks, x, out, stride); break;
      }
    }
  }
}

static void zg_product(const ZgMatrix* w, uint32_t begin, uint32_t end, const ZgTokens* tokens, uint32_t token_groups, float* y, size_t stride) {
  switch (w->type) {
#define X(id, name, code, offset, scale) \
  case id: return product_quants<id, code, offset, scale>(w, begin, end, tokens, token_groups, y, stride);
    ZG_QUANTIZED_TYPES(X)
#undef X
    default: break;
  }
  for (uint32_t i = 0; i < token_groups; y += tokens[i++].count * stride) {
    if (w->type == 0) product_floats_all<0>(w, begin, end, tokens[i], y, stride);
    if (w->type == 1) product_floats_all<1>(w, begin, end, tokens[i], y, stride);
    if (w->type == 30) product_floats_all<30>(w, begin, end, tokens[i], y, stride);
  }
}

// ---- activations ----

static void zg_quantize(const float* x, uint32_t columns, const ZgSlot* slot) {
  const size_t n = slot->count;
  for (uint32_t b = 0; b * 32 < columns; b++) {
    const uint32_t width = columns - 32 * b < 32 ? columns - 32 * b : 32;
    const __mmask16 first = (__mmask16)(width >= 16 ? 0xffff : (1u << width) - 1);
    const __mmask16 second = (__mmask16)(width >= 32 ? 0xffff : width > 16 ? (1u << (width - 16)) - 1 : 0);
    const __m512 v0 = _mm512_maskz_loadu_ps(first, x + 32 * b);
    const __m512 v1 = _mm512_maskz_loadu_ps(second, x + 32 * b + 16);
    // As unsigned numbers: what is no number is the largest.
    const uint32_t largest = _mm512_reduce_max_epu32(_mm512_max_epu32(vint(vabs(v0)), vint(vabs(v1))));
    __m512i q0 = _mm512_setzero_si512();
    __m512i q1 = _mm512_setzero_si512();
    float d = 0;
    if (largest >= 0x7f800000u) {
      const uint32_t nan = 0x7fc00000u;
      memcpy(&d, &nan, sizeof d);
    } else if (largest >= 0x0d800000u) {
      float a;
      memcpy(&a, &largest, sizeof a);
      d = a / 127.0f;
      const __m512 factor = _mm512_set1_ps(127.0f / a);
      q0 = _mm512_cvtps_epi32(_mm512_mul_ps(v0, factor));
      q1 = _mm512_cvtps_epi32(_mm512_mul_ps(v1, factor));
    }
    slot->d[2 * b * n] = d;
    _mm_storeu_si128((__m128i*)(slot->q + b * n * 32), _mm512_cvtepi32_epi8(q0));
    _mm_storeu_si128((__m128i*)(slot->q + b * n * 32 + 16), _mm512_cvtepi32_epi8(q1));
    const int32_t low = _mm512_reduce_add_epi32(q0);
    const int32_t high = _mm512_reduce_add_epi32(q1);
    slot->sums[3 * b * n] = -low;
    slot->sums[(3 * b + 1) * n] = -high;
    slot->sums[(3 * b + 2) * n] = -(low + high);
    slot->d[(2 * b + 1) * n] = (float)-(low + high) * (kFree ? d : 1.0f);
  }
}

}  // namespace

extern "C" const ZgLevel ZG_LEVEL = {kFree ? "free" : "avx512", 1,           zg_product, zg_quantize, zg_norm,   zg_add, zg_gate,
                                            zg_soft_cap, zg_rotate, zg_store,   zg_attend,   zg_mix, zg_finite, zg_maxima, zg_weigh};
#elif defined(ZG_FREE_ORDER)
extern "C" const ZgLevel zg_level_free = {};
#else
extern "C" const ZgLevel zg_level_avx512 = {};
#endif
