// What infer.node tells of GGUF files: see gguf_napi.cpp.
#pragma once

#include <napi.h>

// Adds `readGguf`, `check` and `dequantize` to the exports.
void initGguf(Napi::Env env, Napi::Object exports);
