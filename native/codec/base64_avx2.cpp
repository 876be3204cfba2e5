// 32 characters at a time.
#if defined(__x86_64__)
#include <immintrin.h>

#include "base64.h"

#define ZG_TARGET __attribute__((target("avx2")))

namespace zg {
namespace {

using V = __m256i;

ZG_TARGET inline V bytes(int x) noexcept { return _mm256_set1_epi8(static_cast<char>(x)); }

// c in [first, last], all below 128.
ZG_TARGET inline V within(V c, int first, int last) noexcept {
  return _mm256_and_si256(_mm256_cmpgt_epi8(c, bytes(first - 1)), _mm256_cmpgt_epi8(bytes(last + 1), c));
}

}  // namespace

ZG_TARGET size_t base64_encode_avx2(const uint8_t* data, size_t size, uint8_t* out) noexcept {
  // Three bytes b0 b1 b2 become the 32-bit word b1 b0 b2 b1 (in memory), in which each of the four numbers of six bits lies within 16.
  const V order = _mm256_setr_epi8(1, 0, 2, 1, 4, 3, 5, 4, 7, 6, 8, 7, 10, 9, 11, 10,  //
                                   1, 0, 2, 1, 4, 3, 5, 4, 7, 6, 8, 7, 10, 9, 11, 10);
  size_t at = 0;
  // The second load reads four bytes more than it uses.
  for (; size - at >= 28; at += 24, out += 32) {
    const __m128i low = _mm_loadu_si128(reinterpret_cast<const __m128i*>(data + at));
    const __m128i high = _mm_loadu_si128(reinterpret_cast<const __m128i*>(data + at + 12));
    const V in = _mm256_shuffle_epi8(_mm256_set_m128i(high, low), order);
    // Numbers 0 and 2 move right by 10 and 6 bits, 1 and 3 left by 4 and 8: by products, since shifts are the same for all words.
    const V even = _mm256_mulhi_epu16(_mm256_and_si256(in, _mm256_set1_epi32(0x0fc0fc00)), _mm256_set1_epi32(0x04000040));
    const V odd = _mm256_mullo_epi16(_mm256_and_si256(in, _mm256_set1_epi32(0x003f03f0)), _mm256_set1_epi32(0x01000010));
    const V n = _mm256_or_si256(even, odd);
    V shift = bytes('A');
    shift = _mm256_add_epi8(shift, _mm256_and_si256(_mm256_cmpgt_epi8(n, bytes(25)), bytes('a' - 26 - 'A')));
    shift = _mm256_add_epi8(shift, _mm256_and_si256(_mm256_cmpgt_epi8(n, bytes(51)), bytes('0' - 52 - ('a' - 26))));
    shift = _mm256_add_epi8(shift, _mm256_and_si256(_mm256_cmpgt_epi8(n, bytes(61)), bytes('+' - 62 - ('0' - 52))));
    shift = _mm256_add_epi8(shift, _mm256_and_si256(_mm256_cmpgt_epi8(n, bytes(62)), bytes('/' - 63 - ('+' - 62))));
    _mm256_storeu_si256(reinterpret_cast<V*>(out), _mm256_add_epi8(n, shift));
  }
  return at;
}

ZG_TARGET size_t base64_decode_avx2(const uint8_t* text, size_t size, uint8_t* out) noexcept {
  const V order = _mm256_setr_epi8(2, 1, 0, 6, 5, 4, 10, 9, 8, 14, 13, 12, -1, -1, -1, -1,  //
                                   2, 1, 0, 6, 5, 4, 10, 9, 8, 14, 13, 12, -1, -1, -1, -1);
  size_t at = 0;
  // A store writes four bytes more than it should; eight more characters behind it make room for them.
  for (; size - at >= 40; at += 32, out += 24) {
    const V c = _mm256_loadu_si256(reinterpret_cast<const V*>(text + at));
    const V upper = within(c, 'A', 'Z');
    const V lower = within(c, 'a', 'z');
    const V digit = within(c, '0', '9');
    const V plus = _mm256_cmpeq_epi8(c, bytes('+'));
    const V slash = _mm256_cmpeq_epi8(c, bytes('/'));
    const V letter = _mm256_or_si256(upper, lower);
    const V good = _mm256_or_si256(_mm256_or_si256(letter, digit), _mm256_or_si256(plus, slash));
    if (_mm256_movemask_epi8(good) != -1) break;
    V shift = _mm256_and_si256(upper, bytes(-'A'));
    shift = _mm256_or_si256(shift, _mm256_and_si256(lower, bytes(26 - 'a')));
    shift = _mm256_or_si256(shift, _mm256_and_si256(digit, bytes(52 - '0')));
    shift = _mm256_or_si256(shift, _mm256_and_si256(plus, bytes(62 - '+')));
    shift = _mm256_or_si256(shift, _mm256_and_si256(slash, bytes(63 - '/')));
    // Two numbers of 6 bits to one of 12, two of those to one of 24.
    const V pairs = _mm256_maddubs_epi16(_mm256_add_epi8(c, shift), _mm256_set1_epi16(0x0140));
    const V words = _mm256_shuffle_epi8(_mm256_madd_epi16(pairs, _mm256_set1_epi32(0x00011000)), order);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm256_castsi256_si128(words));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 12), _mm256_extracti128_si256(words, 1));
  }
  return at;
}

}  // namespace zg
#endif
