// One device's memory, launches and graphs, behind one face for CUDA and for the emulation. The first error sticks: every later call
// does nothing, and error() says what happened. Not thread-safe.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <string>
#include <unordered_map>
#include <vector>

#include "simt.h"

namespace zg::simt {

struct DeviceInfo {
  std::string name;
  uint64_t memory_bytes = 0;
  uint32_t multiprocessors = 1;
  // 90 for 9.0; 0: the emulation.
  uint32_t capability = 0;
  // Shared memory that a block can have.
  uint32_t shared_bytes = 227 * 1024;
};

// Devices here; empty, with the reason, where there are none.
std::vector<DeviceInfo> list_devices(std::string* why);
// Memory of a device that nobody has taken, and all of it. False with the reason.
bool device_memory(uint32_t index, uint64_t* free, uint64_t* total, std::string* why);

class Device {
 public:
  static constexpr size_t kStaging = size_t{64} << 20;

  Device() = default;
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  bool open(uint32_t index);
  // Before the first call of another thread.
  void use();
  const DeviceInfo& info() const { return info_; }
  bool ok() const { return error_.empty(); }
  const std::string& error() const { return error_; }

  // Memory of the device, 256-byte aligned; nullptr and an error that says how much is missing.
  void* allocate(size_t bytes);
  template <class T>
  T* allocate_of(size_t count) {
    return static_cast<T*>(allocate(count * sizeof(T)));
  }
  void release(void* p);
  uint64_t allocated_bytes() const { return allocated_; }

  // Memory of the host that the device copies from and to by itself; freed with the device.
  void* pinned(size_t bytes);
  // Memory of the device that nobody has taken.
  uint64_t free_bytes();

  // In the order of the launches. copy_in's source may be reused when it returns, unless it is pinned: after wait().
  void copy_in(void* to, const void* from, size_t bytes);
  // to is pinned memory, and holds the bytes after wait().
  void copy_out(void* to, const void* from, size_t bytes);
  void fill(void* to, uint8_t value, size_t bytes);
  void wait();

  // What is launched or copied here from now on comes after all that the other device was told so far.
  void wait_for(Device* other);
  // Copies between the two go without the host's memory.
  bool reaches(const Device& other);
  // In the order of the launches of both; whatever it was that reaches() said.
  void copy_from_device(void* to, Device* other, const void* from, size_t bytes);

  // Two pinned buffers of kStaging bytes for loading: staging(i) waits until the last copy out of buffer i is done.
  uint8_t* staging(unsigned i);
  void copy_staged(void* to, unsigned i, size_t bytes);

  // shared: bytes of dynamic shared memory a block. The launch may overlap the end of the one before it (wait_before).
  template <class Args>
  void launch(void (*kernel)(Args), uint32_t grid_x, uint32_t grid_y, uint32_t threads, size_t shared, const Args& args);

  // Between these, launches are recorded, not run; nothing else may be called. The result can be replayed; -1: not recorded.
  void begin_graph();
  int end_graph();
  void replay(int graph);
  void drop_graphs();

  // Milliseconds between two marks on the device's clock (0 under emulation).
  void mark(unsigned i);
  float between(unsigned from, unsigned to);

 private:
#ifdef __CUDACC__
  bool check(int code, const char* what);
#endif

  DeviceInfo info_;
  uint32_t index_ = 0;
  std::string error_;
  uint64_t allocated_ = 0;
  std::unordered_map<void*, size_t> sizes_;
  uint8_t* staging_[2] = {nullptr, nullptr};
  std::vector<void*> pinned_;
#ifdef __CUDACC__
  cudaStream_t stream_ = nullptr;
  cudaStream_t copies_ = nullptr;
  cudaEvent_t staged_[2] = {nullptr, nullptr};
  cudaEvent_t marks_[4] = {nullptr, nullptr, nullptr, nullptr};
  cudaEvent_t told_ = nullptr;
  // Devices that were asked about, and the answer.
  std::unordered_map<uint32_t, bool> reached_;
  std::vector<cudaGraphExec_t> graphs_;
  std::unordered_map<const void*, size_t> shared_allowed_;
#else
  // Copies to the host that nobody waited for yet.
  struct Out {
    void* to;
    std::vector<uint8_t> bytes;
  };
  std::vector<Out> outs_;
  bool lies(const void* device, const void* host, size_t bytes);
  bool before_launch();
#endif
};

#ifdef __CUDACC__

template <class Args>
void Device::launch(void (*kernel)(Args), uint32_t grid_x, uint32_t grid_y, uint32_t threads, size_t shared, const Args& args) {
  if (!ok() || grid_x == 0 || grid_y == 0) return;
  const auto* key = reinterpret_cast<const void*>(kernel);
  if (shared > 48 * 1024 && shared_allowed_[key] < shared) {
    if (!check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)), "shared memory")) return;
    shared_allowed_[key] = shared;
  }
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(grid_x, grid_y);
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared;
  config.stream = stream_;
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  config.attrs = &attribute;
  config.numAttrs = info_.capability >= 90 ? 1 : 0;
  check(cudaLaunchKernelEx(&config, kernel, args), "launch");
}

#else

template <class Args>
void Device::launch(void (*kernel)(Args), uint32_t grid_x, uint32_t grid_y, uint32_t threads, size_t shared, const Args& args) {
  if (!before_launch()) return;
  struct Call {
    void (*kernel)(Args);
    const Args* args;
  } call{kernel, &args};
  run_blocks(
      grid_x, grid_y, threads, shared, [](const void* c) { static_cast<const Call*>(c)->kernel(*static_cast<const Call*>(c)->args); }, &call);
}

#endif

}  // namespace zg::simt
