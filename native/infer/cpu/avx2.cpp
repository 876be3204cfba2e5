// The level for AVX2 with FMA and F16C: sixteen rows are two registers. Compiled with its own flags, see avx512.cpp.
#include "types.h"

#if defined(__AVX2__)
#include <immintrin.h>
#include <string.h>

namespace {

// ---- vectors ----

constexpr int W = 8;
using vf = __m256;
using vm = __m256;
#define ZG_INLINE static inline __attribute__((always_inline))
ZG_INLINE vf vset(float a) { return _mm256_set1_ps(a); }
ZG_INLINE vf vload(const float* p) { return _mm256_loadu_ps(p); }
ZG_INLINE void vstore(float* p, vf a) { _mm256_storeu_ps(p, a); }
ZG_INLINE vf vadd(vf a, vf b) { return _mm256_add_ps(a, b); }
ZG_INLINE vf vsub(vf a, vf b) { return _mm256_sub_ps(a, b); }
ZG_INLINE vf vmul(vf a, vf b) { return _mm256_mul_ps(a, b); }
ZG_INLINE vf vfma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
ZG_INLINE vf vdiv(vf a, vf b) { return _mm256_div_ps(a, b); }
ZG_INLINE vf vrint(vf a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
ZG_INLINE vf vloadh(const uint16_t* p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)); }
ZG_INLINE vf vmax(vf a, vf b) { return _mm256_max_ps(a, b); }
ZG_INLINE vm vlt(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
ZG_INLINE vm vgt(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_GT_OQ); }
ZG_INLINE vm vunord(vf a) { return _mm256_cmp_ps(a, a, _CMP_UNORD_Q); }
ZG_INLINE vm vor(vm a, vm b) { return _mm256_or_ps(a, b); }
ZG_INLINE bool vany(vm a) { return _mm256_movemask_ps(a) != 0; }
ZG_INLINE vf vsel(vm m, vf a, vf b) { return _mm256_blendv_ps(b, a, m); }
ZG_INLINE vf vneg(vf a) { return _mm256_xor_ps(a, _mm256_set1_ps(-0.0f)); }
ZG_INLINE vf vabs(vf a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
ZG_INLINE vf vsign(vf magnitude, vf of) { return _mm256_or_ps(magnitude, _mm256_and_ps(of, _mm256_set1_ps(-0.0f))); }
ZG_INLINE vf vpow2(vf p, vf n) {
  return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23)));
}
ZG_INLINE float vtop(vf a) {
  __m128 half = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  half = _mm_max_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_max_ss(half, _mm_shuffle_ps(half, half, 1)));
}
ZG_INLINE float vjoin(vf a) {
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_shuffle_ps(half, half, 1)));
}
ZG_INLINE void vstoreh(uint16_t* p, vf a) { _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT)); }

#include "vector.inc"

// ---- products ----

// Bytes of weights that are asked for in advance.
constexpr int kAhead = 1'024;
constexpr int kFarAhead = 6'144;

constexpr int8_t kIq4[16] = ZG_TABLE_IQ4;
constexpr int8_t kMx[16] = ZG_TABLE_MX;

ZG_INLINE __m256i load(const uint8_t* p) { return _mm256_loadu_si256((const __m256i*)p); }
ZG_INLINE __m256 halves(const uint8_t* p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)); }

template <int kFrom, int kTo>
ZG_INLINE __m256i moved(__m256i v) {
  if constexpr (kFrom > kTo) return _mm256_srli_epi16(v, kFrom - kTo);
  if constexpr (kFrom < kTo) return _mm256_slli_epi16(v, kTo - kFrom);
  return v;
}
template <int kFrom, int kTo, int kMask>
ZG_INLINE __m256i bits(__m256i v) {
  return _mm256_and_si256(moved<kFrom, kTo>(v), _mm256_set1_epi8(kMask));
}
ZG_INLINE __m256i both(__m256i a, __m256i b) { return _mm256_or_si256(a, b); }

// The eight quads of eight rows (half 0 or 1 of a tile): unsigned codes, or signed values of 8-bit and table types.
template <int kType, int kCode>
ZG_INLINE void unpack(const uint8_t* tile, int half, __m256i* w) {
  tile += 32 * half;
  if constexpr (kCode == ZG_CODE_8) {
    for (int k = 0; k < 8; k++) w[k] = load(tile + 64 * k);
  } else if constexpr (kCode == ZG_CODE_2 || kCode == ZG_CODE_3) {
    for (int h = 0; h < 2; h++) {
      const __m256i a = load(tile + 64 * h);
      w[4 * h] = bits<0, 0, 3>(a);
      w[4 * h + 1] = bits<2, 0, 3>(a);
      w[4 * h + 2] = bits<4, 0, 3>(a);
      w[4 * h + 3] = bits<6, 0, 3>(a);
    }
    if constexpr (kCode == ZG_CODE_3) {
      const __m256i h = load(tile + 128);
      w[0] = both(w[0], bits<0, 2, 4>(h));
      w[1] = both(w[1], bits<1, 2, 4>(h));
      w[2] = both(w[2], bits<2, 2, 4>(h));
      w[3] = both(w[3], bits<3, 2, 4>(h));
      w[4] = both(w[4], bits<4, 2, 4>(h));
      w[5] = both(w[5], bits<5, 2, 4>(h));
      w[6] = both(w[6], bits<6, 2, 4>(h));
      w[7] = both(w[7], bits<7, 2, 4>(h));
    }
  } else {
    for (int k = 0; k < 4; k++) {
      const __m256i v = load(tile + 64 * k);
      w[k] = bits<0, 0, 15>(v);
      w[k + 4] = bits<4, 0, 15>(v);
    }
    if constexpr (kCode == ZG_CODE_4_TABLE) {
      __m128i values;
      memcpy(&values, kType == 39 ? kMx : kIq4, sizeof values);
      const __m256i table = _mm256_broadcastsi128_si256(values);
      for (int k = 0; k < 8; k++) w[k] = _mm256_shuffle_epi8(table, w[k]);
    }
    if constexpr (kCode == ZG_CODE_5) {
      const __m256i h = load(tile + 256);
      w[0] = both(w[0], bits<0, 4, 16>(h));
      w[1] = both(w[1], bits<1, 4, 16>(h));
      w[2] = both(w[2], bits<2, 4, 16>(h));
      w[3] = both(w[3], bits<3, 4, 16>(h));
      w[4] = both(w[4], bits<4, 4, 16>(h));
      w[5] = both(w[5], bits<5, 4, 16>(h));
      w[6] = both(w[6], bits<6, 4, 16>(h));
      w[7] = both(w[7], bits<7, 4, 16>(h));
    }
    if constexpr (kCode == ZG_CODE_6) {
      for (int h = 0; h < 2; h++) {
        const __m256i a = load(tile + 256 + 64 * h);
        w[4 * h] = both(w[4 * h], bits<0, 4, 48>(a));
        w[4 * h + 1] = both(w[4 * h + 1], bits<2, 4, 48>(a));
        w[4 * h + 2] = both(w[4 * h + 2], bits<4, 4, 48>(a));
        w[4 * h + 3] = both(w[4 * h + 3], bits<6, 4, 48>(a));
      }
    }
  }
}

ZG_INLINE __m256 bytes_signed(const uint8_t* p) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p))); }
ZG_INLINE __m256 bytes_unsigned(const uint8_t* p) { return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)p))); }
ZG_INLINE __m256i quad(const int8_t* p) {
  int32_t v;
  memcpy(&v, p, sizeof v);
  return _mm256_set1_epi32(v);
}

// Four quads times four of a token, summed over their columns, for eight rows. Codes of at most 6 bits fit unsigned into the sums of 16
// bits; full bytes go as magnitudes, with their sign on the activation (|x| ≤ 127, so nothing saturates).
template <int kCode>
ZG_INLINE __m256i dot(const __m256i* w, const int8_t* q) {
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i sum = _mm256_setzero_si256();
  if constexpr (kCode == ZG_CODE_8 || kCode == ZG_CODE_4_TABLE) {
    for (int k = 0; k < 4; k++) {
      const __m256i p = _mm256_maddubs_epi16(_mm256_abs_epi8(w[k]), _mm256_sign_epi8(quad(q + 4 * k), w[k]));
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(p, ones));
    }
    return sum;
  } else {
    // Two products of 63 · 127 · 2 still fit.
    const __m256i a = _mm256_add_epi16(_mm256_maddubs_epi16(w[0], quad(q)), _mm256_maddubs_epi16(w[1], quad(q + 4)));
    const __m256i b = _mm256_add_epi16(_mm256_maddubs_epi16(w[2], quad(q + 8)), _mm256_maddubs_epi16(w[3], quad(q + 12)));
    if constexpr (kCode == ZG_CODE_6) return _mm256_add_epi32(_mm256_madd_epi16(a, ones), _mm256_madd_epi16(b, ones));
    return _mm256_madd_epi16(_mm256_add_epi16(a, b), ones);
  }
}

struct Factors {
  __m256 d, dm, s0, s1, m0, m1;
};

template <int kScale>
ZG_INLINE void block_factors(const uint8_t* aux, uint32_t j, int half, Factors* f) {
  const uint8_t* own = aux + (size_t)j * ZG_AUX_BYTES(kScale);
  if constexpr (kScale == ZG_SCALE_D) f->d = halves(own + 16 * half);
  if constexpr (kScale == ZG_SCALE_F) f->d = _mm256_loadu_ps((const float*)own + 8 * half);
  if constexpr (kScale == ZG_SCALE_DM) {
    f->d = halves(own + 16 * half);
    f->dm = halves(own + 32 + 16 * half);
  }
  if constexpr (ZG_IS_K(kScale)) {
    constexpr bool minimum = kScale == ZG_SCALE_K1M || kScale == ZG_SCALE_K2M;
    const uint8_t* bytes = aux + (minimum ? 64 : 32) + 8 * half;
    f->d = halves(aux + 16 * half);
    if (minimum) f->dm = halves(aux + 32 + 16 * half);
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

// As in avx512.cpp: factors in floats are exact, + 0 fixes the sign of zero.
template <int kCode, int kOffset, int kScale>
ZG_INLINE __m256 block_token(const __m256i* w, const Factors& f, const int8_t* q, const float* d, const int32_t* sums, size_t n, __m256 acc) {
  const __m256 zero = _mm256_setzero_ps();
  const __m256 dx = _mm256_set1_ps(d[0]);
  constexpr int shift = kCode == ZG_CODE_8 || kCode == ZG_CODE_4_TABLE || kOffset < 0 ? -1 : kOffset;
  const __m256 scale = _mm256_mul_ps(f.d, dx);
  __m256i a = dot<kCode>(w, q);
  __m256i c = dot<kCode>(w + 4, q + 16);
  __m256 s;
  if constexpr (kScale == ZG_SCALE_K2 || kScale == ZG_SCALE_K2M) {
    if constexpr (shift >= 0) {
      a = _mm256_sub_epi32(a, _mm256_slli_epi32(_mm256_set1_epi32(sums[0]), shift));
      c = _mm256_sub_epi32(c, _mm256_slli_epi32(_mm256_set1_epi32(sums[n]), shift));
    }
    s = _mm256_fmadd_ps(_mm256_cvtepi32_ps(c), f.s1, zero);
    s = _mm256_fmadd_ps(_mm256_cvtepi32_ps(a), f.s0, s);
  } else {
    a = _mm256_add_epi32(a, c);
    if constexpr (shift >= 0) a = _mm256_add_epi32(a, _mm256_slli_epi32(_mm256_set1_epi32(sums[2 * n]), shift));
    s = _mm256_cvtepi32_ps(a);
    if constexpr (ZG_IS_K(kScale)) s = _mm256_fmadd_ps(s, f.s0, zero);
  }
  acc = _mm256_fmadd_ps(s, scale, acc);
  if constexpr (kScale == ZG_SCALE_DM) {
    acc = _mm256_fmadd_ps(_mm256_sub_ps(zero, _mm256_set1_ps(d[n])), _mm256_mul_ps(f.dm, dx), acc);
  }
  if constexpr (kScale == ZG_SCALE_K1M) {
    const __m256 m = _mm256_fmadd_ps(f.m0, _mm256_set1_ps(d[n]), zero);
    acc = _mm256_fmadd_ps(m, _mm256_mul_ps(f.dm, dx), acc);
  }
  if constexpr (kScale == ZG_SCALE_K2M) {
    __m256 m = _mm256_fnmadd_ps(f.m0, _mm256_cvtepi32_ps(_mm256_set1_epi32(sums[0])), zero);
    m = _mm256_fnmadd_ps(f.m1, _mm256_cvtepi32_ps(_mm256_set1_epi32(sums[n])), m);
    acc = _mm256_fmadd_ps(m, _mm256_mul_ps(f.dm, dx), acc);
  }
  return acc;
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
  __m256 total[2][N];
  for (int t = 0; t < N; t++) total[0][t] = total[1][t] = _mm256_setzero_ps();
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
    __m256 acc[2][N];
    for (int t = 0; t < N; t++) acc[0][t] = acc[1][t] = _mm256_setzero_ps();
    for (uint32_t j = 0; j < count; j++, at += kBytes) {
      ask_ahead<kCode, N>(at);
      const size_t b = first + j;
      const int8_t* q = x.q + b * N * 32;
      const float* d = x.d + b * 2 * N;
      const int32_t* sums = x.sums + b * 3 * N;
      for (int half = 0; half < 2; half++) {
        __m256i w[8];
        unpack<kType, kCode>(at, half, w);
        Factors f;
        block_factors<kScale>(aux, j, half, &f);
        for (int t = 0; t < N; t++) {
          acc[half][t] = block_token<kCode, kOffset, kScale>(w, f, q + 32 * t, d + t, sums + t, N, acc[half][t]);
        }
      }
    }
    for (int half = 0; half < 2; half++) {
      for (int t = 0; t < N; t++) total[half][t] = _mm256_add_ps(total[half][t], acc[half][t]);
    }
  }
  for (int t = 0; t < N; t++) {
    _mm256_storeu_ps(y + t * stride, total[0][t]);
    _mm256_storeu_ps(y + t * stride + 8, total[1][t]);
  }
}

template <int kType>
ZG_INLINE __m256 column(const uint8_t* p) {
  if constexpr (kType == 0) return _mm256_loadu_ps((const float*)p);
  if constexpr (kType == 1) return halves(p);
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p)), 16));
}

template <int kType, int N, int R>
static void product_floats(const uint8_t* w, size_t group_bytes, uint32_t columns, const ZgTokens& x, float* y, size_t stride) {
  constexpr int kBytes = kType == 0 ? 64 : 32;
  __m256 total[2 * R][N];
  for (int r = 0; r < 2 * R; r++) {
    for (int t = 0; t < N; t++) total[r][t] = _mm256_setzero_ps();
  }
  for (uint32_t first = 0; first < columns; first += ZG_SEGMENT) {
    const uint32_t end = columns - first < (uint32_t)ZG_SEGMENT ? columns : first + ZG_SEGMENT;
    __m256 acc[2 * R][N];
    for (int r = 0; r < 2 * R; r++) {
      for (int t = 0; t < N; t++) acc[r][t] = _mm256_setzero_ps();
    }
    for (uint32_t c = first; c < end; c++) {
#pragma GCC unroll 8
      for (int r = 0; r < 2 * R; r++) {
        const __m256 v = column<kType>(w + (r / 2) * group_bytes + (size_t)c * kBytes + (r % 2) * (kBytes / 2));
#pragma GCC unroll 12
        for (int t = 0; t < N; t++) acc[r][t] = _mm256_fmadd_ps(v, _mm256_set1_ps(x.x[(size_t)c * N + t]), acc[r][t]);
      }
    }
    for (int r = 0; r < 2 * R; r++) {
      for (int t = 0; t < N; t++) total[r][t] = _mm256_add_ps(total[r][t], acc[r][t]);
    }
  }
  for (int r = 0; r < 2 * R; r++) {
    for (int t = 0; t < N; t++) _mm256_storeu_ps(y + t * stride + 8 * r, total[r][t]);
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

ZG_INLINE uint32_t largest_of(__m256i v) {
  __m128i a = _mm_max_epu32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  a = _mm_max_epu32(a, _mm_shuffle_epi32(a, 0x4e));
  a = _mm_max_epu32(a, _mm_shuffle_epi32(a, 0xb1));
  return (uint32_t)_mm_cvtsi128_si32(a);
}

static void zg_quantize(const float* x, uint32_t columns, const ZgSlot* slot) {
  const size_t n = slot->count;
  for (uint32_t b = 0; b * 32 < columns; b++) {
    alignas(32) float values[32];
    const uint32_t width = columns - 32 * b < 32 ? columns - 32 * b : 32;
    if (width < 32) memset(values, 0, sizeof values);
    memcpy(values, x + 32 * b, width * sizeof(float));
    __m256i most = _mm256_setzero_si256();
    for (int i = 0; i < 4; i++) most = _mm256_max_epu32(most, _mm256_castps_si256(vabs(vload(values + 8 * i))));
    const uint32_t largest = largest_of(most);
    int8_t* q = slot->q + b * n * 32;
    float d = 0;
    int32_t sums[2] = {0, 0};
    if (largest >= 0x7f800000u || largest < 0x0d800000u) {
      const uint32_t nan = 0x7fc00000u;
      if (largest >= 0x7f800000u) memcpy(&d, &nan, sizeof d);
      memset(q, 0, 32);
    } else {
      float a;
      memcpy(&a, &largest, sizeof a);
      d = a / 127.0f;
      const vf factor = vset(127.0f / a);
      alignas(32) int32_t whole[32];
      for (int i = 0; i < 4; i++) _mm256_store_si256((__m256i*)(whole + 8 * i), _mm256_cvtps_epi32(vmul(vload(values + 8 * i), factor)));
      for (int i = 0; i < 16; i++) {
        q[i] = (int8_t)whole[i];
        q[i + 16] = (int8_t)whole[i + 16];
        sums[0] += whole[i];
        sums[1] += whole[i + 16];
      }
    }
    slot->d[2 * b * n] = d;
    slot->d[(2 * b + 1) * n] = (float)-(sums[0] + sums[1]);
    slot->sums[3 * b * n] = sums[0];
    slot->sums[(3 * b + 1) * n] = sums[1];
    slot->sums[(3 * b + 2) * n] = -(sums[0] + sums[1]);
  }
}

}  // namespace

extern "C" const ZgLevel zg_level_avx2 = {"avx2",   0,           zg_product, zg_quantize, zg_norm,   zg_add, zg_gate,
                                          zg_soft_cap, zg_rotate, zg_store,   zg_attend,   zg_mix, zg_finite, zg_maxima, zg_weigh};
#else
extern "C" const ZgLevel zg_level_avx2 = {};
#endif
