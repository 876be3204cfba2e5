// The tokenizer's part of infer.node: see tokenizer_napi.cpp.
#pragma once

#include <napi.h>

#include <memory>

#include "grammar.h"

// Adds `Tokenizer` to the exports.
void initTokenizer(Napi::Env env, Napi::Object exports);

// The grammar behind a value that compileGrammar gave, for a vocabulary of so many ids; nullptr when it is something else.
std::shared_ptr<zg::infer::Grammar> grammar_of(const Napi::Value& value, size_t vocabulary);
