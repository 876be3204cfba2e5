// Names of control and user-defined tokens within text: where they stand, and what lies between.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace zg {

// A part of the text: a token, or (id -1) what is to be encoded.
struct Fragment {
  uint32_t start;
  uint32_t size;
  int32_t id;
};

class SpecialNames {
 public:
  // Longer names are left out: a text is compared with as much at every place.
  static constexpr size_t kMaxNameBytes = 512;
  // Occurrences in one text, overlapping ones included.
  static constexpr size_t kMaxFound = size_t{1} << 22;

  // Names must outlive this. A control name is found only where cut() is told to look for those.
  void add(std::string_view name, int32_t id, bool control) { names_.push_back({name, id, control}); }
  // After the last add().
  void prepare();

  // Cuts text: longer names before shorter ones, each from left to right, as if every name in turn were searched in what the ones
  // before it left. Fragments are in order and never empty. False when too many were found.
  // A control name right before the mark is none: see guard().
  bool cut(std::string_view text, bool control, std::string_view mark, std::vector<Fragment>* out) const;

  // Appends text with the mark after the first character of everything that is a control name or may become one together with what
  // follows the text. So cut() cannot find a control name that lies in the guarded text, or begins in it. The mark must occur
  // neither in the text nor in a name.
  void guard(std::string_view text, std::string_view mark, std::string* out) const;

 private:
  struct Name {
    std::string_view name;
    int32_t id;
    bool control;
  };
  struct Range {
    uint32_t first = 0;
    uint32_t last = 0;
  };
  // Calls visit(name) for each name that text has at a place, shorter ones first. True when the text ends within a control name.
  template <typename Visit>
  bool names_at(std::string_view text, size_t at, Visit visit) const;

  // Sorted by name, so that those that begin alike are a range.
  std::vector<Name> names_;
  Range by_first_byte_[256];
};

}  // namespace zg
