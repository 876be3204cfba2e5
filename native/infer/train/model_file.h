// Between the trainer's flat parameters and GGUF files. What is written first is float; other types are made by the engine's own
// quantizer, so that a trained model is the same as one that `models quantize` made of it.
#pragma once

#include <string>
#include <vector>

#include "shape.h"

namespace zg::train {

/// Writes a new model in F32. The vocabulary comes from `metadata`: a text file of lines "kind key value", kinds: s string, u u32, f f32,
/// b bool (0 or 1), and without a key: "t TYPE TOKEN" a token with its type number, "m LEFT RIGHT" a merge, in order; \n and \\ are
/// escapes of s values. Or, where that is empty, from the GGUF file `vocabulary`. Keys of the shape are added. The fault, or empty.
std::string write_new_model(const std::string& path, const std::string& metadata, const std::string& vocabulary, const Config& config,
                            const std::vector<float>& parameters);
/// Tokens that such a vocabulary has; the fault, or empty.
std::string count_tokens(const std::string& metadata, const std::string& vocabulary, long* count);

/// Writes the model that `model` is, with other values, as `recipe` (a name of zg::recipes, or F32). The fault, or empty.
std::string write_model(const std::string& path, const det::Model& model, const Layout& layout, const std::vector<float>& parameters,
                        const std::string& recipe, unsigned threads);

/// Writes an adapter as inference.md section 12 and the engine's reader want it. The fault, or empty.
std::string write_adapter(const std::string& path, const det::Model& model, const std::string& name, const AdapterConfig& adapter,
                          const AdapterLayout& layout, const std::vector<float>& parameters);

}  // namespace zg::train
