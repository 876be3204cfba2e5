// What is learnt from, as tokens. Little-endian:
//   "ZGTOKENS" · u32 version 2 · u32 vocabulary size · u32 id of the token that opens a text (2^32 - 1: none) · u32 kind · u32 sets
//   per set: u32 name length · name · f32 weight · u64 training tokens · u64 starts · u64 held-out tokens · u64 held-out starts ·
//            u64 held-out bytes of text, then the four lists as u32: tokens · starts (ascending, the first 0) · held-out tokens · starts
// The top bit of a token says that it counts as a target.
// Kind 0, streams: windows are cut at a start drawn anew each time, sets by their weight; a start is where a paragraph begins.
// Kind 1, samples: a start is where a sample begins; every epoch takes each once, in an order of its own, as many to a window as fit.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model.h"

namespace zg::train {

inline constexpr uint32_t kCounts = 0x80000000u;

struct TokenList {
  std::vector<uint32_t> tokens;
  std::vector<uint32_t> starts;
  uint64_t counted = 0;  // of the tokens
};

struct TextSet {
  std::string name;
  double weight = 0;             // share of the windows drawn from this set
  TokenList training, held_out;  // the second is never trained on and may be empty
  uint64_t held_out_bytes = 0;   // of text, for bits per byte; 0: unknown
};

struct Corpus {
  long vocab = 0;
  int32_t opening = -1;
  bool samples = false;
  std::vector<TextSet> sets;
  uint64_t digest = 0;  // of the whole file
  uint64_t bytes = 0;   // in memory
};

/// Reads and checks a token file; the fault, or empty.
std::string read_corpus(const std::string& path, Corpus* corpus);

/// The windows of a run in order; window i depends on corpus, length, seed and i alone.
class Windows {
 public:
  Windows(const Corpus& corpus, long length, uint64_t seed) : corpus_(corpus), length_(length), seed_(seed) {}
  /// Empty, or why the corpus has no windows of this length.
  std::string fault() const;
  /// Not for use by several threads at once.
  Window window(uint64_t index);
  /// Windows that hold every training token once.
  uint64_t in_epoch();

 private:
  /// Ranges of samples [first, last) of `order_` that share a window.
  struct Range {
    size_t first, last;
  };
  void open_epoch(uint64_t epoch);

  const Corpus& corpus_;
  const long length_;
  const uint64_t seed_;
  uint64_t epoch_ = ~0ull;
  uint64_t epoch_begin_ = 0;
  std::vector<uint32_t> order_;
  std::vector<Range> ranges_;
};

struct HeldOutWindow {
  size_t set;
  Window window;
  uint64_t counted;
};
/// Windows that cover the held-out text one after another; at most `most` of them, spread evenly (0: all).
std::vector<HeldOutWindow> held_out_windows(const Corpus& corpus, long length, size_t most);

}  // namespace zg::train
