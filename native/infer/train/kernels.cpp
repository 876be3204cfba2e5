// Chooses the level once, by asking the processor; ZG_CPU=generic|avx2|avx512 forces one.
#include "kernels.h"

#include <cstdlib>

namespace zg::train {

std::vector<std::string> available_levels() {
  std::vector<std::string> levels{"generic"};
#ifdef __x86_64__
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    levels.push_back("avx2");
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl")) {
      levels.push_back("avx512");
    }
  }
#endif
  return levels;
}

bool has_bf16() {
#ifdef __x86_64__
  __builtin_cpu_init();
  return available_levels().back() == "avx512" && __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

template <class T>
const Kernels<T>* kernels_for(const std::string& level) {
  const std::vector<std::string> levels = available_levels();
  std::string name = level;
  if (name.empty()) {
    const char* forced = std::getenv("ZG_CPU");
    name = forced != nullptr && *forced != '\0' ? forced : levels.back();
  }
  if (name == "bf16") return has_bf16() ? &kernels_bf16<T>() : nullptr;
  for (const std::string& one : levels) {
    if (one != name) continue;
    if (name == "avx512") return &kernels_avx512<T>();
    if (name == "avx2") return &kernels_avx2<T>();
    return &kernels_generic<T>();
  }
  return nullptr;
}

template const Kernels<float>* kernels_for<float>(const std::string&);
template const Kernels<double>* kernels_for<double>(const std::string&);

}  // namespace zg::train
