// A model's layers over the CPU and several devices, one stage after the other, as one back end for the scheduler (native/infer/backend.h).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "../backend.h"
#include "engine.h"

namespace zg::simt {

// Positions of one step, and those of prompts beside sequences that decode: enough to fill the matrix units, few enough that nobody
// waits long for a token.
constexpr uint32_t kStepRows = 1'024;
constexpr size_t kStepShared = 256;
// Rows of a step whose logits are computed at once.
constexpr uint32_t kLogitRows = 256;

// stages: at least one, in the order of their layers, with caches of `pages` pages each. first: the layers before those of stages[0], or
// nullptr. placement: what lies where, for people.
std::unique_ptr<infer::Backend> split_backend(std::shared_ptr<const det::Model> model, std::unique_ptr<infer::Backend> first,
                                              std::vector<std::unique_ptr<Engine>> stages, uint32_t pages, std::string placement);

}  // namespace zg::simt
