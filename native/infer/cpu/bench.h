// Timings of the CPU engine on one model file, and of what the machine gives in the same process (bench/infer.ts runs it).
#pragma once

#include <cstdint>

namespace zg::cpu {

// Prints one line of JSON; rates are tokens a second, medians: prefill of `prompt` tokens; decode of one sequence as the engine shares it
// between the threads, all by one (`alone`), all shared (`shared`), in turns; eight sequences; what a trace adds to a step, as a part of it;
// an answer's making over its checking; speeds over those of the same kernels free of the deterministic order (brief: left out). Then bytes a second read and operations a second on bytes, by these threads and by one.
// 0 on success.
int bench(const char* path, unsigned threads, uint32_t prompt, uint32_t decoded, bool brief);

}  // namespace zg::cpu
