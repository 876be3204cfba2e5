// The addon infer_cuda.node: the CUDA engine (native/infer/cuda) for the scheduler of infer.node. It has no CUDA library to load, so it
// loads on any machine and says there that it has no device. The same source around the emulated device makes an addon for tests.
//
//   devices()    {devices: [{name, memoryBytes, capability}], why?}
//   backend      an object that infer.node's open() takes as options.backend (backend.h)
#include <napi.h>

#include <string>
#include <vector>

#include "../infer/cuda/backend.h"
#include "../infer/cuda/device.h"

namespace {

using namespace zg;

const infer::BackendFactory kFactory{.open = simt::open_backend};

Napi::Value devices(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  std::string why;
  const std::vector<simt::DeviceInfo> all = simt::list_devices(&why);
  Napi::Object o = Napi::Object::New(env);
  Napi::Array list = Napi::Array::New(env);
  for (const simt::DeviceInfo& d : all) {
    Napi::Object one = Napi::Object::New(env);
    one.Set("name", d.name);
    one.Set("memoryBytes", static_cast<double>(d.memory_bytes));
    one.Set("capability", std::to_string(d.capability / 10) + "." + std::to_string(d.capability % 10));
    list.Set(list.Length(), one);
  }
  o.Set("devices", list);
  if (all.empty()) o.Set("why", why);
  return o;
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  exports.Set("devices", Napi::Function::New(env, devices));
  Napi::Object backend = Napi::Object::New(env);
  const napi_type_tag tag{infer::kBackendTag[0], infer::kBackendTag[1]};
  // Nothing to free: the factory is this file's own.
  const auto none = [](napi_env, void*, void*) {};
  if (napi_wrap(env, backend, const_cast<infer::BackendFactory*>(&kFactory), none, nullptr, nullptr) != napi_ok ||
      napi_type_tag_object(env, backend, &tag) != napi_ok) {
    Napi::Error::New(env, "the back end cannot be handed out").ThrowAsJavaScriptException();
    return exports;
  }
  exports.Set("backend", backend);
  return exports;
}

}  // namespace

NODE_API_MODULE(infer_cuda, init)
