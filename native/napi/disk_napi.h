// The part of codec.node that writes large groups to files.
#pragma once

#include <napi.h>

namespace zg {

// writeDirect(fd, direct, offset, list)   see disk_napi.cpp
Napi::Value write_direct(const Napi::CallbackInfo& info);

}  // namespace zg
