#include "unicode.h"

#include <cstring>

namespace zg::unicode {

const uint8_t* table() noexcept {
  // Zero pages that nothing touches cost no memory, so the flat form is also the small one.
  static uint8_t flags[0x110000];
  static const bool filled = [] {
    for (size_t i = 0; i < kRangeCount; i++) std::memset(flags + kRanges[i].first, kRanges[i].flags, kRanges[i].count);
    return true;
  }();
  (void)filled;
  return flags;
}

Decoded decode(const char* p, const char* end) noexcept {
  const auto byte = [p](size_t i) { return static_cast<uint8_t>(p[i]); };
  const auto left = static_cast<size_t>(end - p);
  const uint32_t first = byte(0);
  if (first < 0x80) return {first, 1};
  const uint32_t size = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || left < size) return {kInvalid, 1};
  uint32_t cp = first & (0x7fu >> size);
  for (uint32_t i = 1; i < size; i++) {
    if ((byte(i) & 0xc0) != 0x80) return {kInvalid, 1};
    cp = cp << 6 | (byte(i) & 0x3f);
  }
  const bool overlong = (size == 3 && cp < 0x800) || (size == 4 && cp < 0x10000);
  if (overlong || cp > 0x10ffff || (cp >= 0xd800 && cp <= 0xdfff)) return {kInvalid, 1};
  return {cp, size};
}

}  // namespace zg::unicode
