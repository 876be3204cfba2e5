// The tokenizer's part of infer.node: see tokenizer_napi.cpp.
#pragma once

#include <napi.h>

// Adds `Tokenizer` to the exports.
void initTokenizer(Napi::Env env, Napi::Object exports);
