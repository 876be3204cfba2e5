// Binding of the GGUF reader: checks arguments, calls, returns. lib/infer/native.ts is its only caller.
//
//   readGguf(path)                  the whole metadata and the list of tensors (for people and tests), in a promise
//   check(bytes, asModel)           why a file of these bytes is refused as GGUF, or as a model; undefined when it is not (tests)
//   dequantize(typeId, bytes)       Float32Array of whole blocks
#include "gguf_napi.h"

#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "det/det_model.h"
#include "gguf.h"
#include "infer_args.h"
#include "promise_worker.h"
#include "tensor_type.h"

namespace {

namespace gguf = zg::gguf;
using namespace zg::infer_args;
using zg::det::Model;

constexpr size_t kMaxBlockBytes = size_t{1} << 20;

Napi::Value value_of(Napi::Env env, gguf::ValueType type, const uint8_t** at);

// An array's elements, whose head was read. *at moves behind them.
Napi::Value elements_of(Napi::Env env, gguf::ValueType element, uint64_t count, const uint8_t** at) {
  Napi::Array out = Napi::Array::New(env, count);
  for (uint32_t i = 0; i < count; i++) {
    const Napi::HandleScope scope(env);
    out.Set(i, value_of(env, element, at));
  }
  return out;
}

template <typename T>
T take(const uint8_t** at) {
  T v;
  std::memcpy(&v, *at, sizeof v);
  *at += sizeof v;
  return v;
}

// A value that was checked when the file was opened. 64-bit integers are bigints.
Napi::Value value_of(Napi::Env env, gguf::ValueType type, const uint8_t** at) {
  switch (type) {
    case gguf::ValueType::kU8:
      return Napi::Number::New(env, take<uint8_t>(at));
    case gguf::ValueType::kI8:
      return Napi::Number::New(env, take<int8_t>(at));
    case gguf::ValueType::kU16:
      return Napi::Number::New(env, take<uint16_t>(at));
    case gguf::ValueType::kI16:
      return Napi::Number::New(env, take<int16_t>(at));
    case gguf::ValueType::kU32:
      return Napi::Number::New(env, take<uint32_t>(at));
    case gguf::ValueType::kI32:
      return Napi::Number::New(env, take<int32_t>(at));
    case gguf::ValueType::kF32:
      return Napi::Number::New(env, static_cast<double>(take<float>(at)));
    case gguf::ValueType::kBool:
      return Napi::Boolean::New(env, take<uint8_t>(at) != 0);
    case gguf::ValueType::kU64:
      return Napi::BigInt::New(env, take<uint64_t>(at));
    case gguf::ValueType::kI64:
      return Napi::BigInt::New(env, take<int64_t>(at));
    case gguf::ValueType::kF64:
      return Napi::Number::New(env, take<double>(at));
    case gguf::ValueType::kString: {
      const auto length = take<uint64_t>(at);
      const Napi::Value text = text_of(env, {reinterpret_cast<const char*>(*at), length});
      *at += length;
      return text;
    }
    default: {
      const auto element = static_cast<gguf::ValueType>(take<uint32_t>(at));
      const auto count = take<uint64_t>(at);
      return elements_of(env, element, count, at);
    }
  }
}

class ReadWorker final : public PromiseWorker {
 public:
  ReadWorker(Napi::Env env, std::string path) : PromiseWorker(env, "zg:readGguf"), path_(std::move(path)) {}

 protected:
  void Execute() override {
    gguf::Error error;
    file_ = gguf::File::open(path_.c_str(), &error);
    if (file_ == nullptr) SetError(error.message);
  }

  Napi::Value result(Napi::Env env) override {
    Napi::Object o = Napi::Object::New(env);
    o.Set("version", file_->version());
    o.Set("alignment", static_cast<double>(file_->alignment()));
    Napi::Array metadata = Napi::Array::New(env);
    for (uint32_t i = 0; i < file_->metadata().size(); i++) {
      const gguf::Value& v = file_->metadata()[i];
      const uint8_t* at = v.data;
      Napi::Array entry = Napi::Array::New(env, 3);
      entry.Set(0u, text_of(env, v.key));
      entry.Set(1u, static_cast<uint32_t>(v.type));
      entry.Set(2u, v.type == gguf::ValueType::kArray ? elements_of(env, v.element, v.count, &at) : value_of(env, v.type, &at));
      metadata.Set(i, entry);
    }
    o.Set("metadata", metadata);
    Napi::Array tensors = Napi::Array::New(env);
    for (uint32_t i = 0; i < file_->tensors().size(); i++) {
      const gguf::Tensor& t = file_->tensors()[i];
      Napi::Object out = Napi::Object::New(env);
      out.Set("name", text_of(env, t.name));
      out.Set("type", t.type->name);
      Napi::Array dims = Napi::Array::New(env, t.dim_count);
      for (uint32_t d = 0; d < t.dim_count; d++) dims.Set(d, static_cast<double>(t.dims[d]));
      out.Set("dims", dims);
      out.Set("offset", static_cast<double>(t.data_offset));
      out.Set("bytes", static_cast<double>(t.size_bytes));
      tensors.Set(i, out);
    }
    o.Set("tensors", tensors);
    return o;
  }

 private:
  std::string path_;
  std::unique_ptr<gguf::File> file_;
};

Napi::Value read_gguf(const Napi::CallbackInfo& info) {
  if (info.Length() < 1 || !info[0].IsString()) return fail(info.Env(), "readGguf: a path wanted");
  auto* worker = new ReadWorker(info.Env(), info[0].As<Napi::String>().Utf8Value());
  const Napi::Promise promise = worker->promise();
  worker->Queue();
  return promise;
}

Napi::Value check(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (info.Length() < 2 || !info[0].IsTypedArray() || info[0].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array ||
      !info[1].IsBoolean()) {
    return fail(env, "check: a Uint8Array and a bool wanted");
  }
  const auto bytes = info[0].As<Napi::Uint8Array>();
  gguf::Error error;
  auto file = gguf::File::parse(bytes.Data(), bytes.ByteLength(), &error);
  if (file != nullptr && info[1].As<Napi::Boolean>().Value()) Model::load(std::move(file), &error);
  return error.failed() ? text_of(env, error.message) : env.Undefined();
}

Napi::Value dequantize(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  double id = 0;
  if (info.Length() < 2 || !number_of(info[0], 0, UINT32_MAX, &id) || !info[1].IsTypedArray() ||
      info[1].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    return fail(env, "dequantize: the id of a type and a Uint8Array wanted");
  }
  const zg::TypeInfo* type = zg::tensor_type(static_cast<uint32_t>(id));
  const auto bytes = info[1].As<Napi::Uint8Array>();
  if (type == nullptr || type->dequantize == nullptr) return fail(env, "dequantize: the type is not supported");
  if (bytes.ByteLength() % type->block_bytes != 0 || bytes.ByteLength() > kMaxBlockBytes) {
    return fail(env, "dequantize: whole blocks of at most 1 MiB wanted");
  }
  const size_t count = bytes.ByteLength() / type->block_bytes * type->block_values;
  Napi::Float32Array out = Napi::Float32Array::New(env, count);
  if (env.IsExceptionPending()) return env.Undefined();
  type->dequantize(bytes.Data(), count, out.Data());
  return out;
}

}  // namespace

void initGguf(Napi::Env env, Napi::Object exports) {
  exports.Set("readGguf", Napi::Function::New(env, read_gguf));
  exports.Set("check", Napi::Function::New(env, check));
  exports.Set("dequantize", Napi::Function::New(env, dequantize));
}
