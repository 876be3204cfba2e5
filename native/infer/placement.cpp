#include "placement.h"

#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#endif

namespace zg::infer {

#if defined(__linux__) && defined(SYS_set_mempolicy)
namespace {
// linux/mempolicy.h; the C library has no wrapper without libnuma.
constexpr int kMpolDefault = 0;
constexpr int kMpolBind = 2;
constexpr int kMpolInterleave = 3;
constexpr size_t kNodes = 1'024;
constexpr size_t kWordBits = 8 * sizeof(unsigned long);
}  // namespace

bool place(const Placement& placement, std::string* why) {
  unsigned long mask[kNodes / kWordBits] = {};
  int mode = kMpolDefault;
  if (placement.mode != Placement::Mode::kDefault) {
    mode = placement.mode == Placement::Mode::kInterleave ? kMpolInterleave : kMpolBind;
    for (const uint32_t node : placement.nodes) {
      if (node >= kNodes) {
        *why = "a memory node's number is too large";
        return false;
      }
      mask[node / kWordBits] |= 1UL << (node % kWordBits);
    }
  }
  // The kernel takes one bit less than it is told.
  if (syscall(SYS_set_mempolicy, mode, mode == kMpolDefault ? nullptr : mask, mode == kMpolDefault ? 0 : kNodes + 1) == 0) return true;
  *why = errno == ENOSYS ? "this kernel knows no memory nodes" : std::string("the memory nodes were refused: ") + std::strerror(errno);
  return false;
}
#else
bool place(const Placement& placement, std::string* why) {
  if (placement.mode == Placement::Mode::kDefault) return true;
  *why = "memory nodes can be chosen on Linux alone";
  return false;
}
#endif

}  // namespace zg::infer
