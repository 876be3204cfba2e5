// The part of codec.node that moves much data between memory and files.
#pragma once

#include <napi.h>

namespace zg {

// readCold(fd, offset, target), writeDirect(fd, direct, offset, list): see disk_napi.cpp
Napi::Value read_cold(const Napi::CallbackInfo& info);
Napi::Value write_direct(const Napi::CallbackInfo& info);

}  // namespace zg
