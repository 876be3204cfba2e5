// What the bindings of native/codec share: byte arguments, and work on libuv's pool that settles a promise.
//
// Workers read and write the caller's memory: a reference keeps it alive, writing to it meanwhile gives wrong results and nothing
// worse, and resizable memory is refused. The one thing left to the caller is not to transfer a buffer away.
#pragma once

#include <napi.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <utility>
#include <vector>

namespace zg::napi {

struct Bytes {
  uint8_t* data = nullptr;
  size_t size = 0;
};

inline Napi::Value fail(Napi::Env env, const char* message) {
  Napi::TypeError::New(env, message).ThrowAsJavaScriptException();
  return env.Undefined();
}

// A Uint8Array (or Buffer) that is attached, or false.
inline bool bytes_of(const Napi::Value& value, Bytes* out) {
  if (!value.IsTypedArray()) return false;
  if (value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) return false;
  Napi::Uint8Array array = value.As<Napi::Uint8Array>();
  if (array.ByteLength() == 0 && array.ArrayBuffer().IsDetached()) return false;
  *out = {array.Data(), array.ByteLength()};
  return true;
}

inline bool bytes_of(const Napi::Value& value, size_t size, Bytes* out) { return bytes_of(value, out) && out->size == size; }

// The same for memory that a worker uses: it must not be able to shrink.
inline bool lasting_bytes(const Napi::Value& value, Bytes* out) {
  if (!bytes_of(value, out)) return false;
  const Napi::Value buffer = value.As<Napi::Object>().Get("buffer");
  if (!buffer.IsObject()) return false;
  const Napi::Value resizable = buffer.As<Napi::Object>().Get("resizable");
  return !(resizable.IsBoolean() && resizable.As<Napi::Boolean>().Value());
}

// A whole number of 0 … most, or false.
inline bool number_of(const Napi::Value& value, size_t most, size_t* out) {
  if (!value.IsNumber()) return false;
  const double n = value.As<Napi::Number>().DoubleValue();
  if (!(n >= 0 && n <= static_cast<double>(most)) || n != static_cast<double>(static_cast<size_t>(n))) return false;
  *out = static_cast<size_t>(n);
  return true;
}

class Job final : public Napi::AsyncWorker {
 public:
  // `work` fills `out_size` bytes and gives false when there is no memory; `inputs` stay alive until the promise settles.
  Job(Napi::Env env, const Napi::Object& inputs, size_t out_size, std::function<bool(uint8_t*)> work)
      : AsyncWorker(env, "zg:codec"),
        deferred_(Napi::Promise::Deferred::New(env)),
        inputs_(Napi::Persistent(inputs)),
        work_(std::move(work)),
        out_(out_size) {}

  Napi::Promise promise() const { return deferred_.Promise(); }

 protected:
  void Execute() override {
    if (!work_(out_.data())) SetError("out of memory");
  }

  void OnOK() override {
    if (out_.empty()) {
      deferred_.Resolve(Env().Undefined());
      return;
    }
    Napi::Uint8Array out = Napi::Uint8Array::New(Env(), out_.size());
    if (Env().IsExceptionPending()) {
      deferred_.Reject(Env().GetAndClearPendingException().Value());
      return;
    }
    std::memcpy(out.Data(), out_.data(), out_.size());
    deferred_.Resolve(out);
  }

  void OnError(const Napi::Error& error) override { deferred_.Reject(error.Value()); }

 private:
  Napi::Promise::Deferred deferred_;
  Napi::ObjectReference inputs_;
  std::function<bool(uint8_t*)> work_;
  std::vector<uint8_t> out_;
};

// Queues work; the promise gives its `out_size` bytes, undefined when that is 0. The queue owns the job and deletes it.
inline Napi::Value start(const Napi::CallbackInfo& info, size_t out_size, std::function<bool(uint8_t*)> work) {
  Napi::Array inputs = Napi::Array::New(info.Env(), info.Length());
  for (uint32_t i = 0; i < info.Length(); i++) inputs.Set(i, info[i]);
  auto* job = new Job(info.Env(), inputs, out_size, std::move(work));
  const Napi::Promise promise = job->promise();
  job->Queue();
  return promise;
}

}  // namespace zg::napi
