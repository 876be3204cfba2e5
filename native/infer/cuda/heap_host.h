// Memory of the emulated devices: a stretch of addresses for each, of which only that of the device that works can be touched. A kernel
// or a copy that is given a pointer of another device ends the process with a message, as unified addresses would not. Not thread-safe.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <map>

namespace zg::simt {

// Devices that can be emulated; ZG_EMULATED_DEVICES of them are there (1 unless set).
constexpr uint32_t kEmulatedMost = 8;
uint32_t emulated_devices();

class Heap {
 public:
  static Heap& of(uint32_t device);

  // This device's memory can be touched from now on, the others' cannot.
  void enter();
  // 256-byte aligned, filled with 0xA5; nullptr when the device is full: beyond ZG_EMULATED_BYTES (a number for all devices, or one for
  // each between commas, empty: no bound), or beyond the stretch.
  void* allocate(size_t bytes);
  // Ends the process when somebody wrote behind the piece.
  void release(void* p);
  // What is free of ZG_EMULATED_BYTES, else 256 MiB whatever is taken.
  uint64_t free_bytes() const;
  // All of it is this device's.
  bool holds(const void* p, size_t bytes) const;
  // A byte of it is some device's.
  static bool any_holds(const void* p, size_t bytes);
  // ZG_EMULATED_FAIL=DEVICE:LAUNCHES: whether this launch (counted from when it was set) is one too many.
  bool launch_fails();

 private:
  bool reserve();
  bool bound(uint64_t* bytes) const;

  uint32_t index_ = 0;
  uint8_t* base_ = nullptr;
  // Beginnings and lengths of what is taken, gaps included; how far addresses were ever used; bytes asked for.
  std::map<size_t, size_t> taken_;
  std::map<size_t, size_t> asked_;
  size_t reach_ = 0;
  uint64_t used_ = 0;
  uint64_t launches_ = 0;
  bool open_ = false;
};

}  // namespace zg::simt
