#include "base64.h"

#include <cstring>

namespace zg {
namespace {

constexpr char kAlphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

struct Values {
  uint8_t of[256];  // 255: no character of base64
  constexpr Values() : of{} {
    for (size_t i = 0; i < 256; i++) of[i] = 255;
    for (size_t i = 0; i < 64; i++) of[static_cast<uint8_t>(kAlphabet[i])] = static_cast<uint8_t>(i);
  }
};
constexpr Values kValues;

bool wide(const Kernels& k) noexcept { return k.lanes > 1; }

}  // namespace

size_t base64_bytes(const uint8_t* text, size_t size) noexcept {
  if (size == 0) return 0;
  const size_t padding = text[size - 1] != '=' ? 0 : text[size - 2] != '=' ? 1 : 2;
  return size / 4 * 3 - padding;
}

void base64_encode(const uint8_t* data, size_t size, uint8_t* out, const Kernels& k) noexcept {
  size_t at = 0;
#if defined(__x86_64__)
  if (wide(k)) at = base64_encode_avx2(data, size, out);
#endif
  (void)k;
  uint8_t* to = out + at / 3 * 4;
  for (; size - at >= 3; at += 3, to += 4) {
    const uint32_t v = static_cast<uint32_t>(data[at] << 16 | data[at + 1] << 8 | data[at + 2]);
    for (int i = 0; i < 4; i++) to[i] = static_cast<uint8_t>(kAlphabet[v >> (18 - 6 * i) & 63]);
  }
  const size_t rest = size - at;
  if (rest == 0) return;
  const uint32_t v = static_cast<uint32_t>(data[at] << 16 | (rest == 2 ? data[at + 1] << 8 : 0));
  to[0] = static_cast<uint8_t>(kAlphabet[v >> 18]);
  to[1] = static_cast<uint8_t>(kAlphabet[v >> 12 & 63]);
  to[2] = rest == 2 ? static_cast<uint8_t>(kAlphabet[v >> 6 & 63]) : uint8_t{'='};
  to[3] = '=';
}

bool base64_decode(const uint8_t* text, size_t size, uint8_t* out, const Kernels& k) noexcept {
  if (size % 4 != 0) return false;
  if (size == 0) return true;
  // The last four characters are looked at on their own, since only there padding may stand.
  const size_t body = size - 4;
  size_t at = 0;
#if defined(__x86_64__)
  if (wide(k)) at = base64_decode_avx2(text, body, out);
#endif
  (void)k;
  uint8_t* to = out + at / 4 * 3;
  for (; at < body; at += 4, to += 3) {
    const uint32_t a = kValues.of[text[at]];
    const uint32_t b = kValues.of[text[at + 1]];
    const uint32_t c = kValues.of[text[at + 2]];
    const uint32_t d = kValues.of[text[at + 3]];
    if ((a | b | c | d) > 63) return false;
    const uint32_t v = a << 18 | b << 12 | c << 6 | d;
    to[0] = static_cast<uint8_t>(v >> 16);
    to[1] = static_cast<uint8_t>(v >> 8);
    to[2] = static_cast<uint8_t>(v);
  }
  const uint8_t* last = text + body;
  const size_t bytes = base64_bytes(last, 4);
  const uint32_t a = kValues.of[last[0]];
  const uint32_t b = kValues.of[last[1]];
  const uint32_t c = bytes > 1 ? kValues.of[last[2]] : 0;
  const uint32_t d = bytes > 2 ? kValues.of[last[3]] : 0;
  if ((a | b | c | d) > 63) return false;
  const uint32_t v = a << 18 | b << 12 | c << 6 | d;
  // Bits that no byte takes are zero: one text for one value.
  if ((v & ((uint32_t{1} << (24 - 8 * bytes)) - 1)) != 0) return false;
  for (size_t i = 0; i < bytes; i++) to[i] = static_cast<uint8_t>(v >> (16 - 8 * i));
  return true;
}

}  // namespace zg
