// JSON text written front to back into one bounded string.
#pragma once

#include <string>
#include <string_view>

#include "base/types.h"
#include "base/u256.h"

namespace zg {

// Appends until `limit` bytes are reached; from then on nothing more is kept and `full` says so: what was written is no JSON then.
class JsonText {
 public:
  explicit JsonText(size_t limit = ~size_t{0}) noexcept : limit_(limit) {}
  [[nodiscard]] bool full() const noexcept { return full_; }
  [[nodiscard]] size_t size() const noexcept { return text_.size(); }
  [[nodiscard]] const std::string& text() const noexcept { return text_; }
  std::string take() noexcept { return std::move(text_); }
  void clear() noexcept {
    text_.clear();
    full_ = false;
  }

  // As it stands: punctuation, names, text made by another JsonText.
  JsonText& raw(std::string_view s);
  // "0x…" of bytes, in quotes.
  JsonText& hex(ByteView v);
  // A quantity in quotes: no leading zeros, "0x0" for none.
  JsonText& quantity(const U256& x);
  JsonText& quantity(uint64_t x) { return quantity(U256(x)); }
  // 32 bytes in quotes.
  JsonText& word(const U256& x) { return hex(x.be()); }
  JsonText& number(uint64_t x) { return raw(std::to_string(x)); }
  // In quotes and escaped; bytes that are no UTF-8 become U+FFFD.
  JsonText& string(std::string_view s);
  JsonText& boolean(bool b) { return raw(b ? "true" : "false"); }

 private:
  std::string text_;
  size_t limit_;
  bool full_ = false;
};

}  // namespace zg
