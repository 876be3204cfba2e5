// Binding of native/infer: checks arguments, calls, returns. lib/infer/native.ts is its only caller.
//
//   info()                          {cpu, paths}: the level in use, and all of this machine
//   open(path, options, onEvents)   a model in a promise, checked and mapped on a worker thread; options.backend: of infer_cuda.node, else
//                                   the CPU computes; cacheBytes 0: what is left of the devices; devices, shares, deviceLayers, hostBytes:
//                                   backend.h
//     .info                         what the file says
//     .submit(request)              queues a request; its id, or -1 queue full, -2 larger than the cache, -3 closed, -4 the device failed
//     .cancel(id)
//     .loadAdapter(path)            a change to the weights (cpu/adapter.h), in a promise: {id, name, rank, bytes}; requests name the id
//     .evaluate(tokens, chunk, cpu, floats, adapters, from) logits of every position from `from` on in a promise, tokens fed in chunks (tests and checks; floats: keys and values kept so)
//     .fault()                      why the device is of no use any more, or ''
//     .stats()                      counts of scheduler.h's Stats
//     .close()                      ends the thread and unmaps the file, in a promise
//   Tokenizer                       see tokenizer_napi.cpp
//
// onEvents(words) is called with what happened since its last call, a Uint32Array of records:
//   id · finish (scheduler.h) · 1 with a token · token · failed layer · 1 with a logprob · its float's bits · count · cached tokens ·
//   1 with digests · count × (id, bits) · with digests: 8 words of the state's, 8 of the running hash
#include <napi.h>

#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "cpu/engine.h"
#include "gguf.h"
#include "gguf_napi.h"
#include "infer_args.h"
#include "infer_places.h"
#include "model_files_napi.h"
#include "promise_worker.h"
#include "scheduler.h"
#include "tensor_type.h"
#include "tokenizer_napi.h"

namespace {

namespace gguf = zg::gguf;
using namespace zg::infer;
using namespace zg::infer_args;
using zg::det::Model;

// Chosen at load. Never null afterwards.
const ZgLevel* level_in_use = nullptr;

constexpr uint32_t kMaxThreads = 64;
// Numbers of cores are below this: what a set of the system's holds.
constexpr uint32_t kMaxCores = 1'024;
constexpr uint32_t kMaxAlternatives = 20;
// Of one request, and of one model.
constexpr uint32_t kMaxAdapters = 8;
constexpr size_t kMaxLoadedAdapters = 256;
constexpr uint64_t kMaxEvaluateBytes = uint64_t{256} << 20;
constexpr size_t kMaxNameBytes = 1'024;
// The draft model's cache is at most this part of the model's.
constexpr uint64_t kDraftCachePart = 4;
// Of a draft model on a device whose cache takes what is left.
constexpr uint64_t kDraftCacheBytes = uint64_t{512} << 20;

// A level by name, or nullptr. ZG_CPU names a path of the codec as well, of which `avx512vl` is none here: the widest is taken.
const ZgLevel* level_of(const std::string& name) {
  if (name == "avx512vl" && zg::cpu::level_by_name("avx512") == nullptr) return zg::cpu::level_by_name("avx2");
  return zg::cpu::level_by_name(name == "avx512vl" ? "avx512" : name.c_str());
}

// A running model. Lives until the last of its functions is collected; close() frees what is large before that. All on the
// JavaScript thread, except notify().
class Engine : public std::enable_shared_from_this<Engine> {
 public:
  Engine(std::unique_ptr<Backend> engine, std::unique_ptr<Backend> draft, const zg::cpu::Options& options)
      : model_(engine->model()),
        level_(options.level),
        threads_(options.threads),
        name_(engine->name()),
        placement_(engine->placement()),
        adapts_(engine->adapts()),
        engine_(std::move(engine)),
        draft_(std::move(draft)) {}

  ~Engine() {
    unhook();
    scheduler_.reset();
    release_events();
  }

  bool start(Napi::Env env, const Napi::Function& on_events, const Limits& limits) {
    auto* context = new std::weak_ptr<Engine>(weak_from_this());
    events_ = Events::New(env, on_events, "zg:infer", 1, 1, context,
                          [](Napi::Env, void*, std::weak_ptr<Engine>* c) { delete c; }, static_cast<void*>(nullptr));
    if (env.IsExceptionPending()) return false;
    has_events_ = true;
    // An idle model does not keep the process alive.
    events_.Unref(env);
    // Registered behind the function's own hook, so it runs before it.
    hooked_ = napi_add_env_cleanup_hook(env, leave, this) == napi_ok;
    env_ = env;
    limits_ = limits;
    scheduler_ = std::make_unique<Scheduler>(std::move(engine_), std::move(draft_), limits, [this] { notify(); });
    return hooked_ && scheduler_->start();
  }

  Submitted submit(Request request, uint32_t* id) {
    if (closing_) return Submitted::kStopped;
    const Submitted s = scheduler_->submit(std::move(request), id);
    if (s == Submitted::kYes && open_requests_++ == 0) events_.Ref(env_);
    return s;
  }

  // Requests that run get no more events.
  void begin_close() {
    closing_ = true;
    if (open_requests_ > 0) events_.Unref(env_);
    open_requests_ = 0;
  }

  void end_close() {
    unhook();
    scheduler_.reset();
    release_events();
    checks_.reset();
    model_.reset();
  }

  // An engine of its own for checks, of this level; one check at a time holds it. nullptr: no memory.
  struct Checks {
    std::mutex mutex;
    std::unique_ptr<zg::cpu::Engine> engine;
  };
  const std::shared_ptr<Checks>& checks() const { return checks_; }
  // Changes to the weights that requests may name by their index here.
  std::vector<std::shared_ptr<const zg::cpu::Adapter>>& adapters() { return adapters_; }
  const std::vector<std::shared_ptr<const zg::cpu::Adapter>>& adapters() const { return adapters_; }
  // Of checks, and of the forward pass where that is the CPU's.
  const ZgLevel& level() const { return *level_; }
  // Where the forward pass runs.
  const std::string& name() const { return name_; }
  const std::string& placement() const { return placement_; }
  bool adapts() const { return adapts_; }
  unsigned threads() const { return threads_; }

  bool closing() const { return closing_; }
  Scheduler& scheduler() { return *scheduler_; }
  const std::shared_ptr<const Model>& model() const { return model_; }
  const Limits& limits() const { return limits_; }

 private:
  // On the scheduler's thread. One call at most is under way: take() empties what is there.
  void notify() { events_.NonBlockingCall(); }

  void release_events() {
    if (has_events_) events_.Release();
    has_events_ = false;
  }

  void unhook() {
    if (hooked_) napi_remove_env_cleanup_hook(env_, leave, this);
    hooked_ = false;
  }

  // The environment ends: its thread-safe function is gone after this, so the thread must be too.
  static void leave(void* self) {
    auto* engine = static_cast<Engine*>(self);
    engine->hooked_ = false;
    engine->has_events_ = false;
    engine->closing_ = true;
    if (engine->scheduler_ != nullptr) engine->scheduler_->stop();
  }

  static void deliver(Napi::Env env, Napi::Function callback, std::weak_ptr<Engine>* context, void*) {
    // What is left in the queue when the environment ends comes without one, and the context is gone already.
    if (static_cast<napi_env>(env) == nullptr || callback.IsEmpty()) return;
    const std::shared_ptr<Engine> engine = context->lock();
    if (engine == nullptr || engine->closing_) return;
    std::vector<uint32_t> words;
    for (const Event& e : engine->scheduler_->take()) {
      words.insert(words.end(), {e.request, static_cast<uint32_t>(e.finish), e.has_token ? 1u : 0u, e.token, e.failed_layer,
                                 e.has_logprob ? 1u : 0u, std::bit_cast<uint32_t>(e.logprob), static_cast<uint32_t>(e.best.size()), e.cached,
                                 e.has_trace ? 1u : 0u});
      for (const Alternative& a : e.best) words.insert(words.end(), {a.id, std::bit_cast<uint32_t>(a.logprob)});
      if (e.has_trace) {
        for (const Digest* d : {&e.hidden, &e.running}) {
          uint32_t part[8];
          std::memcpy(part, d->data(), sizeof part);
          words.insert(words.end(), part, part + 8);
        }
      }
      if (e.finish != Finish::kNone && --engine->open_requests_ == 0) engine->events_.Unref(env);
    }
    if (words.empty()) return;
    // The plain C interface: a worker that is being ended refuses every call, and the wrappers would end the process for that. An
    // exception of the callback stays pending, and Node makes it an uncaught one.
    void* data = nullptr;
    napi_value buffer;
    napi_value array;
    napi_value self;
    const size_t bytes = words.size() * sizeof(uint32_t);
    if (napi_create_arraybuffer(env, bytes, &data, &buffer) != napi_ok) return;
    std::memcpy(data, words.data(), bytes);
    if (napi_create_typedarray(env, napi_uint32_array, words.size(), buffer, 0, &array) != napi_ok) return;
    if (napi_get_undefined(env, &self) != napi_ok) return;
    napi_call_function(env, self, callback, 1, &array, nullptr);
  }

  using Events = Napi::TypedThreadSafeFunction<std::weak_ptr<Engine>, void, deliver>;

  std::shared_ptr<const Model> model_;
  const ZgLevel* level_;
  unsigned threads_;
  std::string name_;
  std::string placement_;
  bool adapts_;
  // Until it starts.
  std::unique_ptr<Backend> engine_;
  std::unique_ptr<Backend> draft_;
  std::shared_ptr<Checks> checks_ = std::make_shared<Checks>();
  std::vector<std::shared_ptr<const zg::cpu::Adapter>> adapters_;
  Limits limits_;
  Events events_;
  napi_env env_ = nullptr;
  bool has_events_ = false;
  bool hooked_ = false;
  bool closing_ = false;
  uint64_t open_requests_ = 0;
  std::unique_ptr<Scheduler> scheduler_;
};

const char* sampling_of(const Napi::Object& o, uint32_t vocabulary, SamplingOptions* out) {
  double top_k = 0;
  if (!float_of(o, "temperature", 0, 1000, &out->temperature)) return "temperature is from 0 to 1000";
  if (!float_of(o, "topP", 0, 1, &out->top_p)) return "topP is from 0 to 1";
  if (!float_of(o, "minP", 0, 1, &out->min_p)) return "minP is from 0 to 1";
  if (!number_of(o.Get("topK"), 0, UINT32_MAX, &top_k)) return "topK is a whole number, 0 for all";
  if (!float_of(o, "repetitionPenalty", 0.01, 100, &out->repetition_penalty)) return "repetitionPenalty is from 0.01 to 100";
  if (!float_of(o, "frequencyPenalty", -100, 100, &out->frequency_penalty)) return "frequencyPenalty is from -100 to 100";
  if (!float_of(o, "presencePenalty", -100, 100, &out->presence_penalty)) return "presencePenalty is from -100 to 100";
  out->top_k = static_cast<uint32_t>(top_k);
  if (!o.Get("typicalP").IsUndefined() && !float_of(o, "typicalP", 0, 1, &out->typical_p)) return "typicalP is from 0 to 1";
  double choice = 0;
  if (!optional_number(o, "choice", 0, UINT32_MAX, &choice)) return "choice is a whole number";
  out->choice = static_cast<uint32_t>(choice);
  bool lossless = false;
  if (!o.Get("seed").IsBigInt()) return "seed is a bigint";
  out->seed = o.Get("seed").As<Napi::BigInt>().Uint64Value(&lossless);
  if (!lossless) return "seed has at most 64 bits";
  std::vector<uint32_t> ids;
  const Napi::Value values = o.Get("biasValues");
  if (!ids_of(o.Get("biasIds"), vocabulary, &ids) || !values.IsTypedArray() ||
      values.As<Napi::TypedArray>().TypedArrayType() != napi_float32_array ||
      values.As<Napi::TypedArray>().ElementLength() != ids.size()) {
    return "the biases are ids of the vocabulary and as many floats";
  }
  const float* bias = values.As<Napi::Float32Array>().Data();
  for (size_t i = 0; i < ids.size(); i++) {
    if (!(std::fabs(bias[i]) <= 1000)) return "a bias is from -1000 to 1000";
    out->bias.emplace_back(ids[i], bias[i]);
  }
  return nullptr;
}

// Adapters from pairs [id, strength], in this order; an absent value is none. salt, where there is one, is made that of exactly these.
const char* adapters_of(const Napi::Value& value, const Engine& engine, std::shared_ptr<const zg::cpu::AdapterSet>* out, std::string* salt) {
  constexpr const char* kFault = "adapters are up to 8 pairs of an id and a strength from -100 to 100";
  if (value.IsUndefined()) return nullptr;
  if (!value.IsArray() || value.As<Napi::Array>().Length() > kMaxAdapters) return kFault;
  const auto list = value.As<Napi::Array>();
  auto set = std::make_shared<zg::cpu::AdapterSet>();
  for (uint32_t i = 0; i < list.Length(); i++) {
    const Napi::Value item = list.Get(i);
    if (!item.IsArray()) return kFault;
    const auto pair = item.As<Napi::Array>();
    const Napi::Value strength = pair.Get(1u);
    double id = 0;
    if (!strength.IsNumber() || !(std::fabs(strength.As<Napi::Number>().DoubleValue()) <= 100)) return kFault;
    if (!number_of(pair.Get(0u), 0, UINT32_MAX, &id) || id >= static_cast<double>(engine.adapters().size())) return "no such adapter";
    const auto index = static_cast<size_t>(id);
    const float factor = strength.As<Napi::Number>().FloatValue();
    // Without effect; and pages that others computed without it stay good.
    if (factor == 0) continue;
    set->push_back({engine.adapters()[index], factor});
    if (salt != nullptr) *salt += "+" + std::to_string(index) + "x" + std::to_string(std::bit_cast<uint32_t>(factor));
  }
  if (!set->empty()) *out = std::move(set);
  return nullptr;
}

const char* request_of(const Napi::Value& value, const Engine& engine, Request* out) {
  if (!value.IsObject()) return "a request is an object";
  const auto o = value.As<Napi::Object>();
  const uint32_t vocabulary = engine.model()->vocabulary;
  if (!ids_of(o.Get("prompt"), vocabulary, &out->prompt) || out->prompt.empty() ||
      out->prompt.size() > engine.limits().context) {
    return "the prompt is an Int32Array of 1 id to the context's length, each in the vocabulary";
  }
  double n = 0;
  if (!number_of(o.Get("maxTokens"), 1, UINT32_MAX, &n)) return "maxTokens is a whole number from 1 on";
  out->max_tokens = static_cast<uint32_t>(n);
  if (o.Has("forced")) {
    if (!ids_of(o.Get("forced"), vocabulary, &out->forced) || out->forced.empty() ||
        out->prompt.size() + out->forced.size() > size_t{engine.limits().context} + 1) {
      return "forced tokens are an Int32Array of ids in the vocabulary that the context has room for";
    }
    out->max_tokens = static_cast<uint32_t>(out->forced.size());
  }
  if (o.Get("account").IsString()) out->account = o.Get("account").As<Napi::String>().Utf8Value();
  if (o.Get("salt").IsString()) out->salt = o.Get("salt").As<Napi::String>().Utf8Value();
  if (out->account.size() > kMaxNameBytes || (out->salt && out->salt->size() > kMaxNameBytes)) return "account and salt have at most 1024 bytes";
  if (const char* fault = adapters_of(o.Get("adapters"), engine, &out->adapters, out->salt ? &*out->salt : nullptr)) return fault;
  if (o.Get("lookUp").IsBoolean()) out->look_up = o.Get("lookUp").As<Napi::Boolean>().Value();
  const Napi::Value trace = o.Get("trace");
  if (!trace.IsUndefined()) {
    if (!trace.IsTypedArray() || trace.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array ||
        trace.As<Napi::TypedArray>().ByteLength() != sizeof(Digest)) {
      return "trace is the 32 bytes that the running hash starts with";
    }
    std::memcpy(out->trace.emplace().data(), trace.As<Napi::Uint8Array>().Data(), sizeof(Digest));
  }
  if (!ids_of(o.Get("endIds"), vocabulary, &out->end_ids)) return "endIds are an Int32Array of ids in the vocabulary";
  // -1: none wanted.
  if (!number_of(o.Get("logprobs"), -1, kMaxAlternatives, &n)) return "logprobs are from 0 to 20, or -1 for none";
  out->logprobs = n >= 0;
  out->alternatives = n > 0 ? static_cast<uint32_t>(n) : 0;
  out->prompt_logprobs = o.Get("promptLogprobs").ToBoolean();
  n = 0;
  if (!optional_number(o, "pooling", 0, 2, &n)) return "pooling is 0 (none), 1 (mean) or 2 (last)";
  out->pooling = static_cast<Request::Pooling>(static_cast<int>(n));
  n = UINT32_MAX;
  if (!optional_number(o, "outputFrom", 0, UINT32_MAX, &n)) return "outputFrom is an index of the prompt, or behind it";
  out->output_from = static_cast<uint32_t>(n);
  if (const char* fault = sampling_of(o, vocabulary, &out->sampling)) return fault;
  n = 0;
  if (!optional_number(o, "minTokens", 0, UINT32_MAX, &n)) return "minTokens is a whole number";
  out->sampling.min_tokens = static_cast<uint32_t>(n);
  out->sampling.end_ids = out->end_ids;
  // The last token is drawn at the context's last position.
  const auto room = static_cast<uint32_t>(engine.limits().context + 1 - out->prompt.size());
  out->sampling.budget = std::min(out->max_tokens, room);
  if (o.Get("grammar").IsUndefined()) return nullptr;
  out->sampling.grammar = grammar_of(o.Get("grammar"), vocabulary);
  return out->sampling.grammar == nullptr ? "grammar was not compiled for this vocabulary" : nullptr;
}

// Logits of all positions, for tests and checks: its own pass beside the running ones.
class EvaluateWorker final : public PromiseWorker {
 public:
  EvaluateWorker(Napi::Env env, const Engine& engine, const ZgLevel& level, std::vector<uint32_t> tokens, size_t chunk, bool floats,
                 std::shared_ptr<const zg::cpu::AdapterSet> adapters, size_t from)
      : PromiseWorker(env, "zg:evaluate"),
        checks_(engine.checks()),
        model_(engine.model()),
        level_(level),
        tokens_(std::move(tokens)),
        chunk_(chunk),
        floats_(floats),
        adapters_(std::move(adapters)),
        first_(from) {}

 protected:
  void Execute() override {
    const std::lock_guard lock(checks_->mutex);
    std::unique_ptr<zg::cpu::Engine>& engine = checks_->engine;
    if (engine == nullptr || &engine->level() != &level_ || engine->pages().shape().floats != floats_) {
      zg::cpu::Options options;
      options.level = &level_;
      options.pages = UINT32_MAX;
      options.float_cache = floats_;
      std::string error;
      engine.reset();
      engine = zg::cpu::Engine::load(model_, options, &error);
      if (engine == nullptr) return SetError(error);
    }
    zg::cpu::Sequence sequence(&engine->pages());
    if (!sequence.reserve(static_cast<uint32_t>(tokens_.size()))) return SetError("no memory for the keys and values");
    const size_t vocabulary = model_->vocabulary;
    logits_.resize((tokens_.size() - first_) * vocabulary);
    std::vector<zg::cpu::Row> rows;
    for (size_t from = 0; from < tokens_.size(); from += chunk_) {
      rows.clear();
      for (size_t i = from; i < std::min(from + chunk_, tokens_.size()); i++) {
        rows.push_back({.sequence = &sequence, .position = static_cast<uint32_t>(i), .token = tokens_[i], .wants_logits = i >= first_, .adapters = adapters_.get()});
      }
      if (!engine->run(&rows)) return SetError("no memory");
      for (const zg::cpu::Row& row : rows) {
        if (row.position < first_ && row.failed_layer == 0) continue;
        if (row.logits == nullptr) {
          return SetError("values stop being finite in layer " + std::to_string(row.failed_layer));
        }
        std::memcpy(logits_.data() + (row.position - first_) * vocabulary, row.logits, vocabulary * sizeof(float));
      }
    }
  }

  Napi::Value result(Napi::Env env) override {
    Napi::Float32Array out = Napi::Float32Array::New(env, logits_.size());
    if (env.IsExceptionPending()) return env.Undefined();
    std::memcpy(out.Data(), logits_.data(), logits_.size() * sizeof(float));
    return out;
  }

 private:
  std::shared_ptr<Engine::Checks> checks_;
  std::shared_ptr<const Model> model_;
  const ZgLevel& level_;
  std::vector<uint32_t> tokens_;
  size_t chunk_;
  bool floats_;
  std::shared_ptr<const zg::cpu::AdapterSet> adapters_;
  size_t first_;
  std::vector<float> logits_;
};

Napi::Value evaluate(const Napi::CallbackInfo& info, Engine& engine) {
  const Napi::Env env = info.Env();
  if (engine.closing()) return fail(env, "evaluate: the model is closed");
  std::vector<uint32_t> tokens;
  double chunk = 0;
  if (info.Length() < 2 || !ids_of(info[0], engine.model()->vocabulary, &tokens) || tokens.empty() ||
      tokens.size() > engine.model()->context || !number_of(info[1], 1, 4096, &chunk)) {
    return fail(env, "evaluate: an Int32Array of ids within the context and a chunk of 1 to 4096 wanted");
  }
  double from = 0;
  if (info.Length() > 5 && info[5].IsNumber() && !number_of(info[5], 0, static_cast<double>(tokens.size() - 1), &from)) {
    return fail(env, "evaluate: the first position wanted is not one of the tokens'");
  }
  const size_t wanted = tokens.size() - static_cast<size_t>(from);
  if (wanted * engine.model()->vocabulary * sizeof(float) > kMaxEvaluateBytes) {
    return fail(env, "evaluate: the logits take more than 256 MiB");
  }
  const ZgLevel* level = &engine.level();
  if (info.Length() > 2 && info[2].IsString()) level = level_of(info[2].As<Napi::String>().Utf8Value().c_str());
  if (level == nullptr) return fail(env, "evaluate: this machine lacks the path");
  const bool floats = info.Length() > 3 && info[3].IsBoolean() && info[3].As<Napi::Boolean>().Value();
  std::shared_ptr<const zg::cpu::AdapterSet> adapters;
  if (info.Length() > 4) {
    if (const char* fault = adapters_of(info[4], engine, &adapters, nullptr)) return fail(env, fault);
  }
  auto* worker = new EvaluateWorker(env, engine, *level, std::move(tokens), static_cast<size_t>(chunk), floats, std::move(adapters),
                                    static_cast<size_t>(from));
  const Napi::Promise promise = worker->promise();
  worker->Queue();
  return promise;
}

class AdapterWorker final : public PromiseWorker {
 public:
  AdapterWorker(Napi::Env env, std::shared_ptr<Engine> engine, std::string path)
      : PromiseWorker(env, "zg:adapter"), engine_(std::move(engine)), model_(engine_->model()), path_(std::move(path)) {}

 protected:
  void Execute() override {
    gguf::Error error;
    adapter_ = zg::cpu::Adapter::open(path_.c_str(), *model_, &error);
    if (adapter_ == nullptr) SetError(error.message);
  }

  Napi::Value result(Napi::Env env) override {
    auto& all = engine_->adapters();
    if (engine_->closing() || all.size() >= kMaxLoadedAdapters) return fail(env, "the model is closed, or has 256 adapters");
    Napi::Object o = Napi::Object::New(env);
    o.Set("id", static_cast<uint32_t>(all.size()));
    o.Set("name", text_of(env, adapter_->name()));
    o.Set("rank", adapter_->rank());
    o.Set("bytes", static_cast<double>(adapter_->bytes()));
    all.push_back(std::move(adapter_));
    return o;
  }

 private:
  std::shared_ptr<Engine> engine_;
  std::shared_ptr<const Model> model_;
  std::string path_;
  std::shared_ptr<const zg::cpu::Adapter> adapter_;
};

class CloseWorker final : public PromiseWorker {
 public:
  CloseWorker(Napi::Env env, std::shared_ptr<Engine> engine) : PromiseWorker(env, "zg:close"), engine_(std::move(engine)) {}

 protected:
  void Execute() override { engine_->scheduler().stop(); }
  Napi::Value result(Napi::Env env) override {
    engine_->end_close();
    return env.Undefined();
  }

 private:
  std::shared_ptr<Engine> engine_;
};

Napi::Object describe(Napi::Env env, const Engine& engine) {
  const Model& m = *engine.model();
  Napi::Object o = Napi::Object::New(env);
  o.Set("name", text_of(env, m.name));
  o.Set("architecture", m.architecture.name);
  o.Set("parameters", static_cast<double>(m.parameters));
  o.Set("fileBytes", static_cast<double>(m.file->size()));
  o.Set("trainedContext", m.context);
  o.Set("contextLength", engine.limits().context);
  o.Set("embeddingLength", m.width);
  o.Set("layers", static_cast<uint32_t>(m.layers.size()));
  o.Set("vocabularySize", m.vocabulary);
  o.Set("cpu", engine.name());
  o.Set("placement", engine.placement());
  o.Set("threads", engine.threads());
  Napi::Array warnings = Napi::Array::New(env, m.warnings.size());
  for (uint32_t i = 0; i < m.warnings.size(); i++) warnings.Set(i, m.warnings[i]);
  o.Set("warnings", warnings);
  return o;
}

// The object that stands for a model; its functions share the engine.
Napi::Object model_object(Napi::Env env, const std::shared_ptr<Engine>& engine) {
  Napi::Object o = Napi::Object::New(env);
  o.Set("info", describe(env, *engine));
  o.Set("submit", Napi::Function::New(env, [engine](const Napi::CallbackInfo& info) -> Napi::Value {
          if (engine->closing()) return Napi::Number::New(info.Env(), -3);
          Request request;
          if (info.Length() < 1) return fail(info.Env(), "submit: a request wanted");
          if (const char* fault = request_of(info[0], *engine, &request)) return fail(info.Env(), fault);
          uint32_t id = 0;
          switch (engine->submit(std::move(request), &id)) {
            case Submitted::kYes:
              return Napi::Number::New(info.Env(), id);
            case Submitted::kQueueFull:
              return Napi::Number::New(info.Env(), -1);
            case Submitted::kTooLarge:
              return Napi::Number::New(info.Env(), -2);
            case Submitted::kDeviceLost:
              return Napi::Number::New(info.Env(), -4);
            default:
              return Napi::Number::New(info.Env(), -3);
          }
        }));
  o.Set("cancel", Napi::Function::New(env, [engine](const Napi::CallbackInfo& info) -> Napi::Value {
          double id = 0;
          if (info.Length() < 1 || !number_of(info[0], 1, UINT32_MAX, &id)) return fail(info.Env(), "cancel: an id wanted");
          if (!engine->closing()) engine->scheduler().cancel(static_cast<uint32_t>(id));
          return info.Env().Undefined();
        }));
  o.Set("loadAdapter", Napi::Function::New(env, [engine](const Napi::CallbackInfo& info) -> Napi::Value {
          if (info.Length() < 1 || !info[0].IsString() || engine->closing()) return fail(info.Env(), "loadAdapter: a path and an open model wanted");
          if (!engine->adapts()) return fail(info.Env(), "the device applies no adapters; the CPU does");
          std::string path = info[0].As<Napi::String>().Utf8Value();
          if (path.find('\0') != std::string::npos) return fail(info.Env(), "loadAdapter: a path has no NUL");
          auto* worker = new AdapterWorker(info.Env(), engine, std::move(path));
          const Napi::Promise promise = worker->promise();
          worker->Queue();
          return promise;
        }));
  o.Set("evaluate",
        Napi::Function::New(env, [engine](const Napi::CallbackInfo& info) -> Napi::Value { return evaluate(info, *engine); }));
  o.Set("fault", Napi::Function::New(env, [engine](const Napi::CallbackInfo& info) -> Napi::Value {
          return text_of(info.Env(), engine->closing() ? std::string() : engine->scheduler().fault());
        }));
  o.Set("stats", Napi::Function::New(env, [engine](const Napi::CallbackInfo& info) -> Napi::Value {
          const Stats s = engine->closing() ? Stats{} : engine->scheduler().stats();
          Napi::Object out = Napi::Object::New(info.Env());
          const auto set = [&](const char* name, uint64_t value) { out.Set(name, static_cast<double>(value)); };
          set("running", s.running);
          set("waiting", s.waiting);
          set("accounts", s.accounts);
          set("pagesUsed", s.pages_used);
          set("pagesIdle", s.pages_idle);
          set("pages", s.pages);
          set("pageBytes", s.page_bytes);
          set("steps", s.steps);
          set("rows", s.rows);
          set("promptTokens", s.prompt_tokens);
          set("cachedTokens", s.cached_tokens);
          set("tokens", s.tokens);
          set("drafted", s.drafted);
          set("accepted", s.accepted);
          set("preempted", s.preempted);
          set("cancelled", s.cancelled);
          set("expired", s.expired);
          out.Set("busySeconds", static_cast<double>(s.busy_ns) / 1e9);
          return out;
        }));
  o.Set("close", Napi::Function::New(env, [engine](const Napi::CallbackInfo& info) -> Napi::Value {
          if (engine->closing()) return fail(info.Env(), "close: closed already");
          engine->begin_close();
          auto* worker = new CloseWorker(info.Env(), engine);
          const Napi::Promise promise = worker->promise();
          worker->Queue();
          return promise;
        }));
  return o;
}

class OpenWorker final : public PromiseWorker {
 public:
  // factory: of other devices, which places says more of, or nullptr for the CPU.
  OpenWorker(Napi::Env env, std::string path, std::string draft, const zg::cpu::Options& options, const BackendFactory* factory,
             BackendOptions places, uint64_t cache_bytes, const Limits& limits, const Napi::Function& on_events)
      : PromiseWorker(env, "zg:open"),
        path_(std::move(path)),
        draft_path_(std::move(draft)),
        options_(options),
        factory_(factory),
        places_(std::move(places)),
        cache_bytes_(cache_bytes),
        limits_(limits),
        on_events_(Napi::Persistent(on_events)) {}

 protected:
  void Execute() override {
    gguf::Error error;
    std::string why;
    // Threads that are started meanwhile have it as well.
    const Placed placed(limits_.placement, &why);
    if (!placed.ok()) return SetError(why);
    std::shared_ptr<const Model> model = Model::open(path_.c_str(), &error);
    if (model == nullptr) return SetError(error.message);
    limits_.context = std::min(limits_.context, model->context);
    const uint32_t vocabulary = model->vocabulary;
    // Weights are read from the file until it is loaded.
    std::shared_ptr<const Model> draft;
    if (!draft_path_.empty()) {
      draft = Model::open(draft_path_.c_str(), &error);
      if (draft == nullptr) return SetError("draft model: " + error.message);
      if (draft->vocabulary != vocabulary) {
        return SetError("the draft model has " + std::to_string(draft->vocabulary) + " tokens, the model " + std::to_string(vocabulary));
      }
      // First: what it leaves of a device is the model's.
      // A small model: on the first device alone.
      BackendOptions places;
      places.devices.assign(1, places_.devices[0]);
      places.host_bytes = places_.host_bytes;
      draft_ = load(draft, std::move(places), cache_bytes_ == 0 ? kDraftCacheBytes : cache_bytes_ / kDraftCachePart, &why);
      if (draft_ == nullptr) return SetError(why);
    }
    engine_ = load(model, places_, cache_bytes_, &why);
    if (engine_ == nullptr) return SetError(why);
    if (!model->file->unchanged()) return SetError("the file was changed while it was read; replace models by renaming");
  }

  Napi::Value result(Napi::Env env) override {
    const auto engine = std::make_shared<Engine>(std::move(engine_), std::move(draft_), options_);
    if (!engine->start(env, on_events_.Value(), limits_)) {
      if (!env.IsExceptionPending()) fail(env, "the engine's thread cannot be started");
      return env.Undefined();
    }
    return model_object(env, engine);
  }

 private:
  std::unique_ptr<Backend> load(std::shared_ptr<const Model> model, BackendOptions o, uint64_t cache_bytes, std::string* why) {
    // Of the CPU, with so many pages; all layers or the first ones.
    const auto open_cpu = [this, model](uint32_t layers, uint32_t pages, std::string* error) -> std::unique_ptr<Backend> {
      zg::cpu::Options own = options_;
      own.layers = layers;
      own.pages = pages;
      std::unique_ptr<zg::cpu::Engine> engine = zg::cpu::Engine::load(model, own, error);
      return engine == nullptr ? nullptr : cpu_backend(std::move(engine));
    };
    if (factory_ == nullptr) {
      const uint64_t pages = cache_bytes / zg::cpu::Engine::page_shape(*model).bytes();
      return open_cpu(UINT32_MAX, static_cast<uint32_t>(std::min<uint64_t>(pages, UINT32_MAX)), why);
    }
    o.positions = limits_.context;
    o.sequences = limits_.running;
    o.threads = options_.threads;
    o.cache_bytes = cache_bytes;
    o.open_first = open_cpu;
    o.first_bytes = [model](uint32_t layers) { return zg::cpu::Engine::weight_bytes(*model, layers); };
    return factory_->open(model, o, why);
  }

  std::string path_;
  std::string draft_path_;
  zg::cpu::Options options_;
  const BackendFactory* factory_;
  BackendOptions places_;
  uint64_t cache_bytes_;
  Limits limits_;
  Napi::FunctionReference on_events_;
  std::unique_ptr<Backend> engine_;
  std::unique_ptr<Backend> draft_;
};

// The factory in an object of infer_cuda.node; nullptr and a fault for anything else.
const char* factory_of(Napi::Env env, const Napi::Value& value, const BackendFactory** out) {
  if (value.IsUndefined()) return nullptr;
  const napi_type_tag tag{kBackendTag[0], kBackendTag[1]};
  bool ours = false;
  void* found = nullptr;
  if (!value.IsObject() || napi_check_object_type_tag(env, value, &tag, &ours) != napi_ok || !ours ||
      napi_unwrap(env, value, &found) != napi_ok) {
    return "open: backend is what infer_cuda.node exports";
  }
  *out = static_cast<const BackendFactory*>(found);
  return (*out)->fits() ? nullptr : "open: infer_cuda.node is of another build than infer.node";
}

Napi::Value open(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (info.Length() < 3 || !info[0].IsString() || !info[1].IsObject() || !info[2].IsFunction()) {
    return fail(env, "open: a path, options and a function for events wanted");
  }
  const auto options = info[1].As<Napi::Object>();
  double threads = 0;
  double context = 0;
  double cache = 0;
  double waiting = 0;
  double running = 0;
  double patience = 0;
  BackendOptions places;
  const BackendFactory* factory = nullptr;
  if (const char* fault = factory_of(env, options.Get("backend"), &factory)) return fail(env, fault);
  if (const char* fault = places_of(options, &places)) return fail(env, fault);
  if (!number_of(options.Get("threads"), 1, kMaxThreads, &threads) ||
      !number_of(options.Get("contextLength"), 1, UINT32_MAX, &context) ||
      !number_of(options.Get("cacheBytes"), factory == nullptr ? 1 : 0, 9007199254740991.0, &cache) ||
      !number_of(options.Get("waiting"), 1, 1 << 20, &waiting) || !number_of(options.Get("running"), 1, 1024, &running) ||
      (options.Has("patienceMs") && !number_of(options.Get("patienceMs"), 0, UINT32_MAX, &patience))) {
    return fail(env, "open: threads (1 to 64), contextLength, cacheBytes, waiting, running and patienceMs wanted");
  }
  Limits limits;
  limits.context = static_cast<uint32_t>(context);
  limits.waiting = static_cast<uint32_t>(waiting);
  limits.running = static_cast<uint32_t>(running);
  limits.patience_ms = static_cast<uint32_t>(patience);
  zg::cpu::Options engine;
  engine.threads = static_cast<unsigned>(threads);
  limits.threads = engine.threads;
  engine.pin = options.Get("pin").ToBoolean();
  if (options.Has("cpus")) {
    if (!ids_of(options.Get("cpus"), kMaxCores, &engine.cpus)) return fail(env, "open: cpus are numbers of cores");
    if (!zg::cpu::Workers::may_use(engine.cpus)) return fail(env, "open: there are cores among the cpus that this process may not use");
  }
  if (options.Has("nodes")) {
    if (!ids_of(options.Get("nodes"), kMaxCores, &limits.placement.nodes)) return fail(env, "open: nodes are numbers of memory nodes");
    limits.placement.mode = options.Get("interleave").ToBoolean() ? Placement::Mode::kInterleave : Placement::Mode::kBind;
  }
  engine.level = level_in_use;
  if (options.Get("cpu").IsString()) engine.level = level_of(options.Get("cpu").As<Napi::String>().Utf8Value());
  if (engine.level == nullptr) return fail(env, "open: this machine lacks the path");
  std::string path = info[0].As<Napi::String>().Utf8Value();
  if (path.find('\0') != std::string::npos) return fail(env, "open: a path has no NUL");
  std::string draft = options.Get("draft").IsString() ? options.Get("draft").As<Napi::String>().Utf8Value() : "";
  if (draft.find('\0') != std::string::npos) return fail(env, "open: a path has no NUL");
  auto* worker = new OpenWorker(env, std::move(path), std::move(draft), engine, factory, std::move(places), static_cast<uint64_t>(cache), limits,
                                info[2].As<Napi::Function>());
  const Napi::Promise promise = worker->promise();
  worker->Queue();
  return promise;
}

Napi::Value info(const Napi::CallbackInfo& call) {
  const Napi::Env env = call.Env();
  Napi::Object o = Napi::Object::New(env);
  o.Set("cpu", level_in_use->name);
  Napi::Array paths = Napi::Array::New(env);
  for (const ZgLevel* const* k = zg::cpu::available_levels(); *k != nullptr; k++) paths.Set(paths.Length(), (*k)->name);
  o.Set("paths", paths);
  return o;
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  const char* wanted = std::getenv("ZG_CPU");
  const std::string name = wanted == nullptr ? "" : wanted;
  level_in_use = level_of(name);
  if (level_in_use == nullptr) {
    Napi::Error::New(env, "ZG_CPU names '" + name + "', which this machine lacks").ThrowAsJavaScriptException();
    return exports;
  }
  exports.Set("info", Napi::Function::New(env, info));
  exports.Set("open", Napi::Function::New(env, open));
  initGguf(env, exports);
  initModelFiles(env, exports);
  initTokenizer(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(infer, init)
