// Binding of native/codec/pora*: checks arguments, calls, returns. lib/native.ts is its only caller. All give promises; a path of the
// hashing (cpu.h) may be named last.
//
//   seal(masks, data[, path])                        sealed bytes; 32 bytes of mask and 4096 of data a seal
//   unseal(masks, data[, path])                      the reverse
//   pads(miner, nonces, subtask, range[, path])      seeds ‖ recalls ‖ pads of up to 64 tries: 64, 32 and 16384 bytes each
//   best(tries, seeds, pads, held, segments[, path]) 33 bytes for each segment: seal (64: none) and its quality; try tries[i] (a
//                                                    Uint32Array) reads segment i, of which `held` (8 bytes each, little endian)
//                                                    says which seals count
#include "pora_napi.h"

#include <cstring>
#include <vector>

#include "cpu.h"
#include "job.h"
#include "pora.h"

namespace zg {
namespace {

using napi::Bytes;
using napi::bytes_of;
using napi::fail;
using napi::lasting_bytes;
using napi::start;

const Kernels* kernels = nullptr;

constexpr size_t kMaxTries = 64;
constexpr size_t kMaxSeals = 4096;
constexpr size_t kSegmentBytes = kSegmentSeals * kSealBytes;
constexpr size_t kAnswerBytes = 1 + kHashBytes;

const Kernels* path_of(const Napi::CallbackInfo& info, size_t at) {
  if (info.Length() <= at || info[at].IsUndefined()) return kernels;
  if (!info[at].IsString()) return nullptr;
  return kernels_by_name(info[at].As<Napi::String>().Utf8Value().c_str());
}

template <auto Function>
Napi::Value seals(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Bytes masks;
  Bytes data;
  if (info.Length() < 2 || !lasting_bytes(info[0], &masks) || !lasting_bytes(info[1], &data)) {
    return fail(env, "seal: masks and data wanted");
  }
  const size_t count = data.size / kSealBytes;
  if (data.size % kSealBytes != 0 || count == 0 || count > kMaxSeals || masks.size != count * kHashBytes) {
    return fail(env, "seal: 1 to 4096 seals of 4096 bytes with a mask of 32 bytes each wanted");
  }
  const Kernels* k = path_of(info, 2);
  if (k == nullptr) return fail(env, "seal: this machine lacks the path");
  return start(info, data.size, [=](uint8_t* out) {
    Function(masks.data, data.data, out, count, *k);
    return true;
  });
}

Napi::Value pads(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Bytes words[4];
  if (info.Length() < 4) return fail(env, "pads: miner, nonces, subtask and range wanted");
  for (size_t i = 0; i < 4; i++) {
    if (!bytes_of(info[i], &words[i]) || (i != 1 && words[i].size != kHashBytes)) {
      return fail(env, "pads: a miner, a subtask and a range of 32 bytes wanted");
    }
  }
  const size_t count = words[1].size / kHashBytes;
  if (words[1].size % kHashBytes != 0 || count == 0 || count > kMaxTries) return fail(env, "pads: 1 to 64 nonces of 32 bytes wanted");
  const Kernels* k = path_of(info, 4);
  if (k == nullptr) return fail(env, "pads: this machine lacks the path");
  // Small, so copied: the caller may go on to his next nonces.
  std::vector<uint8_t> own[4];
  for (size_t i = 0; i < 4; i++) own[i].assign(words[i].data, words[i].data + words[i].size);
  return start(info, count * (kPadSeedBytes + kHashBytes + kPadBytes),
               [count, k, miner = own[0], nonces = own[1], subtask = own[2], range = own[3]](uint8_t* out) {
                 uint8_t* recalls = out + count * kPadSeedBytes;
                 pora_pads(miner.data(), nonces.data(), subtask.data(), range.data(), count, out, recalls + count * kHashBytes,
                           recalls, *k);
                 return true;
               });
}

Napi::Value best(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Bytes seeds;
  Bytes pads;
  Bytes held;
  if (info.Length() < 5 || !lasting_bytes(info[1], &seeds) || !lasting_bytes(info[2], &pads) || !bytes_of(info[3], &held)) {
    return fail(env, "best: tries, seeds, pads, held seals and segments wanted");
  }
  const size_t tries = seeds.size / kPadSeedBytes;
  if (tries == 0 || tries > kMaxTries || seeds.size % kPadSeedBytes != 0 || pads.size != tries * kPadBytes) {
    return fail(env, "best: a seed of 64 and a pad of 16384 bytes for each of 1 to 64 tries wanted");
  }
  if (!info[0].IsTypedArray() || info[0].As<Napi::TypedArray>().TypedArrayType() != napi_uint32_array || !info[4].IsArray()) {
    return fail(env, "best: numbers of tries and a list of segments wanted");
  }
  const Napi::Uint32Array numbers = info[0].As<Napi::Uint32Array>();
  const Napi::Array list = info[4].As<Napi::Array>();
  const size_t count = numbers.ElementLength();
  if (count == 0 || count > kMaxTries || list.Length() != count || held.size != 8 * count) {
    return fail(env, "best: a segment and its held seals for each try wanted");
  }
  struct Try {
    size_t index;
    uint64_t held;
    const uint8_t* segment;
  };
  std::vector<Try> all;
  for (uint32_t i = 0; i < count; i++) {
    Bytes segment;
    if (numbers[i] >= tries) return fail(env, "best: there is no such try");
    if (!lasting_bytes(list.Get(i), &segment) || segment.size != kSegmentBytes) return fail(env, "best: segments have 262144 bytes");
    Try t{numbers[i], 0, segment.data};
    std::memcpy(&t.held, held.data + 8 * i, 8);
    all.push_back(t);
  }
  const Kernels* k = path_of(info, 5);
  if (k == nullptr) return fail(env, "best: this machine lacks the path");
  return start(info, count * kAnswerBytes, [=, all = std::move(all)](uint8_t* out) {
    for (const Try& t : all) {
      out[0] = static_cast<uint8_t>(pora_best(t.held, seeds.data + t.index * kPadSeedBytes, t.segment, pads.data + t.index * kPadBytes,
                                              out + 1, pora_for(*k)));
      out += kAnswerBytes;
    }
    return true;
  });
}

}  // namespace

Napi::Object pora_exports(Napi::Env env, const Kernels& chosen) {
  kernels = &chosen;
  Napi::Object out = Napi::Object::New(env);
  out.Set("seal", Napi::Function::New(env, seals<pora_seal>));
  out.Set("unseal", Napi::Function::New(env, seals<pora_unseal>));
  out.Set("pads", Napi::Function::New(env, pads));
  out.Set("best", Napi::Function::New(env, best));
  return out;
}

}  // namespace zg
