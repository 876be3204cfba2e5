// The addon infer_cuda.node: the deterministic engine on CUDA devices (native/infer/cuda). It has no CUDA library to load, so it loads on
// any machine and says there that it has no device. Work runs on libuv's pool; a model does one thing at a time.
#include <napi.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "../infer/cuda/device.h"
#include "../infer/cuda/engine.h"

namespace {

using namespace zg;

// Rows of a step and positions of a sequence at most.
constexpr double kMaxRows = 4'096;
constexpr double kMaxPositions = 1 << 20;

struct Opened {
  std::unique_ptr<det::Model> model;
  std::unique_ptr<simt::Engine> engine;
  std::atomic<bool> busy{false};
};

Napi::Value fail(Napi::Env env, const std::string& message) {
  Napi::TypeError::New(env, message).ThrowAsJavaScriptException();
  return env.Undefined();
}

class Worker : public Napi::AsyncWorker {
 public:
  explicit Worker(Napi::Env env) : AsyncWorker(env), deferred_(Napi::Promise::Deferred::New(env)) {}
  Napi::Promise promise() { return deferred_.Promise(); }
  void OnOK() override { deferred_.Resolve(result(Env())); }
  void OnError(const Napi::Error& e) override { deferred_.Reject(e.Value()); }
  virtual Napi::Value result(Napi::Env env) = 0;

 private:
  Napi::Promise::Deferred deferred_;
};

Napi::Value queue(Worker* worker) {
  const Napi::Promise promise = worker->promise();
  worker->Queue();
  return promise;
}

class OpenWorker : public Worker {
 public:
  OpenWorker(Napi::Env env, std::string path, simt::EngineOptions options)
      : Worker(env), path_(std::move(path)), options_(options), opened_(std::make_shared<Opened>()) {}

  void Execute() override {
    gguf::Error error;
    opened_->model = det::Model::open(path_.c_str(), &error);
    if (opened_->model == nullptr) return SetError(error.message);
    if (options_.positions > opened_->model->context) options_.positions = opened_->model->context;
    std::string why;
    opened_->engine = simt::Engine::open(*opened_->model, options_, &why);
    if (opened_->engine == nullptr) SetError(why);
  }

  Napi::Value result(Napi::Env env) override {
    Napi::Object o = Napi::Object::New(env);
    auto* held = new std::shared_ptr<Opened>(opened_);
    o.Set("handle", Napi::External<std::shared_ptr<Opened>>::New(env, held, [](Napi::Env, std::shared_ptr<Opened>* p) { delete p; }));
    o.Set("device", opened_->engine->device_name());
    o.Set("deviceBytes", static_cast<double>(opened_->engine->device_bytes()));
    o.Set("weightBytes", static_cast<double>(opened_->engine->weight_bytes()));
    o.Set("vocabularySize", opened_->model->vocabulary);
    o.Set("width", opened_->model->width);
    o.Set("positions", options_.positions);
    return o;
  }

 private:
  std::string path_;
  simt::EngineOptions options_;
  std::shared_ptr<Opened> opened_;
};

class StepWorker : public Worker {
 public:
  StepWorker(Napi::Env env, std::shared_ptr<Opened> opened, std::vector<det::Row> rows)
      : Worker(env), opened_(std::move(opened)), rows_(std::move(rows)) {}
  ~StepWorker() override { opened_->busy = false; }

  void Execute() override {
    if (!opened_->engine->run(rows_, &logits_, &hidden_, &failed_, &best_)) SetError(opened_->engine->error());
  }

  Napi::Value result(Napi::Env env) override {
    Napi::Object o = Napi::Object::New(env);
    o.Set("logits", floats(env, logits_));
    o.Set("hidden", floats(env, hidden_));
    o.Set("failedLayers", words(env, failed_));
    o.Set("best", words(env, best_));
    o.Set("milliseconds", opened_->engine->step_ms());
    return o;
  }

 private:
  static Napi::Value floats(Napi::Env env, const std::vector<float>& v) {
    Napi::Float32Array out = Napi::Float32Array::New(env, v.size());
    std::copy(v.begin(), v.end(), out.Data());
    return out;
  }
  static Napi::Value words(Napi::Env env, const std::vector<uint32_t>& v) {
    Napi::Uint32Array out = Napi::Uint32Array::New(env, v.size());
    std::copy(v.begin(), v.end(), out.Data());
    return out;
  }

  std::shared_ptr<Opened> opened_;
  std::vector<det::Row> rows_;
  std::vector<float> logits_, hidden_;
  std::vector<uint32_t> failed_, best_;
};

Napi::Value devices(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  std::string why;
  const std::vector<simt::DeviceInfo> all = simt::list_devices(&why);
  Napi::Object o = Napi::Object::New(env);
  Napi::Array list = Napi::Array::New(env);
  for (const simt::DeviceInfo& d : all) {
    Napi::Object one = Napi::Object::New(env);
    one.Set("name", d.name);
    one.Set("memoryBytes", static_cast<double>(d.memory_bytes));
    one.Set("capability", std::to_string(d.capability / 10) + "." + std::to_string(d.capability % 10));
    list.Set(list.Length(), one);
  }
  o.Set("devices", list);
  if (all.empty()) o.Set("why", why);
  return o;
}

// False: not an integer from 1 (0 for the device) to most. Absent: the default stays.
bool option(const Napi::Object& o, const char* name, double least, double most, uint32_t* out) {
  const Napi::Value v = o.Get(name);
  if (v.IsUndefined()) return true;
  if (!v.IsNumber()) return false;
  const double d = v.As<Napi::Number>().DoubleValue();
  if (!(d >= least && d <= most)) return false;
  *out = static_cast<uint32_t>(d);
  return true;
}

Napi::Value open(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (info.Length() < 2 || !info[0].IsString() || !info[1].IsObject()) return fail(env, "open: a path and options wanted");
  simt::EngineOptions options;
  const auto o = info[1].As<Napi::Object>();
  if (!option(o, "device", 0, 64, &options.device) || !option(o, "positions", 1, kMaxPositions, &options.positions) ||
      !option(o, "sequences", 1, kMaxRows, &options.sequences) || !option(o, "rows", 1, kMaxRows, &options.rows) ||
      !option(o, "pages", 1, UINT32_MAX, &options.pages)) {
    return fail(env, "open: device, positions, sequences, rows and pages must be whole numbers within their bounds");
  }
  return queue(new OpenWorker(env, info[0].As<Napi::String>().Utf8Value(), options));
}

std::shared_ptr<Opened> handle_of(const Napi::Value& v) {
  return v.IsExternal() ? *v.As<Napi::External<std::shared_ptr<Opened>>>().Data() : nullptr;
}

// step(handle, rows): four words a row: sequence, position, token, 1 where logits are wanted.
Napi::Value step(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (info.Length() < 2 || !info[1].IsTypedArray() || info[1].As<Napi::TypedArray>().TypedArrayType() != napi_uint32_array) {
    return fail(env, "step: a handle and a Uint32Array wanted");
  }
  const std::shared_ptr<Opened> opened = handle_of(info[0]);
  if (opened == nullptr || opened->engine == nullptr) return fail(env, "step: the model is closed");
  const auto words = info[1].As<Napi::Uint32Array>();
  if (words.ElementLength() % 4 != 0 || words.ElementLength() > 4 * kMaxRows) return fail(env, "step: four words a row wanted");
  if (opened->busy.exchange(true)) return fail(env, "step: the model is busy");
  std::vector<det::Row> rows;
  for (size_t i = 0; i < words.ElementLength(); i += 4) rows.push_back({words[i], words[i + 1], words[i + 2], words[i + 3] != 0});
  return queue(new StepWorker(env, opened, std::move(rows)));
}

// cut(handle, sequence, position): forgets a sequence from the position on.
Napi::Value cut(const Napi::CallbackInfo& info) {
  const std::shared_ptr<Opened> opened = info.Length() < 3 ? nullptr : handle_of(info[0]);
  if (opened == nullptr || opened->engine == nullptr || opened->busy || !info[1].IsNumber() || !info[2].IsNumber()) {
    return fail(info.Env(), "cut: an idle model, a sequence and a position wanted");
  }
  opened->engine->cut(info[1].As<Napi::Number>().Uint32Value(), info[2].As<Napi::Number>().Uint32Value());
  return info.Env().Undefined();
}

Napi::Value close(const Napi::CallbackInfo& info) {
  const std::shared_ptr<Opened> opened = info.Length() < 1 ? nullptr : handle_of(info[0]);
  if (opened == nullptr || opened->busy) return fail(info.Env(), "close: an idle model wanted");
  opened->engine.reset();
  opened->model.reset();
  return info.Env().Undefined();
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  exports.Set("devices", Napi::Function::New(env, devices));
  exports.Set("open", Napi::Function::New(env, open));
  exports.Set("step", Napi::Function::New(env, step));
  exports.Set("cut", Napi::Function::New(env, cut));
  exports.Set("close", Napi::Function::New(env, close));
  return exports;
}

}  // namespace

NODE_API_MODULE(infer_cuda, init)
