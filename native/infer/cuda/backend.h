// The CUDA engine as the scheduler's back end (native/infer/backend.h).
#pragma once

#include "../backend.h"

namespace zg::simt {

// nullptr with the reason in error: no device, a model that does not fit.
std::unique_ptr<infer::Backend> open_backend(std::shared_ptr<const det::Model> model, const infer::BackendOptions& options, std::string* error);

}  // namespace zg::simt
