// Arguments and values that the bindings of native/infer share. All on the JavaScript thread.
#pragma once

#include <napi.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace zg::infer_args {

inline Napi::Value fail(Napi::Env env, const char* message) {
  Napi::TypeError::New(env, message).ThrowAsJavaScriptException();
  return env.Undefined();
}

// A whole number within bounds, or false.
inline bool number_of(const Napi::Value& value, double least, double most, double* out) {
  if (!value.IsNumber()) return false;
  const double n = value.As<Napi::Number>().DoubleValue();
  if (!(n >= least && n <= most) || n != std::floor(n)) return false;
  *out = n;
  return true;
}

// The same for a field that need not be there: *out stays as it is then.
inline bool optional_number(const Napi::Object& o, const char* name, double least, double most, double* out) {
  const Napi::Value v = o.Get(name);
  return v.IsUndefined() || number_of(v, least, most, out);
}

inline bool float_of(const Napi::Object& o, const char* name, double least, double most, float* out) {
  const Napi::Value v = o.Get(name);
  if (!v.IsNumber()) return false;
  const double n = v.As<Napi::Number>().DoubleValue();
  if (!(n >= least && n <= most)) return false;
  *out = static_cast<float>(n);
  return true;
}

// Ids below the vocabulary's size from an Int32Array, or false.
inline bool ids_of(const Napi::Value& value, uint32_t vocabulary, std::vector<uint32_t>* out) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_int32_array) return false;
  const auto array = value.As<Napi::Int32Array>();
  const int32_t* ids = array.Data();
  out->resize(array.ElementLength());
  for (size_t i = 0; i < out->size(); i++) {
    if (ids[i] < 0 || static_cast<uint32_t>(ids[i]) >= vocabulary) return false;
    (*out)[i] = static_cast<uint32_t>(ids[i]);
  }
  return true;
}

// A path that the system takes whole, or false.
inline bool path_of(const Napi::Value& value, std::string* out) {
  if (!value.IsString()) return false;
  *out = value.As<Napi::String>().Utf8Value();
  return out->find('\0') == std::string::npos;
}

// Keys and names as UTF-8; what is none becomes U+FFFD.
inline Napi::Value text_of(Napi::Env env, std::string_view bytes) { return Napi::String::New(env, bytes.data(), bytes.size()); }

}  // namespace zg::infer_args
