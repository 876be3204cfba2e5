// daSigners({registry, chainId, epochBlocks}, steps) → {answers, slots}: the precompile at 0x…1000 over an empty storage, each step a transaction of its own, for the
// comparison with its TypeScript twin.
//   step    {caller, origin, data: Uint8Array, gas: bigint, blockNumber: bigint, isStatic, isDelegate: boolean}
//   answer  {ok, gasUsed: bigint, output: Uint8Array, logs: {topics: Uint8Array[], data: Uint8Array}[]}
//   slots   [slot, value] pairs of 32 bytes, all that are not zero at the end
// The hash of block n is keccak of its number as 8 bytes, big-endian.
#include "evm_precompile.h"
#include "precompiles/da_signers.h"
#include "vm/evm.h"

namespace zg {
namespace {

class Hashes final : public BlockHashes {
 public:
  Hash block_hash(uint64_t number) const override {
    uint8_t b[8];
    for (int i = 0; i < 8; ++i) b[i] = static_cast<uint8_t>(number >> (56 - 8 * i));
    return keccak({b, 8});
  }
};

// One account, which is there because its nonce is 1.
class Bare final : public StateReader {
 public:
  explicit Bare(const Address& a) : address_(a) {}
  bool account(const Address& a, AccountData& out) const override {
    if (!(a == address_)) return false;
    out = {};
    out.nonce = 1;
    return true;
  }
  U256 storage(const Address&, const U256&) const override { return {}; }
  std::shared_ptr<const Code> code(const Hash&) const override { return nullptr; }  // no account has any
  bool has_storage(const Address&) const override { return false; }

 private:
  Address address_;
};

bool bytes_of(const Napi::Value& v, Napi::Uint8Array& out) {
  if (!v.IsTypedArray() || v.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) return false;
  out = v.As<Napi::Uint8Array>();
  return true;
}
bool address_of(const Napi::Value& v, Address& out) {
  Napi::Uint8Array b;
  if (!bytes_of(v, b) || b.ByteLength() != 20) return false;
  out = Address::from(b.Data());
  return true;
}
bool u64_of(const Napi::Value& v, uint64_t& out) {
  bool lossless = false;
  if (!v.IsBigInt()) return false;
  out = v.As<Napi::BigInt>().Uint64Value(&lossless);
  return lossless;
}
Napi::Uint8Array bytes(Napi::Env env, ByteView v) {
  Napi::Uint8Array out = Napi::Uint8Array::New(env, v.size());
  if (!v.empty()) std::memcpy(out.Data(), v.data(), v.size());
  return out;
}
Napi::Value fail(Napi::Env env) {
  if (!env.IsExceptionPending()) Napi::TypeError::New(env, "daSigners wants {registry, chainId, epochBlocks} and steps").ThrowAsJavaScriptException();
  return env.Undefined();
}

Napi::Value da_signers(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (info.Length() != 2 || !info[0].IsObject() || !info[1].IsArray()) return fail(env);
  const auto options = info[0].As<Napi::Object>();
  DaSignersParams params;
  BlockEnv block;
  uint64_t chain_id = 0;
  if (!address_of(options.Get("registry"), params.registry) || !u64_of(options.Get("chainId"), chain_id) ||
      !u64_of(options.Get("epochBlocks"), params.epoch_blocks))
    return fail(env);
  const Hashes hashes;
  block.chain_id = U256{chain_id};
  block.hashes = &hashes;
  const auto precompile = make_da_signers(params);
  const Bare base(precompile->address());
  WorkingState state(base);
  const auto steps = info[1].As<Napi::Array>();
  Napi::Array answers = Napi::Array::New(env, steps.Length());
  for (uint32_t i = 0; i < steps.Length(); ++i) {
    if (!steps.Get(i).IsObject()) return fail(env);
    const auto step = steps.Get(i).As<Napi::Object>();
    Napi::Uint8Array data;
    TxEnv tx;
    Address caller;
    uint64_t gas = 0;
    if (!bytes_of(step.Get("data"), data) || !address_of(step.Get("caller"), caller) || !address_of(step.Get("origin"), tx.origin) ||
        !u64_of(step.Get("gas"), gas) || !u64_of(step.Get("blockNumber"), block.number))
      return fail(env);
    state.begin_transaction();
    const size_t before = state.checkpoint();
    const PrecompileResult r =
        precompile->run({Revision::osaka, state, block, tx, precompile->address(), caller, U256{}, {data.Data(), data.ByteLength()}, gas,
                         step.Get("isStatic").ToBoolean().Value(), step.Get("isDelegate").ToBoolean().Value()});
    const bool ok = r.ok && r.gas_used <= gas;
    if (!ok) state.revert_to(before);
    Napi::Object answer = Napi::Object::New(env);
    answer.Set("ok", Napi::Boolean::New(env, ok));
    answer.Set("gasUsed", Napi::BigInt::New(env, ok ? r.gas_used : gas));
    answer.Set("output", bytes(env, ok || r.reverts ? ByteView(r.output) : ByteView()));
    Napi::Array logs = Napi::Array::New(env);
    for (const Log& log : state.logs()) {
      Napi::Object entry = Napi::Object::New(env);
      Napi::Array topics = Napi::Array::New(env);
      for (const Hash& topic : log.topics) topics.Set(topics.Length(), bytes(env, topic));
      entry.Set("topics", topics);
      entry.Set("data", bytes(env, log.data));
      logs.Set(logs.Length(), entry);
    }
    answer.Set("logs", logs);
    answers.Set(i, answer);
    state.finish_transaction(Revision::osaka);
  }
  Napi::Array slots = Napi::Array::New(env);
  for (const AccountChange& account : state.take_diff().accounts)
    for (const SlotChange& slot : account.slots) {
      Napi::Array pair = Napi::Array::New(env, 2);
      pair.Set(uint32_t{0}, bytes(env, slot.slot.be()));
      pair.Set(uint32_t{1}, bytes(env, slot.after.be()));
      slots.Set(slots.Length(), pair);
    }
  Napi::Object out = Napi::Object::New(env);
  out.Set("answers", answers);
  out.Set("slots", slots);
  return out;
}

}  // namespace

void register_stateful(Napi::Env env, Napi::Object exports) { exports.Set("daSigners", Napi::Function::New(env, da_signers, "daSigners")); }

}  // namespace zg
