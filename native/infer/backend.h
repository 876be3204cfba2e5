// What the scheduler computes with: one face for the engine of CPUs and for that of CUDA devices. Both give the same bits, so requests
// never show where they ran. A back end counts the pages of its cache in cpu::Pages; where their memory lies is its own affair.
//
// All of it is called from one thread at a time, but for construction.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cpu/engine.h"

namespace zg::infer {

class Backend {
 public:
  virtual ~Backend() = default;

  // Computes rows (cpu/engine.h). False when *cancel became true, when memory ran out, or with fault().
  virtual bool run(std::vector<cpu::Row>* rows, const std::atomic<bool>* cancel) = 0;
  // Not empty: the device failed and stays so; every later run is false.
  virtual const std::string& fault() const = 0;
  virtual cpu::Pages& pages() = 0;
  // Of a page, wherever it lies.
  virtual uint64_t page_bytes() const = 0;
  virtual const std::shared_ptr<const det::Model>& model() const = 0;
  // For people: the level of CPU, or the device's name.
  virtual const char* name() const = 0;
  // Positions of one step while nobody waits for a token, and those of prompts beside sequences that decode.
  virtual size_t step_alone() const = 0;
  virtual size_t step_shared() const = 0;
  // For people: which layers lie where, in one line; empty where there is one place only.
  virtual std::string placement() const { return {}; }
  // Rows may have adapters.
  virtual bool adapts() const = 0;
  // By the thread that will call run(), before it does.
  virtual void pin_caller() const {}
  // Its threads, between two runs; nullptr where it has none.
  virtual cpu::Workers* workers() { return nullptr; }
};

// The engine for CPUs. One that has the model's first layers alone leaves the states behind them in every row's `hidden`.
std::unique_ptr<Backend> cpu_backend(std::unique_ptr<cpu::Engine> engine);

struct BackendOptions {
  // Devices, in the order of the layers that they get; and how many layers one gets beside the others: as many numbers, or none, and free
  // memory says.
  std::vector<uint32_t> devices{0};
  std::vector<uint32_t> shares{};
  // So many of the last layers lie on the devices, the others on the CPU; 0: as many as fit.
  uint32_t device_layers = 0;
  // Longest sequence, sequences that a step may have, threads that lay weights out.
  uint32_t positions = 0;
  uint32_t sequences = 64;
  unsigned threads = 1;
  // Of the cache, of all layers together; 0: what the weights leave of the devices, but for a reserve.
  uint64_t cache_bytes = 0;
  // For layers on the CPU: memory of the machine that is free, an engine of the first layers with so many pages, and what it takes without
  // them. Without open_first there are none.
  uint64_t host_bytes = 0;
  std::function<std::unique_ptr<Backend>(uint32_t layers, uint32_t pages, std::string* error)> open_first{};
  std::function<uint64_t(uint32_t layers)> first_bytes{};
};

// How an addon for devices hands its engine to the one that has the scheduler. Both come from one build: the numbers must be equal.
struct BackendFactory {
  static constexpr uint32_t kVersion = 3;
  uint32_t version = kVersion;
  uint32_t row_bytes = sizeof(cpu::Row);
  uint32_t model_bytes = sizeof(det::Model);
  uint32_t pages_bytes = sizeof(cpu::Pages);
  uint32_t options_bytes = sizeof(BackendOptions);
  // nullptr with the reason in error.
  std::unique_ptr<Backend> (*open)(std::shared_ptr<const det::Model> model, const BackendOptions& options, std::string* error) = nullptr;

  bool fits() const {
    const BackendFactory own;
    return version == own.version && row_bytes == own.row_bytes && model_bytes == own.model_bytes && pages_bytes == own.pages_bytes &&
           options_bytes == own.options_bytes;
  }
};
// Marks the object that wraps a BackendFactory.
constexpr uint64_t kBackendTag[2] = {0x7a672d6261636b65, 0x6e642d666163746f};

}  // namespace zg::infer
