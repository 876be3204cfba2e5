#include "tokenizer_special.h"

#include <algorithm>

#include "unicode.h"

namespace zg {

void SpecialNames::prepare() {
  std::erase_if(names_, [](const Name& n) { return n.name.empty() || n.name.size() > kMaxNameBytes; });
  std::sort(names_.begin(), names_.end(), [](const Name& a, const Name& b) {
    const int order = a.name.compare(b.name);
    return order != 0 ? order < 0 : a.id < b.id;
  });
  const auto same = [](const Name& a, const Name& b) { return a.name == b.name; };
  names_.erase(std::unique(names_.begin(), names_.end(), same), names_.end());
  for (uint32_t i = 0; i < names_.size(); i++) {
    Range& r = by_first_byte_[static_cast<uint8_t>(names_[i].name[0])];
    if (r.last == 0) r.first = i;
    r.last = i + 1;
  }
}

template <typename Visit>
bool SpecialNames::names_at(std::string_view text, size_t at, Visit visit) const {
  Range r = by_first_byte_[static_cast<uint8_t>(text[at])];
  // The names that go on like the text: narrowed byte by byte.
  for (size_t depth = 1; r.first < r.last; depth++) {
    if (names_[r.first].name.size() == depth) visit(names_[r.first++]);
    if (at + depth == text.size()) {
      return std::any_of(names_.begin() + r.first, names_.begin() + r.last, [](const Name& n) { return n.control; });
    }
    const auto next = static_cast<uint8_t>(text[at + depth]);
    const auto byte = [depth](const Name& n) { return static_cast<uint8_t>(n.name[depth]); };
    const auto end = names_.begin() + r.last;
    const auto low = std::lower_bound(names_.begin() + r.first, end, next,
                                      [&](const Name& n, uint8_t b) { return byte(n) < b; });
    const auto high = std::upper_bound(low, end, next, [&](uint8_t b, const Name& n) { return b < byte(n); });
    r = {static_cast<uint32_t>(low - names_.begin()), static_cast<uint32_t>(high - names_.begin())};
  }
  return false;
}

void SpecialNames::guard(std::string_view text, std::string_view mark, std::string* out) const {
  for (size_t at = 0; at < text.size();) {
    bool control = false;
    const bool unfinished = names_at(text, at, [&](const Name& n) { control = control || n.control; });
    const size_t size = unicode::decode(text.data() + at, text.data() + text.size()).size;
    out->append(text, at, size);
    if (control || unfinished) out->append(mark);
    at += size;
  }
}

bool SpecialNames::cut(std::string_view text, bool control, std::string_view mark, std::vector<Fragment>* out) const {
  std::vector<Fragment> found;
  bool too_many = false;
  for (size_t at = 0; at < text.size() && !too_many; at++) {
    if (by_first_byte_[static_cast<uint8_t>(text[at])].last == 0) continue;
    names_at(text, at, [&](const Name& n) {
      if (n.control && (!control || (!mark.empty() && text.substr(at + n.name.size(), mark.size()) == mark))) return;
      too_many = too_many || found.size() == kMaxFound;
      if (!too_many) found.push_back({static_cast<uint32_t>(at), static_cast<uint32_t>(n.name.size()), n.id});
    });
  }
  if (too_many) return false;
  out->clear();
  const auto whole = static_cast<uint32_t>(text.size());
  if (found.empty()) {
    if (whole > 0) out->push_back({0, whole, -1});
    return true;
  }
  std::sort(found.begin(), found.end(), [](const Fragment& a, const Fragment& b) {
    if (a.size != b.size) return a.size > b.size;
    return a.id != b.id ? a.id < b.id : a.start < b.start;
  });
  // Those taken before are at least as long, so one that overlaps covers the first or the last byte.
  std::vector<bool> taken(text.size());
  std::vector<Fragment> chosen;
  for (const Fragment& f : found) {
    if (taken[f.start] || taken[f.start + f.size - 1]) continue;
    for (uint32_t i = 0; i < f.size; i++) taken[f.start + i] = true;
    chosen.push_back(f);
  }
  std::sort(chosen.begin(), chosen.end(), [](const Fragment& a, const Fragment& b) { return a.start < b.start; });
  uint32_t at = 0;
  for (const Fragment& f : chosen) {
    if (f.start > at) out->push_back({at, f.start - at, -1});
    out->push_back(f);
    at = f.start + f.size;
  }
  if (at < whole) out->push_back({at, whole - at, -1});
  return true;
}

}  // namespace zg
