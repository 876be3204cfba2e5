// The emulated device: the process's own memory, launches at once.
#include "device.h"

namespace zg::simt {

std::vector<DeviceInfo> list_devices(std::string*) { return {{"emulation", 0, 3, 0, 227 * 1024}}; }

bool Device::open(uint32_t) {
  info_ = list_devices(nullptr)[0];
  return true;
}

Device::~Device() {
  for (const auto& entry : sizes_) free(entry.first);
  for (void* p : pinned_) free(p);
  for (uint8_t* p : staging_) free(p);
}

void* Device::allocate(size_t bytes) {
  // A small device for tests, whenever they want one.
  const char* most = getenv("ZG_EMULATED_BYTES");
  if (most != nullptr && allocated_ + bytes > strtoull(most, nullptr, 10)) error_ = "the emulated device is full";
  if (!ok()) return nullptr;
  void* p = aligned_alloc(256, (bytes + 255) / 256 * 256);
  if (p == nullptr) {
    error_ = "out of memory";
    return nullptr;
  }
  // Reading what was never written shows.
  memset(p, 0xA5, bytes);
  sizes_[p] = bytes;
  allocated_ += bytes;
  return p;
}

void Device::release(void* p) {
  if (p == nullptr) return;
  allocated_ -= sizes_[p];
  sizes_.erase(p);
  free(p);
}

void* Device::pinned(size_t bytes) {
  if (!ok()) return nullptr;
  pinned_.push_back(malloc(bytes));
  return pinned_.back();
}
uint64_t Device::free_bytes() { return uint64_t{256} << 20; }
void Device::use() {}

void Device::copy_in(void* to, const void* from, size_t bytes) {
  if (ok() && bytes > 0) memcpy(to, from, bytes);
}
void Device::copy_out(void* to, const void* from, size_t bytes) {
  if (ok() && bytes > 0) memcpy(to, from, bytes);
}
void Device::fill(void* to, uint8_t value, size_t bytes) {
  if (ok()) memset(to, value, bytes);
}
void Device::wait() {}

uint8_t* Device::staging(unsigned i) {
  if (!ok()) return nullptr;
  if (staging_[i] == nullptr) staging_[i] = static_cast<uint8_t*>(malloc(kStaging));
  return staging_[i];
}
void Device::copy_staged(void* to, unsigned i, size_t bytes) { memcpy(to, staging_[i], bytes); }

void Device::begin_graph() {}
int Device::end_graph() { return -1; }
void Device::replay(int) {}
void Device::drop_graphs() {}
void Device::mark(unsigned) {}
float Device::between(unsigned, unsigned) { return 0; }
bool Device::check(int, const char*) { return true; }

}  // namespace zg::simt
