// A model's file with its matrices in another type: what `zg-compute models quantize` does.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "det/blocks.h"
#include "gguf.h"

namespace zg {

// What a file of one name is made of. Sources: inference.md section 2, "File recipes".
struct Recipe {
  const char* name;
  // general.file_type of such files.
  uint32_t file_type;
  det::Type most;
  // Of attn_v and ffn_down in the first and last eighth of the layers and every third between; of the output matrix.
  det::Type more;
  det::Type output;
};

// Ends with a name of nullptr.
const Recipe* recipes() noexcept;
// By name in any case, or nullptr.
const Recipe* recipe_by_name(const std::string& name) noexcept;

// The type that a recipe gives to a tensor; its own where it stays as it is (norms, biases, routers).
// tied: there is no output matrix, the embedding is it.
det::Type type_in(const Recipe& recipe, const gguf::Tensor& tensor, uint32_t layers, bool tied) noexcept;

// Shared with a thread that watches.
struct Conversion {
  std::atomic<uint64_t> done_bytes{0};
  std::atomic<uint64_t> total_bytes{0};
  std::atomic<bool> cancel{false};
};

// Writes the model to path, which is made or emptied, synced at the end and left behind unfinished after an error: callers rename it.
// Memory: a few MiB, whatever the model's size. False with the reason in error: a matrix is quantized already, holds a value that the type
// cannot, or the disk refuses.
bool convert(const gguf::File& file, const Recipe& recipe, const char* path, unsigned threads, Conversion* state, std::string* error);

}  // namespace zg
