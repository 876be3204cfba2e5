// The training text as tokens: what the vocabulary script writes. Little-endian:
//   "ZGTOKENS" · u32 version 1 · u32 vocabulary size · u32 id of the token that opens a text · u32 sets
//   per set: u32 name length · name · f32 weight · u64 training tokens · u64 starts · u64 held-out tokens · u64 held-out bytes,
//            u16 training tokens · u32 starts (ascending positions where a paragraph begins) · u16 held-out tokens
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace zg::train {

struct TextSet {
  std::string name;
  double weight = 0;                   // share of the windows drawn from this set
  std::vector<uint16_t> tokens;        // for training
  std::vector<uint32_t> starts;
  std::vector<uint16_t> held_out;      // never trained on
  uint64_t held_out_bytes = 0;         // of text, for bits per byte
};

struct Corpus {
  long vocab = 0;
  int32_t opening = 0;
  std::vector<TextSet> sets;
};

/// Reads and checks a token file; the fault, or empty.
std::string read_corpus(const std::string& path, Corpus* corpus);

/// One window: tokens[0] is the opening token, targets[i] follows tokens[i]. Drawn for (seed, index) and nothing else.
void draw_window(const Corpus& corpus, uint64_t seed, uint64_t index, long length, int32_t* tokens, int32_t* targets);

/// Windows that cover a set's held-out tokens one after another, each starting with the opening token.
struct HeldOutWindow {
  size_t set;
  size_t from;
  long length;
};
std::vector<HeldOutWindow> held_out_windows(const Corpus& corpus, long length);
void fill_held_out(const Corpus& corpus, const HeldOutWindow& window, int32_t* tokens, int32_t* targets);

}  // namespace zg::train
