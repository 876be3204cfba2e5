// Which layers of a model lie where: on the CPU the first ones, then device by device. Arithmetic alone, no device is touched.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine.h"

namespace zg::simt {

struct PlanRoom {
  uint32_t device = 0;
  // For people.
  std::string name;
  uint64_t free_bytes = 0;
};

struct PlanInput {
  const det::Model* model = nullptr;
  // Rows, positions and sequences of every stage.
  EngineOptions engine;
  std::vector<PlanRoom> rooms;
  // As infer::BackendOptions has them.
  std::vector<uint32_t> shares;
  uint32_t device_layers = 0;
  uint64_t cache_bytes = 0;
  // Free memory of the machine, and what so many first layers take on the CPU with a page; no layers there without it.
  uint64_t host_bytes = 0;
  std::vector<uint64_t> cpu_layers;
};

struct PlanStage {
  uint32_t room = 0;
  uint32_t first = 0;
  uint32_t last = 0;
  // What the stage takes without keys and values.
  uint64_t bytes = 0;
};

struct Plan {
  // The first layers, on the CPU.
  uint32_t cpu_layers = 0;
  std::vector<PlanStage> stages;
  // Of the cache; 0: what is left decides, at least one whole sequence.
  uint32_t pages = 0;
};

// False with the reason, in numbers, when it fits nowhere. Layers go to the CPU when they were told to, or when the devices have no room
// for them; devices share the rest so that the fullest of them is as empty as can be, or as shares says.
bool make_plan(const PlanInput& input, Plan* out, std::string* error);

// "layer 3", "layers 3 to 5": those from first (counted from 0) to last, but without it.
std::string layers_text(uint32_t first, uint32_t last);

// Keys and values of so many layers in a page, on the CPU as on a device.
uint64_t page_bytes(const det::Model& model, size_t layers);

}  // namespace zg::simt
