#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace zg::simt {

// One way to lay a model out: devices in this order, and layers on the CPU in front of them.
struct Layout {
  std::vector<uint32_t> devices;
  std::vector<uint32_t> shares;
  uint32_t cpu_layers = 0;
};

// Rows of several sequences, prompts in pieces and decoding, with each layout of the model in a file against the engine for CPUs, bit for
// bit; layouts of more stages than the model has layers are left out. False, with words, when something differs.
bool compare_layouts(const std::string& path, const std::vector<Layout>& layouts, unsigned threads, uint64_t* logits);

// A random model with a window in one layer, and one whose values stop being finite there, for each layer, with every layout: the same bits,
// and the layer is named as the CPU names it.
bool compare_random_layers(const std::vector<Layout>& layouts, unsigned threads);

// What is planned for made-up rooms; and that stages take what plans think.
bool check_plans();

}  // namespace zg::simt
