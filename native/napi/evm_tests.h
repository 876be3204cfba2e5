#pragma once

#include <napi.h>

// Adds `conformance`: test fixtures in, results out (exec/conformance.h).
void register_evm_tests(Napi::Env env, Napi::Object exports);
