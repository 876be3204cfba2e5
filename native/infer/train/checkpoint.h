// A run on disk: what is trained, then its two moments, in one file that is written beside, synced and renamed, so that whoever dies at
// any instant leaves the old state or the new one. A resumed run continues with the same bits as one that was never stopped.
// Little-endian: "ZGTRAIN3" · u64 step, seed, digest of what is trained, digest of the tokens, values · f32 values, 2 * values moments.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "shape.h"

namespace zg::train {

struct RunState {
  uint64_t step = 0;
  uint64_t seed = 0;
  uint64_t layout_digest = 0;
  uint64_t corpus_digest = 0;
  std::vector<float> trained;
  std::vector<float> moments;  // first then second, empty when only the values were asked for
};

/// Names and shapes of tensors as one number.
uint64_t digest_of(const std::vector<Tensor>& tensors);

/// Writes the file; the fault, or empty.
std::string write_checkpoint(const std::string& path, const RunState& state);
/// Reads a checkpoint of `count` values of this layout; the fault, or empty.
std::string read_checkpoint(const std::string& path, uint64_t layout_digest, uint64_t count, bool with_moments, RunState* state);

/// Writes a file beside, synced and renamed. The fault, or empty.
struct Piece {
  const void* data;
  size_t size;
};
std::string write_whole(const std::string& path, const std::vector<Piece>& pieces);

}  // namespace zg::train
