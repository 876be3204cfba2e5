#include "kernels.h"

#include <cstring>

namespace zg::infer {
namespace {

struct List {
  const Kernels* items[4] = {};
  size_t count = 0;

  List() noexcept {
    items[count++] = &kScalar;
#if defined(__x86_64__)
    // These also ask the operating system (XGETBV) whether it saves the wide registers.
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")) {
      items[count++] = &kAvx2;
      if (__builtin_cpu_supports("avx512f")) items[count++] = &kAvx512;
    }
#endif
  }
};

const List& list() noexcept {
  static const List l;
  return l;
}

}  // namespace

const Kernels* const* available_kernels() noexcept { return list().items; }

const Kernels* kernels_by_name(const char* name) noexcept {
  const List& l = list();
  if (name == nullptr || *name == '\0') return l.items[l.count - 1];
  for (size_t i = 0; i < l.count; i++) {
    if (std::strcmp(l.items[i]->name, name) == 0) return l.items[i];
  }
  return nullptr;
}

}  // namespace zg::infer
