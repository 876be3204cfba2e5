// Makes the mistakes that the emulation of several devices is to find: each must end the process with a message, or be an error.
//
//   mix_up kernel|copy-in|copy-out|host|peer|overrun|no-wait
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vector>

#include "device.h"
#include "small.h"

namespace zg::simt {
namespace {

// 0: found.
int mix_up(const char* what) {
  setenv("ZG_EMULATED_DEVICES", "2", 1);
  Device a, b;
  if (!a.open(0) || !b.open(1)) return 2;
  float* first = a.allocate_of<float>(256);
  float* second = b.allocate_of<float>(256);
  a.fill(first, 0, 1024);
  b.fill(second, 0, 1024);
  std::vector<float> host(256);
  auto* pinned = static_cast<float*>(b.pinned(1024));
  if (strcmp(what, "kernel") == 0) {
    // y is the other device's. Ends the process.
    b.launch(add_rows, 1, 1, 256, 0, PairArgs{second, first, second, 256, nullptr, 0, false});
  } else if (strcmp(what, "copy-in") == 0) {
    b.copy_in(first, host.data(), 1024);
  } else if (strcmp(what, "copy-out") == 0) {
    b.copy_out(pinned, first, 1024);
  } else if (strcmp(what, "host") == 0) {
    b.copy_in(second, first, 1024);
  } else if (strcmp(what, "peer") == 0) {
    b.copy_from_device(second, &a, second, 1024);
  } else if (strcmp(what, "overrun") == 0) {
    // Ends the process when it is given back.
    b.launch(add_rows, 1, 1, 257, 0, PairArgs{second, second, second, 257, nullptr, 0, false});
    b.release(second);
  } else if (strcmp(what, "no-wait") == 0) {
    b.copy_out(pinned, second, 1024);
    if (pinned[0] != 0) printf("not there before it was waited for\n");
    b.wait();
    return pinned[0] == 0 ? 0 : 1;
  } else {
    return 2;
  }
  printf("%s\n", b.error().c_str());
  return b.ok() ? 1 : 0;
}

}  // namespace
}  // namespace zg::simt

int main(int count, char** arguments) { return count == 2 ? zg::simt::mix_up(arguments[1]) : 2; }
