// Between the trainer's flat parameters and GGUF files. Written: version 3, matrices Q8_0, norms F32. Read: through the
// engine's own reader, so what is measured on a file is what the engine will see.
#pragma once

#include <string>
#include <vector>

#include "model.h"

namespace zg::train {

/// Replaces every matrix value by what its Q8_0 block gives back.
void round_to_blocks(const Layout& layout, std::vector<float>& parameters);

/// Writes a model file. `metadata` is a text file of lines "kind key value", kinds: s string, u u32, f f32, b bool (0 or
/// 1), and without a key: "t TYPE TOKEN" a token with its type number, "m LEFT RIGHT" a merge, in order; \n and \\ are
/// escapes of s values. Keys of the shape are added from the configuration. The fault, or empty.
std::string write_model(const std::string& path, const std::string& metadata, const Config& config,
                        const std::vector<float>& parameters);

/// Reads the parameters of a llama model with a tied output; any tensor type that the engine can expand. The fault, or empty.
std::string read_model(const std::string& path, Config* config, std::vector<float>* parameters);

}  // namespace zg::train
