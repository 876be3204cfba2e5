#include "backend.h"

#include <algorithm>

#include "device.h"
#include "plan.h"
#include "split.h"

namespace zg::simt {
namespace {

std::string mib(uint64_t bytes) { return std::to_string((bytes + (1 << 19)) >> 20) + " MiB"; }

// The devices that were named, with what is free there. One named twice is two (tests do so): what is free counts twice.
bool rooms_of(const std::vector<uint32_t>& devices, std::vector<PlanRoom>* out, std::string* error) {
  const std::vector<DeviceInfo> all = list_devices(error);
  if (devices.empty()) return *error = "no device was named", false;
  for (const uint32_t d : devices) {
    if (d >= all.size()) return *error = "no CUDA device " + std::to_string(d) + ": " + std::to_string(all.size()) + " are there", false;
    PlanRoom room{d, "cuda:", 0};
    room.name.append(std::to_string(d)).append(" (").append(all[d].name).append(")");
    uint64_t total = 0;
    if (!device_memory(d, &room.free_bytes, &total, error)) return false;
    out->push_back(room);
  }
  return true;
}

// Keys and values on the CPU take at most half of what the weights there leave of its share, when the devices do not say.
uint64_t host_pages(const infer::BackendOptions& options, const det::Model& model, uint32_t layers) {
  const uint64_t weights = options.first_bytes(layers);
  const uint64_t left = options.host_bytes / 2 > weights ? options.host_bytes / 2 - weights : 0;
  return left / page_bytes(model, layers);
}

}  // namespace

std::unique_ptr<infer::Backend> open_backend(std::shared_ptr<const det::Model> model, const infer::BackendOptions& options, std::string* error) {
  PlanInput in;
  in.model = model.get();
  EngineOptions& o = in.engine;
  o.positions = std::min(options.positions, model->context);
  o.sequences = options.sequences;
  o.rows = std::max(kStepRows, options.sequences);
  o.logit_rows = kLogitRows;
  o.load_threads = options.threads;
  o.pages = EngineOptions::kNoPages;
  if (!rooms_of(options.devices, &in.rooms, error)) return nullptr;
  in.shares = options.shares;
  in.device_layers = options.device_layers;
  in.cache_bytes = options.cache_bytes;
  in.host_bytes = options.host_bytes;
  const auto layers = static_cast<uint32_t>(model->layers.size());
  for (uint32_t i = 1; i < layers && options.open_first != nullptr; i++) in.cpu_layers.push_back(options.first_bytes(i));
  Plan plan;
  if (!make_plan(in, &plan, error)) return nullptr;

  std::vector<std::unique_ptr<Engine>> stages;
  uint32_t pages = plan.pages;
  if (pages == 0 && plan.cpu_layers > 0) pages = static_cast<uint32_t>(std::min<uint64_t>(host_pages(options, *model, plan.cpu_layers), UINT32_MAX - 1));
  for (const PlanStage& s : plan.stages) {
    o.device = in.rooms[s.room].device;
    o.first_layer = s.first;
    o.last_layer = s.last;
    std::unique_ptr<Engine> engine = Engine::open(*model, o, error);
    if (engine == nullptr) return nullptr;
    stages.push_back(std::move(engine));
    // The same pages in all: who has least room for them decides.
    if (plan.pages == 0) pages = pages == 0 ? stages.back()->pages_left() : std::min(pages, stages.back()->pages_left());
  }
  if (pages == 0) return *error = "no memory is left for keys and values", nullptr;
  std::string placement;
  std::unique_ptr<infer::Backend> first;
  if (plan.cpu_layers > 0) {
    first = options.open_first(plan.cpu_layers, pages, error);
    if (first == nullptr) return nullptr;
    placement.append(layers_text(0, plan.cpu_layers)).append(" on the CPU (").append(first->name()).append(", ");
    placement.append(mib(options.first_bytes(plan.cpu_layers))).append(")");
  }
  for (size_t i = 0; i < stages.size(); i++) {
    Engine& e = *stages[i];
    const uint64_t own = e.device_bytes();
    if (!e.make_cache(pages)) return *error = e.error(), nullptr;
    const PlanStage& s = plan.stages[i];
    if (!placement.empty()) placement += ", ";
    placement.append(layers_text(s.first, s.last)).append(" on ").append(in.rooms[s.room].name).append(" (").append(mib(own)).append(")");
  }
  if (stages.size() == 1 && first == nullptr) {
    placement.clear();
  } else {
    placement += "; keys and values of " + std::to_string(uint64_t{pages} * det::kPage) + " positions: " + mib(pages * page_bytes(*model, layers));
  }
  return split_backend(std::move(model), std::move(first), std::move(stages), pages, std::move(placement));
}

}  // namespace zg::simt
