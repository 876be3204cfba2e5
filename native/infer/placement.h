// On which memory nodes (NUMA) what the calling thread touches first comes to lie. Linux alone; elsewhere nothing can be asked for.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace zg::infer {

struct Placement {
  enum class Mode : uint8_t { kDefault, kInterleave, kBind };
  Mode mode = Mode::kDefault;
  // Numbers as the system counts nodes, each below 1,024.
  std::vector<uint32_t> nodes{};
};

// For the calling thread, and threads that it starts from now on: pages in turns over the nodes, or on them alone. False with the reason
// when the system refuses; what was so before stays.
bool place(const Placement& placement, std::string* why);

// Places until it ends; then the thread has the system's default again.
class Placed {
 public:
  Placed(const Placement& placement, std::string* why) : changed_(placement.mode != Placement::Mode::kDefault), ok_(place(placement, why)) {}
  ~Placed() {
    std::string why;
    if (changed_) place({}, &why);
  }
  Placed(const Placed&) = delete;
  Placed& operator=(const Placed&) = delete;
  bool ok() const { return ok_; }

 private:
  bool changed_;
  bool ok_;
};

}  // namespace zg::infer
