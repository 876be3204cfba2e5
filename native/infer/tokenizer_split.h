// Pre-tokenizers: where byte-level BPE may not merge across. Each is one of the regular expressions of inference.md section 5,
// written as a scanner over code points, in linear time.
#pragma once

#include <string_view>

namespace zg {

// End of the piece that starts at p < end; never p itself.
using Splitter = const char* (*)(const char* p, const char* end) noexcept;

struct PreTokenizer {
  Splitter split;
  // A piece that is itself a token is taken whole, whatever the merges say.
  bool whole_pieces;
  // Whether BOS goes in front when the file does not say.
  bool add_bos;
};

// By the name of tokenizer.ggml.pre, or nullptr.
const PreTokenizer* find_pre_tokenizer(std::string_view name) noexcept;

}  // namespace zg
