// Emulated devices: stretches of the process's own memory (heap_host.h), launches at once. What a copy brings to the host is seen when
// somebody waited for the device, so that a missing wait shows.
#include "device.h"
#include "heap_host.h"

namespace zg::simt {

std::vector<DeviceInfo> list_devices(std::string*) {
  return std::vector<DeviceInfo>(emulated_devices(), DeviceInfo{"emulation", 0, 3, 0, 227 * 1024});
}

bool device_memory(uint32_t index, uint64_t* free, uint64_t* total, std::string* why) {
  if (index >= emulated_devices()) return *why = "no emulated device " + std::to_string(index), false;
  *free = *total = Heap::of(index).free_bytes();
  return true;
}

bool Device::open(uint32_t index) {
  if (index >= emulated_devices()) {
    error_ = "no emulated device " + std::to_string(index);
    return false;
  }
  index_ = index;
  info_ = list_devices(nullptr)[0];
  return true;
}

Device::~Device() {
  for (const auto& entry : sizes_) Heap::of(index_).release(entry.first);
  for (void* p : pinned_) ::free(p);
  for (uint8_t* p : staging_) ::free(p);
}

void* Device::allocate(size_t bytes) {
  if (!ok()) return nullptr;
  void* p = Heap::of(index_).allocate(bytes);
  if (p == nullptr) {
    error_ = "the emulated device is full";
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
  Heap::of(index_).release(p);
}

void* Device::pinned(size_t bytes) {
  if (!ok()) return nullptr;
  pinned_.push_back(malloc(bytes));
  if (pinned_.back() != nullptr) memset(pinned_.back(), 0xA5, bytes);
  return pinned_.back();
}
uint64_t Device::free_bytes() { return Heap::of(index_).free_bytes(); }
void Device::use() {}

// A copy from host to device or back: each address must be of the side that it is said to be of.
bool Device::lies(const void* device, const void* host, size_t bytes) {
  if (!ok() || bytes == 0) return false;
  if (!Heap::of(index_).holds(device, bytes)) {
    error_ = "a copy with an address that is not of this device";
  } else if (Heap::any_holds(host, bytes)) {
    error_ = "a copy whose host side is a device's memory";
  }
  Heap::of(index_).enter();
  return ok();
}

void Device::copy_in(void* to, const void* from, size_t bytes) {
  if (lies(to, from, bytes)) memcpy(to, from, bytes);
}
void Device::copy_out(void* to, const void* from, size_t bytes) {
  if (!lies(from, to, bytes)) return;
  const auto* begin = static_cast<const uint8_t*>(from);
  outs_.push_back({to, std::vector<uint8_t>(begin, begin + bytes)});
}
void Device::fill(void* to, uint8_t value, size_t bytes) {
  if (lies(to, nullptr, bytes)) memset(to, value, bytes);
}
void Device::wait() {
  for (const Out& o : outs_) memcpy(o.to, o.bytes.data(), o.bytes.size());
  outs_.clear();
}

void Device::wait_for(Device* other) {
  other->wait();
  if (ok() && !other->ok()) error_ = other->error();
}
bool Device::reaches(const Device& other) {
  const char* peers = getenv("ZG_EMULATED_PEERS");
  return index_ == other.index_ || (peers != nullptr && *peers == '1');
}
void Device::copy_from_device(void* to, Device* other, const void* from, size_t bytes) {
  wait_for(other);
  if (!lies(to, nullptr, bytes)) return;
  if (!Heap::of(other->index_).holds(from, bytes)) {
    error_ = "a copy from an address that is not of the other device";
    return;
  }
  Heap::of(other->index_).enter();
  const auto* begin = static_cast<const uint8_t*>(from);
  const std::vector<uint8_t> between(begin, begin + bytes);
  Heap::of(index_).enter();
  memcpy(to, between.data(), bytes);
}

uint8_t* Device::staging(unsigned i) {
  if (!ok()) return nullptr;
  if (staging_[i] == nullptr) staging_[i] = static_cast<uint8_t*>(malloc(kStaging));
  return staging_[i];
}
void Device::copy_staged(void* to, unsigned i, size_t bytes) { copy_in(to, staging_[i], bytes); }

bool Device::before_launch() {
  if (ok() && Heap::of(index_).launch_fails()) error_ = "the emulated device failed";
  if (ok()) Heap::of(index_).enter();
  return ok();
}
void Device::begin_graph() {}
int Device::end_graph() { return -1; }
void Device::replay(int) {}
void Device::drop_graphs() {}
void Device::mark(unsigned) {}
float Device::between(unsigned, unsigned) {
  wait();
  return 0;
}

}  // namespace zg::simt
