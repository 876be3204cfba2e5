// Binding of native/evm: checks arguments, calls, returns. lib/evm/native.ts is its only caller. This file: opening a chain.
#include "evm_chain.h"
#include "evm_precompile.h"
#include "evm_sign.h"
#include "evm_tests.h"

#include "chain/genesis.h"
#include "cpu.h"
#include "crypto/parallel.h"
#include "precompiles/da_signers.h"
#include "precompiles/wrapped_base.h"

namespace {

using namespace evm;
using zg::ByteView;
using zg::U256;

// Reads a field into `out`; absent: it stays as it is. False: of another type.
bool field(napi_env env, napi_value o, const char* name, uint64_t& out) {
  const napi_value v = property(env, o, name);
  return is_undefined(env, v) || get_number(env, v, out);
}
bool field(napi_env env, napi_value o, const char* name, bool& out) {
  const napi_value v = property(env, o, name);
  return is_undefined(env, v) || get_bool(env, v, out);
}
bool small_bigint(napi_env env, napi_value o, const char* name, uint64_t& out) {
  U256 x;
  if (!get_bigint(env, property(env, o, name), x) || !x.is_u64()) return false;
  out = x.low();
  return true;
}
bool address(napi_env env, napi_value o, const char* name, zg::Address& out) {
  ByteView v;
  if (!get_bytes(env, property(env, o, name), v) || v.size() != 20) return false;
  out = zg::Address::from(v.data());
  return true;
}

bool zg_precompiles(napi_env env, napi_value zg, zg::Precompiles& out) {
  zg::DaSignersParams p;
  zg::Address w0g, agency;
  if (!get_bigint(env, property(env, zg, "tokensPerVote"), p.tokens_per_vote) || !small_bigint(env, zg, "maxVotesPerSigner", p.max_votes_per_signer) ||
      !small_bigint(env, zg, "maxQuorums", p.max_quorums) || !small_bigint(env, zg, "epochBlocks", p.epoch_blocks) ||
      !small_bigint(env, zg, "encodedSlices", p.encoded_slices) || !address(env, zg, "daRegistry", p.registry) || !address(env, zg, "w0g", w0g) ||
      !address(env, zg, "agency", agency))
    return false;
  out.add(make_da_signers(p));
  out.add(make_wrapped_base(w0g, agency));
  return true;
}

// Null: read. Else what is wrong.
const char* read_options(napi_env env, napi_value o, zg::Chain::Options& out) {
  napi_valuetype type = napi_undefined;
  if (napi_typeof(env, o, &type) != napi_ok || type != napi_object) return "open takes an object";
  if (!get_text(env, property(env, o, "dir"), out.dir) || out.dir.empty()) return "dir is a path";
  ByteView genesis;
  if (!get_bytes(env, property(env, o, "genesis"), genesis)) return "genesis is a Uint8Array";
  if (const char* why = zg::decode_genesis(genesis, out.genesis)) return why;
  uint64_t history = out.state.history, cache = out.state.cache_bytes, blocks = out.kv.block_cache, writes = out.kv.write_buffer;
  uint64_t count = out.pool.count, bytes = out.pool.bytes, queued = out.pool.queued_per_sender, threads = zg::parallel_threads(), executing = 0;
  if (!field(env, o, "dev", out.dev) || !field(env, o, "archive", out.state.archive) || !field(env, o, "history", history) ||
      !field(env, o, "cacheBytes", cache) || !field(env, o, "blockCacheBytes", blocks) || !field(env, o, "writeBufferBytes", writes) ||
      !field(env, o, "poolCount", count) || !field(env, o, "poolBytes", bytes) || !field(env, o, "queuedPerSender", queued) ||
      !field(env, o, "threads", threads) || !field(env, o, "executionThreads", executing) || !field(env, o, "sync", out.sync) || !field(env, o, "logSegmentBytes", out.log_segment_bytes))
    return "an option is of another type";
  if (threads < 1 || threads > 64) return "threads is from 1 to 64";
  if (executing > 64) return "executionThreads is from 1 to 64, or 0 for what the machine is best at";
  if (history < 1 || count < 1 || bytes < 1 || out.log_segment_bytes < 1) return "an option is 0";
  out.state.history = history;
  out.state.cache_bytes = cache;
  out.kv.block_cache = blocks;
  out.kv.write_buffer = writes;
  out.pool = {count, bytes, queued};
  out.threads = out.state.threads = static_cast<unsigned>(threads);
  out.execution.threads = executing == 0 ? zg::best_execution_threads() : static_cast<unsigned>(executing);
  const napi_value zg = property(env, o, "zg");
  if (!is_undefined(env, zg) && !zg_precompiles(env, zg, out.precompiles)) return "zg has another shape";
  return nullptr;
}

// Opening reads and writes disks: on a thread of its own, once a chain.
class OpenJob final : public Job {
 public:
  OpenJob(std::shared_ptr<Bridge> bridge, zg::Chain::Options options, bool keeps) : bridge_(std::move(bridge)), options_(std::move(options)), keeps_(keeps) {}
  void work() override {
    const unsigned threads = options_.threads;
    std::unique_ptr<zg::Chain> chain;
    failure = zg::Chain::open(std::move(options_), chain);
    if (failure || !keeps_) return;
    handle_ = std::make_shared<ChainHandle>(bridge_, std::shared_ptr<zg::Chain>(std::move(chain)), threads);
  }
  napi_value value(napi_env env) override { return keeps_ ? make_chain_object(env, handle_) : undefined(env); }

 private:
  std::shared_ptr<Bridge> bridge_;
  zg::Chain::Options options_;
  bool keeps_;
  std::shared_ptr<ChainHandle> handle_;
};

napi_value start_open(napi_env env, zg::Chain::Options options, bool keeps) {
  const auto bridge = Bridge::of(env);
  if (bridge == nullptr) return nullptr;
  auto job = std::make_unique<OpenJob>(bridge, std::move(options), keeps);
  const napi_value promise = bridge->begin(env, *job);
  if (promise == nullptr) return nullptr;
  std::thread([bridge, job = std::move(job)]() mutable {
    job->work();
    bridge->post(std::move(job));
  }).detach();
  return promise;
}

napi_value open(napi_env env, napi_callback_info info) {
  napi_value argv[1] = {};
  size_t argc = 1;
  if (napi_get_cb_info(env, info, &argc, argv, nullptr, nullptr) != napi_ok) return nullptr;
  zg::Chain::Options options;
  if (const char* why = read_options(env, argv[0], options)) {
    throw_type(env, why);
    return nullptr;
  }
  return start_open(env, std::move(options), true);
}

napi_value load_snapshot(napi_env env, napi_callback_info info) {
  napi_value argv[2] = {};
  size_t argc = 2;
  if (napi_get_cb_info(env, info, &argc, argv, nullptr, nullptr) != napi_ok) return nullptr;
  zg::Chain::Options options;
  std::string path;
  const char* why = get_text(env, argv[0], path) && !path.empty() ? read_options(env, argv[1], options) : "a path is a string";
  if (why != nullptr) {
    throw_type(env, why);
    return nullptr;
  }
  options.snapshot = std::move(path);
  return start_open(env, std::move(options), false);
}

// {cpu, paths}: the kernels of hashing in use, and all of this machine.
napi_value info(napi_env env, napi_callback_info) {
  napi_value out = nullptr, paths = nullptr;
  if (napi_create_object(env, &out) != napi_ok || napi_create_array(env, &paths) != napi_ok) return nullptr;
  uint32_t n = 0;
  for (const auto* k = zg::available_kernels(); *k != nullptr; ++k) (void)napi_set_element(env, paths, n++, make_text(env, (*k)->name));
  set(env, out, "cpu", make_text(env, zg::kernels_by_name(nullptr)->name));
  set(env, out, "paths", paths);
  return out;
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  if (Bridge::make(env) == nullptr) {
    throw_type(env, "the binding cannot be set up");
    return exports;
  }
  const napi_property_descriptor methods[] = {{"info", nullptr, info, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
                                              {"open", nullptr, open, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
                                              {"loadSnapshot", nullptr, load_snapshot, nullptr, nullptr, nullptr, napi_enumerable, nullptr}};
  (void)napi_define_properties(env, exports, 3, methods);
  register_evm_tests(env, exports);
  zg::register_precompile(env, exports);
  zg::register_sign(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(evm, init)
