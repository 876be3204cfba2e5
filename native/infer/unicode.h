// What pre-tokenizers ask about code points: general category and white space, and how UTF-8 is taken apart. The table comes from
// scripts/make-unicode.ts; its Unicode version is kVersion.
#pragma once

#include <cstddef>
#include <cstdint>

namespace zg::unicode {

enum Flag : uint8_t {
  kUpper = 1,     // Lu
  kLower = 2,     // Ll
  kTitle = 4,     // Lt
  kModifier = 8,  // Lm
  kOther = 16,    // Lo
  kNumber = 32,   // N
  kMark = 64,     // M
  kSpace = 128,   // White_Space
};
constexpr uint8_t kLetter = kUpper | kLower | kTitle | kModifier | kOther;

struct Range {
  uint32_t first;
  uint32_t count;
  uint8_t flags;
};
extern const Range kRanges[];
extern const size_t kRangeCount;
extern const char kVersion[];

// Flags by code point, 0x110000 of them. Filled at the first call, about 1 ms.
const uint8_t* table() noexcept;

// A byte that begins no whole character of UTF-8.
constexpr uint32_t kInvalid = 0xffffffff;

struct Decoded {
  uint32_t code_point;
  uint32_t size;
};

// The character at p < end; size 1 and kInvalid where there is none (overlong forms, surrogates and above U+10FFFF included).
Decoded decode(const char* p, const char* end) noexcept;

}  // namespace zg::unicode
