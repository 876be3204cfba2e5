// Binding of native/codec/da_*: checks arguments, calls, returns. lib/native.ts is its only caller.
//
//   paths()                                     names of the SIMD paths of the code on this machine
//   encode(tag, data, parity | undefined[, path])   promise of row roots ‖ z; writes the parity rows
//   rowRoots(tag, rows)                         promise of 32 bytes a row
//   rowSums(p, rows)                            promise of 16 bytes a row
//   decode(w, indexes, rows, out[, path])       promise of nothing; writes the data rows into out
//   extendZ(z), stream(seed, n), treeNodes(hashes)  at once: all take under a millisecond
//
// Promises are settled by libuv's pool. As in segmentRoots, workers read and write the caller's memory: a reference keeps it alive,
// writing to it meanwhile gives wrong results and nothing worse, and resizable memory is refused. The one thing left to the caller
// is not to transfer a buffer away.
#include "da_napi.h"

#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "da_blob.h"
#include "da_sums.h"

namespace zg {
namespace {

const Kernels* kernels = nullptr;

constexpr size_t kMaxList = 3 * kMaxRows;
constexpr uint32_t kMaxHashes = 65536;

Napi::Value fail(Napi::Env env, const char* message) {
  Napi::TypeError::New(env, message).ThrowAsJavaScriptException();
  return env.Undefined();
}

struct Bytes {
  uint8_t* data = nullptr;
  size_t size = 0;
};

// A Uint8Array (or Buffer) that is attached, or false.
bool bytes_of(const Napi::Value& value, Bytes* out) {
  if (!value.IsTypedArray()) return false;
  const Napi::TypedArray typed = value.As<Napi::TypedArray>();
  if (typed.TypedArrayType() != napi_uint8_array) return false;
  Napi::Uint8Array array = value.As<Napi::Uint8Array>();
  if (array.ByteLength() == 0 && array.ArrayBuffer().IsDetached()) return false;
  *out = {array.Data(), array.ByteLength()};
  return true;
}

bool bytes_of(const Napi::Value& value, size_t size, Bytes* out) { return bytes_of(value, out) && out->size == size; }

// The same for memory that a worker uses: it must not be able to shrink.
bool lasting_bytes(const Napi::Value& value, Bytes* out) {
  if (!bytes_of(value, out)) return false;
  const Napi::Value buffer = value.As<Napi::Object>().Get("buffer");
  if (!buffer.IsObject()) return false;
  const Napi::Value resizable = buffer.As<Napi::Object>().Get("resizable");
  return !(resizable.IsBoolean() && resizable.As<Napi::Boolean>().Value());
}

// Pointers to rows of w bytes, or false. `w` 0: as many as the first row has.
bool rows_of(const Napi::Value& value, size_t w, std::vector<const uint8_t*>* rows, size_t* width) {
  if (!value.IsArray()) return false;
  const Napi::Array list = value.As<Napi::Array>();
  const uint32_t count = list.Length();
  if (count > kMaxList) return false;
  for (uint32_t i = 0; i < count; i++) {
    Bytes row;
    if (!lasting_bytes(list.Get(i), &row)) return false;
    if (w == 0) w = row.size;
    if (row.size != w) return false;
    rows->push_back(row.data);
  }
  *width = w;
  return count == 0 || (w >= kBlockBytes && w <= kMaxRowBytes && w % kBlockBytes == 0);
}

// The path by an optional name at the end of the arguments; nullptr when there is none of that name.
const Lanes* lanes_of(const Napi::CallbackInfo& info, size_t at) {
  if (info.Length() <= at || info[at].IsUndefined()) return lanes_for(kernels->name);
  if (!info[at].IsString()) return nullptr;
  return lanes_by_name(info[at].As<Napi::String>().Utf8Value().c_str());
}

class Job final : public Napi::AsyncWorker {
 public:
  // `work` gives false when there is no memory; `inputs` stay alive until the promise settles.
  Job(Napi::Env env, const Napi::Object& inputs, size_t out_size, std::function<bool(uint8_t*)> work)
      : AsyncWorker(env, "zg:da"),
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

// Owned by the queue once queued: it deletes itself after OnOK or OnError.
Napi::Value start(const Napi::CallbackInfo& info, size_t out_size, std::function<bool(uint8_t*)> work) {
  Napi::Array inputs = Napi::Array::New(info.Env(), info.Length());
  for (uint32_t i = 0; i < info.Length(); i++) inputs.Set(i, info[i]);
  auto* job = new Job(info.Env(), inputs, out_size, std::move(work));
  const Napi::Promise promise = job->promise();
  job->Queue();
  return promise;
}

Napi::Value encode(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Bytes tag;
  Bytes data;
  Bytes parity;
  DaShape shape;
  if (info.Length() < 3 || !bytes_of(info[0], kTagBytes, &tag) || !shape_of(tag.data, &shape)) {
    return fail(env, "encode: a shape tag of 16 bytes wanted");
  }
  const auto [k, w] = shape;
  if (!lasting_bytes(info[1], &data) || data.size > k * w) return fail(env, "encode: at most k rows of data wanted");
  if (!info[2].IsUndefined() && (!lasting_bytes(info[2], &parity) || parity.size != 2 * k * w)) {
    return fail(env, "encode: room for 2k rows wanted");
  }
  const Lanes* lanes = lanes_of(info, 3);
  if (lanes == nullptr) return fail(env, "encode: this machine lacks the path");
  std::vector<uint8_t> own(tag.data, tag.data + kTagBytes);
  return start(info, 3 * k * kHashBytes + k * 16, [=](uint8_t* out) {
    return encode_blob(own.data(), data.data, data.size, parity.data, out, *kernels, *lanes);
  });
}

Napi::Value roots(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Bytes tag;
  std::vector<const uint8_t*> rows;
  size_t w = 0;
  if (info.Length() != 2 || !bytes_of(info[0], kTagBytes, &tag)) return fail(env, "rowRoots: a shape tag of 16 bytes wanted");
  if (!rows_of(info[1], 0, &rows, &w)) return fail(env, "rowRoots: up to 3072 rows of equal size wanted");
  std::vector<uint8_t> own(tag.data, tag.data + kTagBytes);
  const size_t size = rows.size() * kHashBytes;
  return start(info, size, [own = std::move(own), rows = std::move(rows), w](uint8_t* out) {
    row_roots(own.data(), rows.data(), rows.size(), w, out, *kernels);
    return true;
  });
}

Napi::Value sums(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Bytes p;
  std::vector<const uint8_t*> rows;
  size_t w = 0;
  if (info.Length() != 2 || !bytes_of(info[0], kTagBytes + kHashBytes, &p)) return fail(env, "rowSums: 48 bytes of header wanted");
  if (!rows_of(info[1], 0, &rows, &w)) return fail(env, "rowSums: up to 3072 rows of equal size wanted");
  std::vector<uint8_t> seed(kHashBytes);
  coefficient_seed(p.data, seed.data(), *kernels);
  const size_t size = rows.size() * 16;
  return start(info, size, [seed = std::move(seed), rows = std::move(rows), w](uint8_t* out) {
    return row_sums(seed.data(), rows.data(), rows.size(), w, out, *kernels);
  });
}

Napi::Value decode(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  std::vector<const uint8_t*> rows;
  std::vector<uint16_t> indexes;
  Bytes out;
  size_t w = 0;
  if (info.Length() < 4 || !info[0].IsNumber() || !rows_of(info[2], 0, &rows, &w)) {
    return fail(env, "decode: rows of equal size wanted");
  }
  const size_t k = rows.size();
  if (k == 0 || k > kMaxRows || (k & (k - 1)) != 0 || info[0].As<Napi::Number>().DoubleValue() != static_cast<double>(w)) {
    return fail(env, "decode: a power of two of rows of w bytes wanted");
  }
  if (!info[1].IsTypedArray() || info[1].As<Napi::TypedArray>().TypedArrayType() != napi_uint16_array ||
      info[1].As<Napi::Uint16Array>().ElementLength() != k) {
    return fail(env, "decode: an index for each row wanted");
  }
  const Napi::Uint16Array list = info[1].As<Napi::Uint16Array>();
  std::vector<bool> seen(3 * k);
  for (size_t i = 0; i < k; i++) {
    const uint16_t c = list[i];
    if (c >= 3 * k || seen[c]) return fail(env, "decode: different indexes below 3k wanted");
    seen[c] = true;
    indexes.push_back(c);
  }
  if (!lasting_bytes(info[3], &out) || out.size != k * w) return fail(env, "decode: room for k rows wanted");
  const Lanes* lanes = lanes_of(info, 4);
  if (lanes == nullptr) return fail(env, "decode: this machine lacks the path");
  return start(info, 0, [=](uint8_t*) { return decode_rows(indexes.data(), rows.data(), k, w, out.data, *lanes); });
}

Napi::Value extend(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Bytes z;
  if (info.Length() != 1 || !bytes_of(info[0], &z)) return fail(env, "extendZ: a Uint8Array wanted");
  const size_t k = z.size / 16;
  if (z.size % 16 != 0 || k == 0 || k > kMaxRows || (k & (k - 1)) != 0) return fail(env, "extendZ: 16 bytes a row wanted");
  Napi::Uint8Array out = Napi::Uint8Array::New(env, 48 * k);
  if (env.IsExceptionPending()) return env.Undefined();
  if (!extend_z(z.data, k, out.Data(), *lanes_for(kernels->name))) return fail(env, "extendZ: out of memory");
  return out;
}

Napi::Value stream(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Bytes seed;
  if (info.Length() != 2 || !bytes_of(info[0], kHashBytes, &seed) || !info[1].IsNumber()) {
    return fail(env, "stream: a seed of 32 bytes and a number wanted");
  }
  const double n = info[1].As<Napi::Number>().DoubleValue();
  if (!(n >= 0 && n <= kMaxHashes) || n != static_cast<double>(static_cast<uint32_t>(n))) {
    return fail(env, "stream: up to 65536 hashes at once");
  }
  const size_t count = static_cast<size_t>(n);
  Napi::Uint8Array out = Napi::Uint8Array::New(env, count * kHashBytes);
  if (env.IsExceptionPending()) return env.Undefined();
  hash_stream(seed.data, 0, count, out.Data(), *kernels);
  return out;
}

Napi::Value nodes(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Bytes leaves;
  if (info.Length() != 1 || !bytes_of(info[0], &leaves)) return fail(env, "treeNodes: a Uint8Array wanted");
  const size_t n = leaves.size / kHashBytes;
  if (leaves.size % kHashBytes != 0 || n == 0 || n > kMaxHashes || (n & (n - 1)) != 0) {
    return fail(env, "treeNodes: a power of two of hashes wanted");
  }
  Napi::Uint8Array out = Napi::Uint8Array::New(env, (2 * n - 1) * kHashBytes);
  if (env.IsExceptionPending()) return env.Undefined();
  std::memcpy(out.Data(), leaves.data, leaves.size);
  tree_nodes(out.Data(), n, *kernels);
  return out;
}

Napi::Value paths(const Napi::CallbackInfo& info) {
  Napi::Array out = Napi::Array::New(info.Env());
  uint32_t count = 0;
  for (auto p = available_lanes(); *p != nullptr; p++) out.Set(count++, (*p)->name);
  return out;
}

}  // namespace

Napi::Object da_exports(Napi::Env env, const Kernels& chosen) {
  kernels = &chosen;
  Napi::Object out = Napi::Object::New(env);
  out.Set("paths", Napi::Function::New(env, paths));
  out.Set("encode", Napi::Function::New(env, encode));
  out.Set("rowRoots", Napi::Function::New(env, roots));
  out.Set("rowSums", Napi::Function::New(env, sums));
  out.Set("decode", Napi::Function::New(env, decode));
  out.Set("extendZ", Napi::Function::New(env, extend));
  out.Set("stream", Napi::Function::New(env, stream));
  out.Set("treeNodes", Napi::Function::New(env, nodes));
  return out;
}

}  // namespace zg
