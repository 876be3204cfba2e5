// Options of open() that say where a model's layers are to lie (native/infer/backend.h).
#pragma once

#include <napi.h>

#include "backend.h"
#include "infer_args.h"

namespace zg::infer_args {

// Highest index of a device, and most of them for one model.
constexpr uint32_t kMaxDevice = 64;
// The largest share of a device.
constexpr uint32_t kMaxShare = 1'000'000;

// Where a model is to lie: devices by index, how many layers one gets beside the others, layers on devices, free memory for the rest.
inline const char* places_of(const Napi::Object& options, infer::BackendOptions* out) {
  if (options.Has("devices") && (!ids_of(options.Get("devices"), kMaxDevice + 1, &out->devices) || out->devices.empty() || out->devices.size() > kMaxDevice)) {
    return "open: devices are an Int32Array of indexes";
  }
  if (options.Has("shares") && (!ids_of(options.Get("shares"), kMaxShare + 1, &out->shares) || out->shares.size() != out->devices.size())) {
    return "open: shares are as many numbers as there are devices";
  }
  double layers = 0;
  double host = 0;
  if (!optional_number(options, "deviceLayers", 0, UINT32_MAX, &layers)) return "open: deviceLayers is a whole number";
  if (!optional_number(options, "hostBytes", 0, 9007199254740991.0, &host)) return "open: hostBytes is a whole number";
  out->device_layers = static_cast<uint32_t>(layers);
  out->host_bytes = static_cast<uint64_t>(host);
  return nullptr;
}

}  // namespace zg::infer_args
