#include "crypto/blake2f.h"

#include <bit>

#if defined(__x86_64__)
#include <immintrin.h>
#define ZG_BLAKE_LANES 1
#endif

namespace zg {
namespace {

constexpr uint64_t kIv[8] = {0x6a09e667f3bcc908ULL, 0xbb67ae8584caa73bULL, 0x3c6ef372fe94f82bULL, 0xa54ff53a5f1d36f1ULL,
                             0x510e527fade682d1ULL, 0x9b05688c2b3e6c1fULL, 0x1f83d9abfb41bd6bULL, 0x5be0cd19137e2179ULL};
constexpr uint8_t kSigma[10][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0}};

inline void quarter(uint64_t& a, uint64_t& b, uint64_t& c, uint64_t& d, uint64_t x, uint64_t y) noexcept {
  a += b + x;
  d = std::rotr(d ^ a, 32);
  c += d;
  b = std::rotr(b ^ c, 24);
  a += b + y;
  d = std::rotr(d ^ a, 16);
  c += d;
  b = std::rotr(b ^ c, 63);
}

void begin(uint64_t v[16], const uint64_t h[8], const uint64_t t[2], bool last) noexcept {
  for (int i = 0; i < 8; ++i) v[i] = h[i], v[i + 8] = kIv[i];
  v[12] ^= t[0];
  v[13] ^= t[1];
  if (last) v[14] = ~v[14];
}

#ifdef ZG_BLAKE_LANES
// One state in four vectors of four words: a step works on all its four quarters at once. What a round costs is one chain of 24 dependent
// operations, so everything else must stay off that chain: message words are added to `a` before `b` is there, and between the steps a, c and d
// turn (they are ready early), never b. The quarters of the second step are therefore in the order of b: 4th, 1st, 2nd, 3rd.
struct Rows {
  alignas(32) uint64_t word[10][4][4];
  void fill(const uint64_t m[16], uint32_t rounds) noexcept {
    for (uint32_t r = 0; r < 10 && r < rounds; ++r) {
      const uint8_t* s = kSigma[r];
      for (int i = 0; i < 4; ++i) {
        const int turned = 8 + 2 * ((i + 3) & 3);
        word[r][0][i] = m[s[2 * i]];
        word[r][1][i] = m[s[2 * i + 1]];
        word[r][2][i] = m[s[turned]];
        word[r][3][i] = m[s[turned + 1]];
      }
    }
  }
};

#define ZG_BLAKE_BODY(ROTATE_32, ROTATE_24, ROTATE_16, ROTATE_63)                                    \
  Rows rows;                                                                                         \
  rows.fill(m, rounds);                                                                              \
  alignas(32) uint64_t v[16];                                                                        \
  begin(v, h, t, last);                                                                              \
  __m256i a = _mm256_load_si256(reinterpret_cast<const __m256i*>(v));                                \
  __m256i b = _mm256_load_si256(reinterpret_cast<const __m256i*>(v + 4));                            \
  __m256i c = _mm256_load_si256(reinterpret_cast<const __m256i*>(v + 8));                            \
  __m256i d = _mm256_load_si256(reinterpret_cast<const __m256i*>(v + 12));                           \
  uint32_t row = 0;                                                                                  \
  for (uint32_t i = 0; i < rounds; ++i) {                                                            \
    const __m256i* w = reinterpret_cast<const __m256i*>(rows.word[row]);                             \
    row = row == 9 ? 0 : row + 1;                                                                    \
    for (int step = 0; step < 2; ++step) {                                                           \
      a = _mm256_add_epi64(_mm256_add_epi64(a, _mm256_load_si256(w + 2 * step)), b);                 \
      d = ROTATE_32(_mm256_xor_si256(d, a));                                                         \
      c = _mm256_add_epi64(c, d);                                                                    \
      b = ROTATE_24(_mm256_xor_si256(b, c));                                                         \
      a = _mm256_add_epi64(_mm256_add_epi64(a, _mm256_load_si256(w + 2 * step + 1)), b);             \
      d = ROTATE_16(_mm256_xor_si256(d, a));                                                         \
      c = _mm256_add_epi64(c, d);                                                                    \
      b = ROTATE_63(_mm256_xor_si256(b, c));                                                         \
      a = step == 0 ? _mm256_permute4x64_epi64(a, 0x93) : _mm256_permute4x64_epi64(a, 0x39);         \
      d = _mm256_permute4x64_epi64(d, 0x4e);                                                         \
      c = step == 0 ? _mm256_permute4x64_epi64(c, 0x39) : _mm256_permute4x64_epi64(c, 0x93);         \
    }                                                                                                \
  }                                                                                                  \
  _mm256_store_si256(reinterpret_cast<__m256i*>(v), _mm256_xor_si256(a, c));                         \
  _mm256_store_si256(reinterpret_cast<__m256i*>(v + 4), _mm256_xor_si256(b, d));                     \
  for (int i = 0; i < 8; ++i) h[i] ^= v[i]

__attribute__((target("avx2"))) void lanes_avx2(uint32_t rounds, uint64_t h[8], const uint64_t m[16], const uint64_t t[2], bool last) noexcept {
  const __m256i by24 = _mm256_setr_epi8(3, 4, 5, 6, 7, 0, 1, 2, 11, 12, 13, 14, 15, 8, 9, 10, 3, 4, 5, 6, 7, 0, 1, 2, 11, 12, 13, 14, 15, 8, 9, 10);
  const __m256i by16 = _mm256_setr_epi8(2, 3, 4, 5, 6, 7, 0, 1, 10, 11, 12, 13, 14, 15, 8, 9, 2, 3, 4, 5, 6, 7, 0, 1, 10, 11, 12, 13, 14, 15, 8, 9);
#define ZG_ROTATE_32(x) _mm256_shuffle_epi32(x, 0xb1)
#define ZG_ROTATE_24(x) _mm256_shuffle_epi8(x, by24)
#define ZG_ROTATE_16(x) _mm256_shuffle_epi8(x, by16)
#define ZG_ROTATE_63(x) ({ const __m256i y = (x); _mm256_or_si256(_mm256_add_epi64(y, y), _mm256_srli_epi64(y, 63)); })
  ZG_BLAKE_BODY(ZG_ROTATE_32, ZG_ROTATE_24, ZG_ROTATE_16, ZG_ROTATE_63);
#undef ZG_ROTATE_32
#undef ZG_ROTATE_24
#undef ZG_ROTATE_16
#undef ZG_ROTATE_63
}

__attribute__((target("avx2,avx512f,avx512vl"))) void lanes_avx512(uint32_t rounds, uint64_t h[8], const uint64_t m[16], const uint64_t t[2],
                                                                   bool last) noexcept {
#define ZG_ROTATE_32(x) _mm256_ror_epi64(x, 32)
#define ZG_ROTATE_24(x) _mm256_ror_epi64(x, 24)
#define ZG_ROTATE_16(x) _mm256_ror_epi64(x, 16)
#define ZG_ROTATE_63(x) _mm256_ror_epi64(x, 63)
  ZG_BLAKE_BODY(ZG_ROTATE_32, ZG_ROTATE_24, ZG_ROTATE_16, ZG_ROTATE_63);
#undef ZG_ROTATE_32
#undef ZG_ROTATE_24
#undef ZG_ROTATE_16
#undef ZG_ROTATE_63
}
#undef ZG_BLAKE_BODY
#endif

struct Paths {
  Blake2fFn all[3] = {};
  size_t count = 0;
  Paths() noexcept {
#ifdef ZG_BLAKE_LANES
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2")) {
      if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")) all[count++] = lanes_avx512;
      all[count++] = lanes_avx2;
    }
#endif
    all[count++] = blake2f_plain;
  }
};

const Paths& paths() noexcept {
  static const Paths p;
  return p;
}

}  // namespace

void blake2f_plain(uint32_t rounds, uint64_t h[8], const uint64_t m[16], const uint64_t t[2], bool last) noexcept {
  uint64_t v[16];
  begin(v, h, t, last);
  uint32_t row = 0;
  for (uint32_t i = 0; i < rounds; ++i) {
    const uint8_t* s = kSigma[row];
    row = row == 9 ? 0 : row + 1;
    quarter(v[0], v[4], v[8], v[12], m[s[0]], m[s[1]]);
    quarter(v[1], v[5], v[9], v[13], m[s[2]], m[s[3]]);
    quarter(v[2], v[6], v[10], v[14], m[s[4]], m[s[5]]);
    quarter(v[3], v[7], v[11], v[15], m[s[6]], m[s[7]]);
    quarter(v[0], v[5], v[10], v[15], m[s[8]], m[s[9]]);
    quarter(v[1], v[6], v[11], v[12], m[s[10]], m[s[11]]);
    quarter(v[2], v[7], v[8], v[13], m[s[12]], m[s[13]]);
    quarter(v[3], v[4], v[9], v[14], m[s[14]], m[s[15]]);
  }
  for (int i = 0; i < 8; ++i) h[i] ^= v[i] ^ v[i + 8];
}

std::span<const Blake2fFn> blake2f_paths() noexcept { return {paths().all, paths().count}; }

void blake2f(uint32_t rounds, uint64_t h[8], const uint64_t m[16], const uint64_t t[2], bool last) noexcept {
  paths().all[0](rounds, h, m, t, last);
}

}  // namespace zg
