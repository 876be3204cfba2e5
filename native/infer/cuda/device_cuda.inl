// The CUDA device. The runtime API alone: a direct use of a driver symbol would need libcuda.so at load.
#include "device.h"

namespace zg::simt {

std::vector<DeviceInfo> list_devices(std::string* why) {
  int count = 0;
  const cudaError_t code = cudaGetDeviceCount(&count);
  if (code != cudaSuccess) {
    *why = cudaGetErrorString(code);
    cudaGetLastError();
    return {};
  }
  std::vector<DeviceInfo> out;
  for (int i = 0; i < count; i++) {
    cudaDeviceProp p;
    if (cudaGetDeviceProperties(&p, i) != cudaSuccess) continue;
    out.push_back({p.name, p.totalGlobalMem, static_cast<uint32_t>(p.multiProcessorCount), static_cast<uint32_t>(p.major * 10 + p.minor),
                   static_cast<uint32_t>(p.sharedMemPerBlockOptin)});
  }
  if (out.empty()) *why = "no device";
  return out;
}

bool device_memory(uint32_t index, uint64_t* free, uint64_t* total, std::string* why) {
  size_t left = 0;
  size_t all = 0;
  cudaError_t code = cudaSetDevice(static_cast<int>(index));
  if (code == cudaSuccess) code = cudaMemGetInfo(&left, &all);
  if (code != cudaSuccess) {
    *why = "CUDA device " + std::to_string(index) + ": " + cudaGetErrorString(code);
    cudaGetLastError();
    return false;
  }
  *free = left;
  *total = all;
  return true;
}

bool Device::check(int code, const char* what) {
  if (code == cudaSuccess) return true;
  if (error_.empty()) error_ = std::string("CUDA, ") + what + ": " + cudaGetErrorString(static_cast<cudaError_t>(code));
  return false;
}

bool Device::open(uint32_t index) {
  std::string why;
  const std::vector<DeviceInfo> all = list_devices(&why);
  if (index >= all.size()) {
    error_ = "no CUDA device " + std::to_string(index) + (why.empty() ? "" : ": " + why);
    return false;
  }
  info_ = all[index];
  if (info_.capability < 80) {
    error_ = info_.name + ": compute capability " + std::to_string(info_.capability / 10) + "." + std::to_string(info_.capability % 10) +
             ", 8.0 is the least";
    return false;
  }
  index_ = index;
  use();
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream");
  check(cudaStreamCreateWithFlags(&copies_, cudaStreamNonBlocking), "stream");
  for (cudaEvent_t& e : staged_) check(cudaEventCreateWithFlags(&e, cudaEventDisableTiming), "event");
  for (cudaEvent_t& e : marks_) check(cudaEventCreate(&e), "event");
  check(cudaEventCreateWithFlags(&told_, cudaEventDisableTiming), "event");
  return ok();
}

Device::~Device() {
  if (stream_ != nullptr) {
    // Perhaps on a thread that has used another device.
    cudaSetDevice(static_cast<int>(index_));
    cudaStreamSynchronize(stream_);
  }
  drop_graphs();
  for (const auto& entry : sizes_) cudaFree(entry.first);
  for (void* p : pinned_) cudaFreeHost(p);
  for (uint8_t* p : staging_) {
    if (p != nullptr) cudaFreeHost(p);
  }
  for (cudaEvent_t e : staged_) {
    if (e != nullptr) cudaEventDestroy(e);
  }
  for (cudaEvent_t e : marks_) {
    if (e != nullptr) cudaEventDestroy(e);
  }
  if (told_ != nullptr) cudaEventDestroy(told_);
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
  if (copies_ != nullptr) cudaStreamDestroy(copies_);
}

void* Device::allocate(size_t bytes) {
  if (!ok()) return nullptr;
  void* p = nullptr;
  if (cudaMalloc(&p, bytes) != cudaSuccess) {
    cudaGetLastError();
    size_t left = 0;
    size_t total = 0;
    cudaMemGetInfo(&left, &total);
    error_ = "the device has no memory for " + std::to_string(bytes >> 20) + " MiB more: " + std::to_string(left >> 20) + " of " +
             std::to_string(total >> 20) + " MiB are free, " + std::to_string((bytes - (bytes < left ? bytes : left)) >> 20) + " MiB are missing";
    return nullptr;
  }
  sizes_[p] = bytes;
  allocated_ += bytes;
  return p;
}

void Device::release(void* p) {
  if (p == nullptr) return;
  allocated_ -= sizes_[p];
  sizes_.erase(p);
  check(cudaStreamSynchronize(stream_), "wait");
  cudaFree(p);
}

void Device::use() {
  if (ok()) check(cudaSetDevice(static_cast<int>(index_)), "choosing the device");
}

void Device::copy_in(void* to, const void* from, size_t bytes) {
  if (ok() && bytes > 0) check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_), "copy to the device");
}
void Device::copy_out(void* to, const void* from, size_t bytes) {
  if (ok() && bytes > 0) check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_), "copy from the device");
}
void* Device::pinned(size_t bytes) {
  void* p = nullptr;
  if (!ok() || !check(cudaMallocHost(&p, bytes), "pinned memory")) return nullptr;
  pinned_.push_back(p);
  return p;
}
uint64_t Device::free_bytes() {
  size_t left = 0;
  size_t total = 0;
  if (ok()) check(cudaMemGetInfo(&left, &total), "memory");
  return left;
}
void Device::fill(void* to, uint8_t value, size_t bytes) {
  if (ok()) check(cudaMemsetAsync(to, value, bytes, stream_), "fill");
}
void Device::wait() {
  if (ok()) check(cudaStreamSynchronize(stream_), "step");
}

void Device::wait_for(Device* other) {
  if (!ok()) return;
  if (!other->ok()) {
    error_ = other->error();
    return;
  }
  // An event belongs to its stream's device, which need not be the current one; a stream of any device may wait for it.
  if (check(cudaEventRecord(other->told_, other->stream_), "event")) check(cudaStreamWaitEvent(stream_, other->told_, 0), "event");
}
bool Device::reaches(const Device& other) {
  if (index_ == other.index_) return true;
  const auto known = reached_.find(other.index_);
  if (known != reached_.end()) return known->second;
  int can = 0;
  use();
  if (cudaDeviceCanAccessPeer(&can, static_cast<int>(index_), static_cast<int>(other.index_)) != cudaSuccess) can = 0;
  if (can != 0) {
    const cudaError_t code = cudaDeviceEnablePeerAccess(static_cast<int>(other.index_), 0);
    can = code == cudaSuccess || code == cudaErrorPeerAccessAlreadyEnabled ? 1 : 0;
  }
  // A no is no fault: copies take the way over the host.
  cudaGetLastError();
  return reached_[other.index_] = can != 0;
}
void Device::copy_from_device(void* to, Device* other, const void* from, size_t bytes) {
  wait_for(other);
  if (!ok() || bytes == 0) return;
  check(cudaMemcpyPeerAsync(to, static_cast<int>(index_), from, static_cast<int>(other->index_), bytes, stream_), "copy between devices");
}

uint8_t* Device::staging(unsigned i) {
  if (!ok()) return nullptr;
  if (staging_[i] == nullptr) {
    if (!check(cudaMallocHost(reinterpret_cast<void**>(&staging_[i]), kStaging), "pinned memory")) return nullptr;
  } else {
    check(cudaEventSynchronize(staged_[i]), "copy to the device");
  }
  return staging_[i];
}
void Device::copy_staged(void* to, unsigned i, size_t bytes) {
  if (!ok()) return;
  check(cudaMemcpyAsync(to, staging_[i], bytes, cudaMemcpyHostToDevice, copies_), "copy to the device");
  check(cudaEventRecord(staged_[i], copies_), "event");
  // Launches come after what they read.
  check(cudaStreamWaitEvent(stream_, staged_[i], 0), "event");
}

void Device::begin_graph() {
  if (ok()) check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "graph");
}
int Device::end_graph() {
  cudaGraph_t graph = nullptr;
  if (!check(cudaStreamEndCapture(stream_, &graph), "graph") || !ok()) return -1;
  cudaGraphExec_t exec = nullptr;
  const bool made = check(cudaGraphInstantiate(&exec, graph, 0), "graph");
  cudaGraphDestroy(graph);
  if (!made) return -1;
  graphs_.push_back(exec);
  return static_cast<int>(graphs_.size()) - 1;
}
void Device::replay(int graph) {
  if (ok()) check(cudaGraphLaunch(graphs_[static_cast<size_t>(graph)], stream_), "graph");
}
void Device::drop_graphs() {
  for (cudaGraphExec_t g : graphs_) cudaGraphExecDestroy(g);
  graphs_.clear();
}

void Device::mark(unsigned i) {
  if (ok()) check(cudaEventRecord(marks_[i], stream_), "event");
}
float Device::between(unsigned from, unsigned to) {
  float ms = 0;
  wait();
  if (ok()) check(cudaEventElapsedTime(&ms, marks_[from], marks_[to]), "event");
  return ms;
}

}  // namespace zg::simt
