#include "trace/json.h"

namespace zg {

namespace {

constexpr char kDigits[] = "0123456789abcdef";

// Length of the well-formed UTF-8 sequence that begins at `at`; 0: there is none (Unicode 15, table 3-7).
size_t utf8_length(std::string_view s, size_t at) noexcept {
  const auto byte = [&](size_t i) { return at + i < s.size() ? static_cast<uint8_t>(s[at + i]) : uint8_t{0}; };
  const auto follows = [&](size_t i, uint8_t low = 0x80, uint8_t high = 0xbf) { return byte(i) >= low && byte(i) <= high; };
  const uint8_t first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first <= 0xdf) return follows(1) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef) {
    const uint8_t low = first == 0xe0 ? 0xa0 : 0x80, high = first == 0xed ? 0x9f : 0xbf;
    return follows(1, low, high) && follows(2) ? 3 : 0;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    const uint8_t low = first == 0xf0 ? 0x90 : 0x80, high = first == 0xf4 ? 0x8f : 0xbf;
    return follows(1, low, high) && follows(2) && follows(3) ? 4 : 0;
  }
  return 0;
}

}  // namespace

JsonText& JsonText::raw(std::string_view s) {
  if (full_ || s.size() > limit_ - text_.size()) {
    full_ = true;
    return *this;
  }
  text_.append(s);
  return *this;
}

JsonText& JsonText::hex(ByteView v) {
  if (full_ || v.size() > (limit_ - text_.size()) / 2) {
    full_ = true;
    return *this;
  }
  raw("\"0x");
  const size_t at = text_.size();
  text_.resize(at + 2 * v.size());
  char* p = text_.data() + at;
  for (const uint8_t x : v) {
    *p++ = kDigits[x >> 4];
    *p++ = kDigits[x & 15];
  }
  return raw("\"");
}

JsonText& JsonText::quantity(const U256& x) {
  char out[68];
  size_t n = 0;
  out[n++] = '"';
  out[n++] = '0';
  out[n++] = 'x';
  const unsigned nibbles = x.is_zero() ? 1 : (x.bit_width() + 3) / 4;
  for (unsigned i = nibbles; i-- > 0;) out[n++] = kDigits[(x.w[i / 16] >> (4 * (i % 16))) & 15];
  out[n++] = '"';
  return raw({out, n});
}

JsonText& JsonText::string(std::string_view s) {
  std::string out;
  out.push_back('"');
  for (size_t i = 0; i < s.size();) {
    const auto c = static_cast<uint8_t>(s[i]);
    if (c == '"' || c == '\\') {
      out.push_back('\\');
      out.push_back(static_cast<char>(c));
      ++i;
    } else if (c < 0x20) {
      out.append("\\u00");
      out.push_back(kDigits[c >> 4]);
      out.push_back(kDigits[c & 15]);
      ++i;
    } else if (const size_t n = utf8_length(s, i); n != 0) {
      out.append(s.substr(i, n));
      i += n;
    } else {
      out.append("\xef\xbf\xbd");
      ++i;
    }
  }
  out.push_back('"');
  return raw(out);
}

}  // namespace zg
