#include "heap_host.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

namespace zg::simt {
namespace {

constexpr size_t kStretch = size_t{4} << 30;
constexpr size_t kPageBytes = 4096;
constexpr uint64_t kFreeBytes = uint64_t{256} << 20;
// Behind each piece, to see writes beyond its end.
constexpr size_t kGap = 256;
constexpr uint8_t kGapByte = 0x5A;

Heap heaps[kEmulatedMost];
uint32_t reserved = 0;
uint32_t working = 0;
struct sigaction before;

[[noreturn]] void die(const char* message) {
  fprintf(stderr, "emulated device: %s\n", message);
  abort();
}

// Faults of other addresses go to whoever had them.
void on_fault(int, siginfo_t* info, void*) {
  if (Heap::any_holds(info->si_addr, 1)) {
    constexpr char kMessage[] = "emulated device: a pointer of another device was used\n";
    [[maybe_unused]] const ssize_t n = write(2, kMessage, sizeof kMessage - 1);
    signal(SIGABRT, SIG_DFL);
    abort();
  }
  sigaction(SIGSEGV, &before, nullptr);
}

}  // namespace

uint32_t emulated_devices() {
  const char* count = getenv("ZG_EMULATED_DEVICES");
  const unsigned long n = count == nullptr ? 1 : strtoul(count, nullptr, 10);
  return n < 1 ? 1 : n > kEmulatedMost ? kEmulatedMost : static_cast<uint32_t>(n);
}

Heap& Heap::of(uint32_t device) {
  Heap& h = heaps[device];
  h.index_ = device;
  return h;
}

bool Heap::reserve() {
  if (base_ != nullptr) return true;
  void* p = mmap(nullptr, kStretch, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) return false;
  base_ = static_cast<uint8_t*>(p);
  if (++reserved == 2) {
    struct sigaction action {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &action, &before);
  }
  return true;
}

void Heap::enter() {
  if (open_ && working == index_) return;
  Heap& last = heaps[working];
  if (last.open_ && last.reach_ > 0) mprotect(last.base_, last.reach_, PROT_NONE);
  last.open_ = false;
  working = index_;
  open_ = true;
  if (reach_ > 0 && mprotect(base_, reach_, PROT_READ | PROT_WRITE) != 0) die("memory cannot be opened");
}

bool Heap::bound(uint64_t* bytes) const {
  const char* at = getenv("ZG_EMULATED_BYTES");
  if (at == nullptr) return false;
  const bool list = strchr(at, ',') != nullptr;
  for (uint32_t i = 0; list && i < index_; i++) {
    at = strchr(at, ',');
    if (at == nullptr) return false;
    at++;
  }
  if (*at < '0' || *at > '9') return false;
  *bytes = strtoull(at, nullptr, 10);
  return true;
}

uint64_t Heap::free_bytes() const {
  uint64_t most = 0;
  if (!bound(&most)) return kFreeBytes;
  return most > used_ ? most - used_ : 0;
}

void* Heap::allocate(size_t bytes) {
  uint64_t most = 0;
  if (bound(&most) && used_ + bytes > most) return nullptr;
  if (bytes > kStretch || !reserve()) return nullptr;
  enter();
  const size_t length = (bytes + kGap + 255) / 256 * 256;
  size_t at = 0;
  for (const auto& [begin, size] : taken_) {
    if (begin - at >= length) break;
    at = begin + size;
  }
  if (at + length > kStretch) return nullptr;
  const size_t reach = (at + length + kPageBytes - 1) / kPageBytes * kPageBytes;
  if (reach > reach_) {
    if (mprotect(base_, reach, PROT_READ | PROT_WRITE) != 0) return nullptr;
    reach_ = reach;
  }
  taken_[at] = length;
  asked_[at] = bytes;
  used_ += bytes;
  // Reading what was never written shows.
  memset(base_ + at, 0xA5, bytes);
  memset(base_ + at + bytes, kGapByte, length - bytes);
  return base_ + at;
}

void Heap::release(void* p) {
  enter();
  const auto at = static_cast<size_t>(static_cast<uint8_t*>(p) - base_);
  const auto piece = taken_.find(at);
  if (piece == taken_.end()) die("memory that was never taken, or of another device, is given back");
  const size_t bytes = asked_[at];
  for (size_t i = at + bytes; i < at + piece->second; i++) {
    if (base_[i] != kGapByte) die("something was written beyond the end of a piece of memory");
  }
  used_ -= bytes;
  taken_.erase(piece);
  asked_.erase(at);
  if (taken_.empty()) madvise(base_, reach_, MADV_DONTNEED);
}

bool Heap::holds(const void* p, size_t bytes) const {
  const auto* at = static_cast<const uint8_t*>(p);
  return base_ != nullptr && at >= base_ && at < base_ + kStretch && bytes <= static_cast<size_t>(base_ + kStretch - at);
}

bool Heap::any_holds(const void* p, size_t bytes) {
  const auto begin = reinterpret_cast<uintptr_t>(p);
  for (const Heap& h : heaps) {
    const auto base = reinterpret_cast<uintptr_t>(h.base_);
    if (h.base_ != nullptr && begin + bytes > base && begin < base + kStretch) return true;
  }
  return false;
}

bool Heap::launch_fails() {
  const char* wanted = getenv("ZG_EMULATED_FAIL");
  char* end = nullptr;
  if (wanted == nullptr || strtoul(wanted, &end, 10) != index_ || *end != ':') return launches_ = 0, false;
  return ++launches_ > strtoull(end + 1, nullptr, 10);
}

}  // namespace zg::simt
