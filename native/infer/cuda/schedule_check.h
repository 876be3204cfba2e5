#pragma once

#include "../det/det_model.h"

namespace zg::simt {

// Requests with prompts up to `longest` tokens through the scheduler, on the CPU and on the device; false, with words, when answers differ.
bool compare_schedules(const det::RandomShape& shape, uint32_t requests, uint32_t longest, unsigned threads);

}  // namespace zg::simt
