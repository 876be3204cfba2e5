// Binding of native/codec/rs*: checks arguments, calls, returns. lib/native.ts is its only caller.
//
//   paths()                                          names of the SIMD paths on this machine
//   encode(k, m, data, out[, path])                  promise of nothing; writes m parity shards into out, one behind the other
//   reconstruct(k, m, have, shards, wanted, out[, path])  the same for the wanted shards; `have` and `wanted` are Uint16Arrays
//   shardSums(rho, shards[, path])                   promise of 16 bytes a shard
#include "rs_napi.h"

#include <memory>
#include <new>
#include <vector>

#include "job.h"
#include "rs.h"
#include "rs_sum.h"

namespace zg {
namespace {

using napi::Bytes;
using napi::bytes_of;
using napi::fail;
using napi::lasting_bytes;
using napi::number_of;
using napi::start;

const Kernels* kernels = nullptr;

// Pointers to shards of one size, or false.
bool shards_of(const Napi::Value& value, size_t most, std::vector<const uint8_t*>* shards, size_t* size) {
  if (!value.IsArray()) return false;
  const Napi::Array list = value.As<Napi::Array>();
  const uint32_t count = list.Length();
  if (count == 0 || count > most) return false;
  for (uint32_t i = 0; i < count; i++) {
    Bytes shard;
    if (!lasting_bytes(list.Get(i), &shard)) return false;
    if (i == 0) *size = shard.size;
    if (shard.size != *size || shard.size == 0 || shard.size > kMaxShardBytes) return false;
    shards->push_back(shard.data);
  }
  return true;
}

// Different indexes below `limit`, or false.
bool indexes_of(const Napi::Value& value, size_t limit, std::vector<uint16_t>* out) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint16_array) return false;
  const Napi::Uint16Array list = value.As<Napi::Uint16Array>();
  std::vector<bool> seen(limit);
  for (size_t i = 0; i < list.ElementLength(); i++) {
    const uint16_t index = list[i];
    if (index >= limit || seen[index]) return false;
    seen[index] = true;
    out->push_back(index);
  }
  return true;
}

bool shape_of(const Napi::CallbackInfo& info, size_t* k, size_t* m) {
  return info.Length() > 2 && number_of(info[0], kMaxShards, k) && number_of(info[1], kMaxShards, m) && rs_shape(*k, *m);
}

// The path by an optional name; nullptr when there is none of that name.
const RsPath* path_of(const Napi::CallbackInfo& info, size_t at) {
  if (info.Length() <= at || info[at].IsUndefined()) return rs_for(kernels->name);
  if (!info[at].IsString()) return nullptr;
  return rs_by_name(info[at].As<Napi::String>().Utf8Value().c_str());
}

// out = matrix · shards, rows of `size` bytes one behind the other.
void combine(const std::vector<uint8_t>& matrix, size_t rows, const std::vector<const uint8_t*>& shards, uint8_t* out, size_t size,
             const RsPath& path) {
  std::vector<uint8_t*> targets;
  for (size_t r = 0; r < rows; r++) targets.push_back(out + r * size);
  path.dot(matrix.data(), rows, shards.size(), shards.data(), targets.data(), size);
}

Napi::Value encode(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  size_t k = 0;
  size_t m = 0;
  size_t size = 0;
  std::vector<const uint8_t*> data;
  Bytes out;
  if (!shape_of(info, &k, &m)) return fail(env, "encode: k of 1 or more and k + m of at most 256 wanted");
  if (info.Length() < 4 || !shards_of(info[2], k, &data, &size) || data.size() != k) {
    return fail(env, "encode: k shards of 1 to 262144 bytes, all of one size, wanted");
  }
  if (!lasting_bytes(info[3], &out) || out.size != m * size) return fail(env, "encode: room for m shards wanted");
  const RsPath* path = path_of(info, 4);
  if (path == nullptr) return fail(env, "encode: this machine lacks the path");
  return start(info, 0, [=, data = std::move(data)](uint8_t*) {
    std::vector<uint8_t> matrix(m * k);
    rs_parity_matrix(k, m, matrix.data());
    combine(matrix, m, data, out.data, size, *path);
    return true;
  });
}

Napi::Value reconstruct(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  size_t k = 0;
  size_t m = 0;
  size_t size = 0;
  std::vector<uint16_t> have;
  std::vector<uint16_t> wanted;
  std::vector<const uint8_t*> shards;
  Bytes out;
  if (!shape_of(info, &k, &m)) return fail(env, "reconstruct: k of 1 or more and k + m of at most 256 wanted");
  if (info.Length() < 6 || !indexes_of(info[2], k + m, &have) || have.size() != k ||
      !shards_of(info[3], k, &shards, &size) || shards.size() != k) {
    return fail(env, "reconstruct: k different shards of 1 to 262144 bytes, all of one size, wanted");
  }
  if (!indexes_of(info[4], k + m, &wanted)) return fail(env, "reconstruct: different indexes below k + m wanted");
  if (!lasting_bytes(info[5], &out) || out.size != wanted.size() * size) {
    return fail(env, "reconstruct: room for the wanted shards wanted");
  }
  const RsPath* path = path_of(info, 6);
  if (path == nullptr) return fail(env, "reconstruct: this machine lacks the path");
  return start(info, 0, [=, have = std::move(have), wanted = std::move(wanted), shards = std::move(shards)](uint8_t*) {
    std::vector<uint8_t> matrix(wanted.size() * k);
    std::vector<uint8_t> work(2 * k * k);
    rs_recovery_matrix(k, have.data(), wanted.data(), wanted.size(), matrix.data(), work.data());
    combine(matrix, wanted.size(), shards, out.data, size, *path);
    return true;
  });
}

Napi::Value sums(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Bytes rho;
  size_t size = 0;
  std::vector<const uint8_t*> shards;
  if (info.Length() < 2 || !bytes_of(info[0], kTowerBytes, &rho)) return fail(env, "shardSums: a point of 16 bytes wanted");
  if (!shards_of(info[1], kMaxShards, &shards, &size)) {
    return fail(env, "shardSums: 1 to 256 shards of 1 to 262144 bytes, all of one size, wanted");
  }
  const RsPath* path = path_of(info, 2);
  if (path == nullptr) return fail(env, "shardSums: this machine lacks the path");
  std::vector<uint8_t> point(rho.data, rho.data + kTowerBytes);
  const size_t bytes = shards.size() * kTowerBytes;
  return start(info, bytes, [=, point = std::move(point), shards = std::move(shards)](uint8_t* out) {
    for (size_t i = 0; i < shards.size(); i++) {
      if (!shard_sum(point.data(), shards[i], size, out + i * kTowerBytes, *path)) return false;
    }
    return true;
  });
}

Napi::Value paths(const Napi::CallbackInfo& info) {
  Napi::Array out = Napi::Array::New(info.Env());
  uint32_t count = 0;
  for (auto p = available_rs(); *p != nullptr; p++) out.Set(count++, (*p)->name);
  return out;
}

}  // namespace

Napi::Object rs_exports(Napi::Env env, const Kernels& chosen) {
  kernels = &chosen;
  Napi::Object out = Napi::Object::New(env);
  out.Set("paths", Napi::Function::New(env, paths));
  out.Set("encode", Napi::Function::New(env, encode));
  out.Set("reconstruct", Napi::Function::New(env, reconstruct));
  out.Set("shardSums", Napi::Function::New(env, sums));
  return out;
}

}  // namespace zg
