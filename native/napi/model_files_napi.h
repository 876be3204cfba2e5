#pragma once

#include <napi.h>

// Adds what reads and makes model files, without running them: describe, quantize, quantizeFile, recipes.
void initModelFiles(Napi::Env env, Napi::Object exports);
