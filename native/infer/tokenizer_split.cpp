#include "tokenizer_split.h"

#include "unicode.h"

namespace zg {
namespace {

using unicode::kLetter;
using unicode::kLower;
using unicode::kMark;
using unicode::kModifier;
using unicode::kNumber;
using unicode::kOther;
using unicode::kSpace;
using unicode::kTitle;
using unicode::kUpper;

// A character at a place; at the end of the text it has size 0 and no flags.
struct Char {
  uint32_t code = 0;
  uint32_t size = 0;
  uint8_t flags = 0;

  bool is(uint8_t wanted) const { return (flags & wanted) != 0; }
  bool newline() const { return code == '\r' || code == '\n'; }
  // Neither white space, letter nor number: also what is no character at all.
  bool symbol() const { return size > 0 && !is(kSpace | kLetter | kNumber); }
};

inline Char at(const char* p, const char* end) {
  if (p >= end) return {};
  const uint8_t* table = unicode::table();
  const auto first = static_cast<uint8_t>(*p);
  if (first < 0x80) return {first, 1, table[first]};
  const unicode::Decoded d = unicode::decode(p, end);
  return {d.code_point, d.size, d.code_point == unicode::kInvalid ? uint8_t{0} : table[d.code_point]};
}

// Past the characters with one of the flags, at most limit of them.
inline const char* skip(const char* p, const char* end, uint8_t flags, size_t limit = SIZE_MAX) {
  for (; limit > 0; limit--) {
    const Char c = at(p, end);
    if (!c.is(flags)) break;
    p += c.size;
  }
  return p;
}

inline const char* skip_symbols(const char* p, const char* end) {
  for (Char c = at(p, end); c.symbol(); c = at(p, end)) p += c.size;
  return p;
}

// 's 't 're 've 'm 'll 'd at p, or nullptr.
inline const char* contraction(const char* p, const char* end, bool any_case) {
  if (end - p < 2 || p[0] != '\'') return nullptr;
  const auto low = [any_case](char c) { return any_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  const char a = low(p[1]);
  if (a == 's' || a == 't' || a == 'm' || a == 'd') return p + 2;
  if (end - p < 3) return nullptr;
  const char b = low(p[2]);
  if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return p + 3;
  return nullptr;
}

// \s+(?!\S)|\s+ : white space up to the end of the text, or all but its last character, or that one.
inline const char* spaces(const char* p, const char* end) {
  const char* last = p;
  const char* q = p;
  for (Char c = at(q, end); c.is(kSpace); c = at(q, end)) {
    last = q;
    q += c.size;
  }
  return q == end || last == p ? q : last;
}

// \s*[\r\n]+|\s+(?!\S)|\s+ : white space through its last line break, else as above.
inline const char* lines_or_spaces(const char* p, const char* end) {
  const char* broken = nullptr;
  const char* q = p;
  for (Char c = at(q, end); c.is(kSpace); c = at(q, end)) {
    q += c.size;
    if (c.newline()) broken = q;
  }
  return broken != nullptr ? broken : spaces(p, end);
}

//  ?[^\s\p{L}\p{N}]+ and then a run of \r, \n (and / where the expression has it); nullptr when there is no symbol.
inline const char* symbols(const char* p, const char* end, bool slash) {
  const char* start = *p == ' ' ? p + 1 : p;
  const char* q = skip_symbols(start, end);
  if (q == start) return nullptr;
  while (q < end && (*q == '\r' || *q == '\n' || (slash && *q == '/'))) q++;
  return q;
}

// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
const char* gpt2(const char* p, const char* end) noexcept {
  if (const char* q = contraction(p, end, false)) return q;
  const char* start = *p == ' ' ? p + 1 : p;
  const Char c = at(start, end);
  if (c.is(kLetter)) return skip(start, end, kLetter);
  if (c.is(kNumber)) return skip(start, end, kNumber);
  if (c.symbol()) return skip_symbols(start, end);
  return spaces(p, end);
}

// Every number alone, gpt-2 on what lies between: the text ends for it where a number begins.
const char* single_numbers(const char* p, const char* end) noexcept {
  const Char c = at(p, end);
  if (c.is(kNumber)) return p + c.size;
  // Only white space looks ahead; everything else stops before a number by itself.
  if (!c.is(kSpace)) return gpt2(p, end);
  const char* q = skip(p, end, kSpace);
  return gpt2(p, at(q, end).is(kNumber) ? q : end);
}

// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
template <size_t digits>
const char* llama3(const char* p, const char* end) noexcept {
  if (const char* q = contraction(p, end, true)) return q;
  const Char c = at(p, end);
  if (c.is(kLetter)) return skip(p, end, kLetter);
  if (c.is(kNumber)) return skip(p, end, kNumber, digits);
  if (!c.newline() && at(p + c.size, end).is(kLetter)) return skip(p + c.size, end, kLetter);
  if (const char* q = symbols(p, end, false)) return q;
  return lines_or_spaces(p, end);
}

constexpr uint8_t kHigh = kUpper | kTitle | kModifier | kOther | kMark;
constexpr uint8_t kLow = kLower | kModifier | kOther | kMark;

// [high]*[low]+ at p, or nullptr. The greedy run of high characters gives back as many as needed for one low.
const char* word_low(const char* p, const char* end) {
  const char* both = nullptr;
  const char* q = p;
  for (Char c = at(q, end); c.is(kHigh); c = at(q, end)) {
    q += c.size;
    if (c.is(kLow)) both = q;
  }
  const char* r = skip(q, end, kLow);
  return r > q ? r : both;
}

// [high]+[low]* at p, or nullptr.
const char* word_high(const char* p, const char* end) {
  const char* q = skip(p, end, kHigh);
  return q == p ? nullptr : skip(q, end, kLow);
}

// Letters by case, each word with an optional character in front: first words that end low, then those that are high.
const char* cased_word(const char* p, const char* end) {
  const Char c = at(p, end);
  const char* after = !c.newline() && !c.is(kLetter | kNumber) ? p + c.size : nullptr;
  if (after != nullptr) {
    if (const char* q = word_low(after, end)) return q;
  }
  if (const char* q = word_low(p, end)) return q;
  if (after != nullptr) {
    if (const char* q = word_high(after, end)) return q;
  }
  return word_high(p, end);
}

template <size_t digits, bool contractions>
const char* cased(const char* p, const char* end) noexcept {
  if (const char* q = cased_word(p, end)) {
    const char* more = contractions ? contraction(q, end, true) : nullptr;
    return more != nullptr ? more : q;
  }
  if (at(p, end).is(kNumber)) return skip(p, end, kNumber, digits);
  if (const char* q = symbols(p, end, true)) return q;
  return lines_or_spaces(p, end);
}

struct Named {
  std::string_view name;
  PreTokenizer pre;
};

constexpr PreTokenizer kGpt2 = {gpt2, false, false};
constexpr PreTokenizer kLlama3 = {llama3<3>, true, true};
// The expression of llama-bpe without its rule of whole pieces.
constexpr PreTokenizer kLlama3Merged = {llama3<3>, false, false};
constexpr PreTokenizer kQwen2 = {llama3<1>, false, false};
constexpr PreTokenizer kTekken = {cased<1, false>, true, true};
constexpr PreTokenizer kGpt4o = {cased<3, true>, false, false};
constexpr PreTokenizer kNumbers = {single_numbers, false, false};

constexpr Named kNames[] = {
    {"gpt-2", kGpt2},          {"phi-2", kGpt2},      {"jina-es", kGpt2},       {"jina-de", kGpt2},
    {"jina-v2-es", kGpt2},     {"jina-v2-de", kGpt2}, {"gigachat", kGpt2},      {"roberta-bpe", kGpt2},
    {"llama-bpe", kLlama3},    {"llama3", kLlama3},   {"llama-v3", kLlama3},    {"smaug-bpe", kLlama3Merged},
    {"dbrx", kLlama3Merged},   {"qwen2", kQwen2},     {"stablelm2", kQwen2},    {"deepseek-r1-qwen", kQwen2},
    {"tekken", kTekken},       {"gpt-4o", kGpt4o},    {"smollm", kNumbers},     {"starcoder", kNumbers},
    {"refact", kNumbers},      {"command-r", kNumbers},
};

}  // namespace

const PreTokenizer* find_pre_tokenizer(std::string_view name) noexcept {
  for (const Named& n : kNames) {
    if (n.name == name) return &n.pre;
  }
  return nullptr;
}

}  // namespace zg
