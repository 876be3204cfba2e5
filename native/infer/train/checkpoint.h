// A run on disk: parameters, then the two moments, in one file that is written beside, synced and renamed, so that whoever dies at
// any instant leaves the old state or the new one. A resumed run continues with the same bits as one that was never stopped.
// Little-endian:
//   "ZGTRAIN2" · u64 vocab, width, layers, heads, kv heads, hidden, context · f64 rope base, epsilon · u64 step, seed, floats
//   then the floats.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model.h"

namespace zg::train {

struct RunState {
  Config config;
  uint64_t step = 0;
  uint64_t seed = 0;
  std::vector<float> parameters;
  std::vector<float> moments;  // first then second, empty when only the parameters were asked for
};

/// Writes the file; the fault, or empty.
std::string write_checkpoint(const std::string& path, const RunState& state);
/// Reads the parameters and, when asked, the moments; the fault, or empty.
std::string read_checkpoint(const std::string& path, bool with_moments, RunState* state);

}  // namespace zg::train
