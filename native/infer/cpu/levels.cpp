// Which level of CPU this machine has; asked once.
#include <cstring>

#if defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include "engine.h"

namespace zg::cpu {
namespace {

struct List {
  const ZgLevel* items[4] = {};
  size_t count = 0;

  List() noexcept {
    items[count++] = &zg_level_generic;
#if defined(__x86_64__)
    // These also ask the operating system (XGETBV) whether it saves the wide registers.
    __builtin_cpu_init();
    // A level file that was compiled without its flags is empty.
    if (zg_level_avx2.product != nullptr && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")) {
      items[count++] = &zg_level_avx2;
      if (zg_level_avx512.product != nullptr && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni")) {
        items[count++] = &zg_level_avx512;
      }
    }
#elif defined(__aarch64__)
    if (zg_level_neon.product != nullptr && has_dot_products()) items[count++] = &zg_level_neon;
#endif
  }

#if defined(__aarch64__)
  static bool has_dot_products() noexcept {
#if defined(__linux__)
    return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#else
    // All of Apple's have them.
    return true;
#endif
  }
#endif
};

const List& list() noexcept {
  static const List l;
  return l;
}

}  // namespace

const ZgLevel* const* available_levels() noexcept { return list().items; }

const ZgLevel* level_by_name(const char* name) noexcept {
  const List& l = list();
  if (name == nullptr || *name == '\0') return l.items[l.count - 1];
  for (size_t i = 0; i < l.count; i++) {
    if (std::strcmp(l.items[i]->name, name) == 0) return l.items[i];
  }
  return nullptr;
}

}  // namespace zg::cpu
