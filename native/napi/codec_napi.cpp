// Binding of native/codec: checks arguments, calls, returns. lib/native.ts is its only caller.
//
//   info()                                    {cpu, paths}: the path in use, and all of this machine
//   keccak256(data, out)                      writes 32 bytes into out
//   scratch                                   Uint8Array of 32 + 1024 bytes that hashScratch works on
//   hashScratch(size)                         scratch[0 … 31] = keccak-256 of scratch[32 … 31 + size]
//   segmentRootsSync(data, leaves[, cpu])     Uint8Array, 32 bytes a segment; cpu forces a path of this machine
//   segmentRoots(data, leaves)                the same in a promise, hashed on a worker thread
//   segmentRootsMany(list, leaves)            the same for segments that lie in arrays of their own, at most 64; leaves is a Uint16Array
//   treeRoot(hashes)                          root over n × 32 bytes
//   base64Encode(data, out[, cpu])            writes ceil(size / 3) · 4 characters into out
//   base64Decode(src, from, to, out[, cpu])   the bytes of characters [from, to) into out; true when they are strict base64
//   dropCached(fd, offset, length)            tells the system that these bytes of a file need not stay in its page cache
//   largeApart()                              memory of 128 KiB and more comes from the system block by block, and goes back to it
//   readCold, writeDirect                     much data from files and to them: disk_napi.cpp
//   da                                        data availability: da_napi.cpp
//   rs                                        stripes of storage: rs_napi.cpp
//   pora                                      proofs of random access: pora_napi.cpp
//
// A small Uint8Array lives inside the JavaScript heap until its address is asked for; then it is moved out, which costs more than
// hashing 64 bytes. The scratch is memory of ours that JavaScript sees, so short messages are copied in and out instead.
//
// segmentRoots reads the caller's memory on the worker: copying would cost the event loop a tenth of the hashing. A
// reference keeps the array alive until the promise settles. Writing to it meanwhile gives the roots of a mixture; memory that
// can shrink (resizable buffers) is copied first. The one thing left to the caller is not to transfer the buffer away.
#include <napi.h>

#if defined(__linux__)
#include <fcntl.h>
#endif
#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "base64.h"
#include "cpu.h"
#include "da_napi.h"
#include "disk_napi.h"
#include "job.h"
#include "merkle.h"
#include "pora_napi.h"
#include "rs_napi.h"

namespace {

// Chosen at load. Never null afterwards.
const zg::Kernels* kernels = nullptr;

constexpr size_t kMaxBytes = size_t{1} << 31;

Napi::Value fail(Napi::Env env, const char* message) {
  Napi::TypeError::New(env, message).ThrowAsJavaScriptException();
  return env.Undefined();
}

// A Uint8Array (or Buffer), or false for anything else. A detached one is refused: it would pass for an empty one.
bool bytes_of(const Napi::Value& value, Napi::Uint8Array* array) {
  if (!value.IsTypedArray()) return false;
  const Napi::TypedArray typed = value.As<Napi::TypedArray>();
  if (typed.TypedArrayType() != napi_uint8_array) return false;
  *array = value.As<Napi::Uint8Array>();
  return array->ByteLength() > 0 || !array->ArrayBuffer().IsDetached();
}

// Bytes of a Uint8Array by the plain C interface, or false. See bytes_of.
bool raw_bytes(napi_env env, napi_value value, uint8_t** data, size_t* size) {
  napi_typedarray_type type;
  void* start = nullptr;
  napi_value buffer;
  // Fails for anything that is no typed array.
  if (napi_get_typedarray_info(env, value, &type, size, &start, &buffer, nullptr) != napi_ok) return false;
  if (type != napi_uint8_array) return false;
  *data = static_cast<uint8_t*>(start);
  bool detached = false;
  return *size > 0 || napi_is_detached_arraybuffer(env, buffer, &detached) != napi_ok || !detached;
}

// The plain C interface: the wrappers' checks would cost as much as hashing 64 bytes.
napi_value keccak256(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  size_t count = 2;
  uint8_t* data = nullptr;
  uint8_t* out = nullptr;
  size_t size = 0;
  size_t out_size = 0;
  if (napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr) != napi_ok || count != 2 ||
      !raw_bytes(env, arguments[0], &data, &size) || !raw_bytes(env, arguments[1], &out, &out_size) ||
      out_size != zg::kHashBytes) {
    napi_throw_type_error(env, nullptr, "keccak256: a Uint8Array and one of 32 bytes for the result wanted");
    return nullptr;
  }
  uint8_t hash[zg::kHashBytes];
  kernels->one(data, size, hash);
  // The result may lie within the message.
  std::memcpy(out, hash, sizeof hash);
  return nullptr;
}

constexpr size_t kScratchBytes = 1024;

// Of one JavaScript environment (the main thread, each worker); lives as long as it.
struct Instance {
  // Freed by the array buffer over it, which `array` keeps alive.
  uint8_t* scratch = nullptr;
  Napi::ObjectReference array;
};

napi_value hash_scratch(napi_env env, napi_callback_info info) {
  napi_value argument;
  size_t count = 1;
  uint32_t size = 0;
  void* data = nullptr;
  if (napi_get_cb_info(env, info, &count, &argument, nullptr, &data) != napi_ok || count != 1 ||
      napi_get_value_uint32(env, argument, &size) != napi_ok || size > kScratchBytes) {
    napi_throw_type_error(env, nullptr, "hashScratch: a size up to 1024 wanted");
    return nullptr;
  }
  uint8_t* scratch = static_cast<Instance*>(data)->scratch;
  uint8_t hash[zg::kHashBytes];
  kernels->one(scratch + zg::kHashBytes, size, hash);
  std::memcpy(scratch, hash, sizeof hash);
  return nullptr;
}

// Makes the scratch and the function on it; leaves them out when Node refuses memory of ours, the caller then does without.
void export_scratch(Napi::Env env, Napi::Object exports) {
  auto* instance = new Instance;
  env.SetInstanceData(instance);
  constexpr size_t size = zg::kHashBytes + kScratchBytes;
  auto* memory = new uint8_t[size]();
  Napi::ArrayBuffer buffer =
      Napi::ArrayBuffer::New(env, memory, size, [](Napi::BasicEnv, void* p) { delete[] static_cast<uint8_t*>(p); });
  napi_value function = nullptr;
  if (env.IsExceptionPending() || buffer.IsEmpty() ||
      napi_create_function(env, "hashScratch", NAPI_AUTO_LENGTH, hash_scratch, instance, &function) != napi_ok) {
    env.GetAndClearPendingException();
    return;
  }
  instance->scratch = memory;
  Napi::Uint8Array array = Napi::Uint8Array::New(env, size, buffer, 0);
  instance->array = Napi::Persistent(array.As<Napi::Object>());
  exports.Set("scratch", array);
  exports.Set("hashScratch", function);
}

// Reads (data, leaves) of both forms of segmentRoots; says what is wrong with them, or nullptr.
const char* segment_arguments(const Napi::CallbackInfo& info, Napi::Uint8Array* data, size_t* leaves) {
  if (info.Length() < 2 || !bytes_of(info[0], data) || !info[1].IsNumber()) {
    return "segmentRoots: a Uint8Array and a number of leaves wanted";
  }
  const double n = info[1].As<Napi::Number>().DoubleValue();
  if (!(n >= 1 && n <= zg::kSegmentSectors) || n != static_cast<double>(static_cast<size_t>(n))) {
    return "segmentRoots: leaves of the last segment are 1 to 1024";
  }
  *leaves = static_cast<size_t>(n);
  if (data->ByteLength() > kMaxBytes) return "segmentRoots: at most 2 GiB at once";
  if (!zg::leaves_fit(data->ByteLength(), *leaves)) return "segmentRoots: the leaves do not hold the last segment's data";
  return nullptr;
}

Napi::Value segment_roots_sync(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Napi::Uint8Array data;
  size_t leaves = 0;
  if (const char* fault = segment_arguments(info, &data, &leaves)) return fail(env, fault);
  const zg::Kernels* k = kernels;
  if (info.Length() > 2 && !info[2].IsUndefined()) {
    if (!info[2].IsString()) return fail(env, "segmentRoots: the path is a name");
    k = zg::kernels_by_name(info[2].As<Napi::String>().Utf8Value().c_str());
    if (k == nullptr) return fail(env, "segmentRoots: this machine lacks the path");
  }
  Napi::Uint8Array out = Napi::Uint8Array::New(env, zg::segment_count(data.ByteLength()) * zg::kHashBytes);
  if (env.IsExceptionPending()) return env.Undefined();
  zg::segment_roots(data.Data(), data.ByteLength(), leaves, out.Data(), *k);
  return out;
}

class SegmentRootsWorker final : public Napi::AsyncWorker {
 public:
  SegmentRootsWorker(Napi::Env env, const Napi::Uint8Array& data, size_t leaves)
      : AsyncWorker(env, "zg:segmentRoots"),
        deferred_(Napi::Promise::Deferred::New(env)),
        array_(Napi::Persistent(data.As<Napi::Object>())),
        data_(data.Data()),
        size_(data.ByteLength()),
        leaves_(leaves),
        roots_(zg::segment_count(size_) * zg::kHashBytes) {}

  Napi::Promise promise() const { return deferred_.Promise(); }

  // Before Queue(): the worker will read a copy. False when there is no memory for it.
  bool copy_data() {
    copy_.reset(new (std::nothrow) uint8_t[size_ + 1]);
    if (copy_ == nullptr) return false;
    if (size_ > 0) std::memcpy(copy_.get(), data_, size_);
    data_ = copy_.get();
    return true;
  }

 protected:
  void Execute() override { zg::segment_roots(data_, size_, leaves_, roots_.data(), *kernels); }

  void OnOK() override {
    Napi::Uint8Array out = Napi::Uint8Array::New(Env(), roots_.size());
    if (Env().IsExceptionPending()) {
      deferred_.Reject(Env().GetAndClearPendingException().Value());
      return;
    }
    std::memcpy(out.Data(), roots_.data(), roots_.size());
    deferred_.Resolve(out);
  }

  void OnError(const Napi::Error& error) override { deferred_.Reject(error.Value()); }

 private:
  Napi::Promise::Deferred deferred_;
  Napi::ObjectReference array_;
  const uint8_t* data_;
  size_t size_;
  size_t leaves_;
  std::vector<uint8_t> roots_;
  std::unique_ptr<uint8_t[]> copy_;
};

// True when the memory behind an array can be taken away while a worker reads it.
bool can_shrink(const Napi::Uint8Array& data) {
  const Napi::Value buffer = data.As<Napi::Object>().Get("buffer");
  if (!buffer.IsObject()) return true;
  const Napi::Value resizable = buffer.As<Napi::Object>().Get("resizable");
  return resizable.IsBoolean() && resizable.As<Napi::Boolean>().Value();
}

Napi::Value segment_roots(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Napi::Uint8Array data;
  size_t leaves = 0;
  if (const char* fault = segment_arguments(info, &data, &leaves)) return fail(env, fault);
  // Owned by the queue once queued: it deletes itself after OnOK or OnError.
  auto* worker = new SegmentRootsWorker(env, data, leaves);
  if (can_shrink(data) && !worker->copy_data()) {
    delete worker;
    return fail(env, "segmentRoots: out of memory");
  }
  const Napi::Promise promise = worker->promise();
  worker->Queue();
  return promise;
}

constexpr uint32_t kManySegments = 64;

// One job for several segments: handing work to a thread and back costs as much as hashing a third of a segment.
Napi::Value segment_roots_many(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const char* usage = "segmentRootsMany: 1 to 64 segments and their leaves wanted";
  if (info.Length() != 2 || !info[0].IsArray() || !info[1].IsTypedArray()) return fail(env, usage);
  const Napi::Array list = info[0].As<Napi::Array>();
  if (info[1].As<Napi::TypedArray>().TypedArrayType() != napi_uint16_array) return fail(env, usage);
  const Napi::Uint16Array leaves = info[1].As<Napi::Uint16Array>();
  const uint32_t count = list.Length();
  if (count == 0 || count > kManySegments || leaves.ElementLength() != count) return fail(env, usage);
  struct Segment {
    const uint8_t* data;
    size_t size;
    size_t leaves;
  };
  std::vector<Segment> segments;
  for (uint32_t i = 0; i < count; i++) {
    zg::napi::Bytes bytes;
    const size_t n = leaves[i];
    if (!zg::napi::lasting_bytes(list.Get(i), &bytes) || bytes.size > zg::kSegmentBytes) return fail(env, usage);
    if (n < 1 || n > zg::kSegmentSectors || !zg::leaves_fit(bytes.size, n)) return fail(env, usage);
    segments.push_back({bytes.data, bytes.size, n});
  }
  return zg::napi::start(info, count * zg::kHashBytes, [segments = std::move(segments)](uint8_t* out) {
    for (const Segment& s : segments) {
      zg::segment_roots(s.data, s.size, s.leaves, out, *kernels);
      out += zg::kHashBytes;
    }
    return true;
  });
}

Napi::Value tree_root(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Napi::Uint8Array hashes;
  if (info.Length() != 1 || !bytes_of(info[0], &hashes)) return fail(env, "treeRoot: a Uint8Array wanted");
  const size_t size = hashes.ByteLength();
  if (size == 0 || size % zg::kHashBytes != 0 || size > kMaxBytes) {
    return fail(env, "treeRoot: one or more hashes of 32 bytes wanted");
  }
  const std::unique_ptr<uint8_t[]> work(new (std::nothrow) uint8_t[size]);
  if (work == nullptr) return fail(env, "treeRoot: out of memory");
  std::memcpy(work.get(), hashes.Data(), size);
  zg::tree_root(work.get(), size / zg::kHashBytes, *kernels);
  Napi::Uint8Array out = Napi::Uint8Array::New(env, zg::kHashBytes);
  if (env.IsExceptionPending()) return env.Undefined();
  std::memcpy(out.Data(), work.get(), zg::kHashBytes);
  return out;
}

// The path by an optional name at the end of the arguments; nullptr when this machine lacks it.
const zg::Kernels* path_of(const Napi::CallbackInfo& info, size_t at) {
  if (info.Length() <= at || info[at].IsUndefined()) return kernels;
  return info[at].IsString() ? zg::kernels_by_name(info[at].As<Napi::String>().Utf8Value().c_str()) : nullptr;
}

Napi::Value base64_encode(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Napi::Uint8Array data;
  Napi::Uint8Array out;
  if (info.Length() < 2 || !bytes_of(info[0], &data) || !bytes_of(info[1], &out) || data.ByteLength() > kMaxBytes ||
      out.ByteLength() != zg::base64_length(data.ByteLength())) {
    return fail(env, "base64Encode: bytes and room for their characters wanted");
  }
  const zg::Kernels* k = path_of(info, 2);
  if (k == nullptr) return fail(env, "base64Encode: this machine lacks the path");
  zg::base64_encode(data.Data(), data.ByteLength(), out.Data(), *k);
  return env.Undefined();
}

Napi::Value base64_decode(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Napi::Uint8Array text;
  Napi::Uint8Array out;
  if (info.Length() < 4 || !bytes_of(info[0], &text) || !info[1].IsNumber() || !info[2].IsNumber() || !bytes_of(info[3], &out)) {
    return fail(env, "base64Decode: characters, their ends and room for the bytes wanted");
  }
  const double from = info[1].As<Napi::Number>().DoubleValue();
  const double to = info[2].As<Napi::Number>().DoubleValue();
  if (!(from >= 0 && from <= to && to <= static_cast<double>(text.ByteLength()))) return fail(env, "base64Decode: ends out of range");
  const auto start = static_cast<size_t>(from);
  const size_t size = static_cast<size_t>(to) - start;
  const uint8_t* characters = text.Data() + start;
  if (size % 4 != 0 || out.ByteLength() != zg::base64_bytes(characters, size)) return Napi::Boolean::New(env, false);
  const zg::Kernels* k = path_of(info, 4);
  if (k == nullptr) return fail(env, "base64Decode: this machine lacks the path");
  return Napi::Boolean::New(env, zg::base64_decode(characters, size, out.Data(), *k));
}

// A hint, so nothing is reported: pages that are dirty stay, and so do the first and the last one when they hold other bytes too.
// 8 MiB take 0.3 ms; elsewhere than on Linux nothing is done.
Napi::Value drop_cached(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (info.Length() != 3) return fail(env, "dropCached: a descriptor, an offset and a length wanted");
  double numbers[3];
  for (size_t i = 0; i < 3; i++) {
    numbers[i] = info[i].IsNumber() ? info[i].As<Napi::Number>().DoubleValue() : -1;
    if (!(numbers[i] >= 0 && numbers[i] <= 9007199254740991.0)) return fail(env, "dropCached: three whole numbers wanted");
  }
#if defined(__linux__)
  if (numbers[2] > 0) {
    posix_fadvise(static_cast<int>(numbers[0]), static_cast<off_t>(numbers[1]), static_cast<off_t>(numbers[2]), POSIX_FADV_DONTNEED);
  }
#endif
  return env.Undefined();
}

// glibc begins like that and gives it up when the first such block is freed: from then on blocks of up to 32 MiB lie between small ones
// in one heap, which holes keep from shrinking, and of whose free end 64 MiB are kept. To name the thresholds makes them stay, whatever
// they had become. For the whole process.
Napi::Value large_apart(const Napi::CallbackInfo& info) {
#if defined(__GLIBC__)
  mallopt(M_MMAP_THRESHOLD, 128 * 1024);
  mallopt(M_TRIM_THRESHOLD, 1024 * 1024);
  malloc_trim(0);
#endif
  return info.Env().Undefined();
}

Napi::Value info_of(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Napi::Object out = Napi::Object::New(env);
  Napi::Array paths = Napi::Array::New(env);
  uint32_t count = 0;
  for (auto p = zg::available_kernels(); *p != nullptr; p++) paths.Set(count++, (*p)->name);
  out.Set("cpu", kernels->name);
  out.Set("paths", paths);
  return out;
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  const char* wanted = std::getenv("ZG_CPU");
  kernels = zg::kernels_by_name(wanted);
  if (kernels == nullptr) {
    const std::string message = std::string("ZG_CPU=") + wanted + " is not a path of this machine";
    Napi::Error::New(env, message).ThrowAsJavaScriptException();
    return exports;
  }
  exports.Set("info", Napi::Function::New(env, info_of));
  napi_value function = nullptr;
  if (napi_create_function(env, "keccak256", NAPI_AUTO_LENGTH, keccak256, nullptr, &function) != napi_ok) return exports;
  exports.Set("keccak256", function);
  export_scratch(env, exports);
  exports.Set("segmentRootsSync", Napi::Function::New(env, segment_roots_sync));
  exports.Set("segmentRoots", Napi::Function::New(env, segment_roots));
  exports.Set("segmentRootsMany", Napi::Function::New(env, segment_roots_many));
  exports.Set("treeRoot", Napi::Function::New(env, tree_root));
  exports.Set("base64Encode", Napi::Function::New(env, base64_encode));
  exports.Set("base64Decode", Napi::Function::New(env, base64_decode));
  exports.Set("dropCached", Napi::Function::New(env, drop_cached));
  exports.Set("largeApart", Napi::Function::New(env, large_apart));
  exports.Set("readCold", Napi::Function::New(env, zg::read_cold));
  exports.Set("writeDirect", Napi::Function::New(env, zg::write_direct));
  exports.Set("da", zg::da_exports(env, *kernels));
  exports.Set("rs", zg::rs_exports(env, *kernels));
  exports.Set("pora", zg::pora_exports(env, *kernels));
  return exports;
}

}  // namespace

NODE_API_MODULE(codec, init)
