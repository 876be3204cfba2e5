// Binding of what reads and makes model files: checks arguments, calls, returns. lib/infer/model-file.ts is its only caller.
//
//   describe(path)                     what a file holds, and why it cannot be run if it cannot, in a promise
//   recipes()                          names for quantizeFile
//   quantize(typeId, floats)           Uint8Array of whole blocks; undefined when the type cannot hold a value (tests)
//   quantizeFile(from, to, recipe, threads)
//                                      {done, progress(), cancel()}: done is a promise; progress() gives [bytes done, bytes]
#include "model_files_napi.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "convert.h"
#include "cpu/engine.h"
#include "gguf.h"
#include "infer_args.h"
#include "promise_worker.h"
#include "quantize.h"
#include "tensor_type.h"

namespace {

namespace gguf = zg::gguf;
using namespace zg::infer_args;
using zg::det::Model;

constexpr size_t kMaxFloats = size_t{1} << 20;

class DescribeWorker final : public PromiseWorker {
 public:
  DescribeWorker(Napi::Env env, std::string path) : PromiseWorker(env, "zg:describe"), path_(std::move(path)) {}

 protected:
  void Execute() override {
    gguf::Error error;
    auto file = gguf::File::open(path_.c_str(), &error);
    if (file == nullptr) return SetError(error.message);
    read_file(*file);
    model_ = Model::load(std::move(file), &error);
    if (model_ == nullptr) refused_ = error.message;
  }

  Napi::Value result(Napi::Env env) override {
    Napi::Object o = Napi::Object::New(env);
    o.Set("version", version_);
    o.Set("fileBytes", static_cast<double>(bytes_));
    o.Set("parameters", static_cast<double>(parameters_));
    o.Set("tensors", static_cast<double>(tensors_));
    for (const auto& [name, text] : texts_) o.Set(name, text_of(env, text));
    Napi::Array paths = Napi::Array::New(env);
    for (const std::string& p : paths_) paths.Set(paths.Length(), text_of(env, p));
    o.Set("paths", paths);
    Napi::Array types = Napi::Array::New(env);
    for (const TypeSum& t : types_) {
      Napi::Object one = Napi::Object::New(env);
      one.Set("type", t.type->name);
      one.Set("tensors", static_cast<double>(t.tensors));
      one.Set("bytes", static_cast<double>(t.bytes));
      types.Set(types.Length(), one);
    }
    o.Set("types", types);
    if (model_ == nullptr) {
      o.Set("refused", text_of(env, refused_));
      return o;
    }
    o.Set("shape", shape(env));
    Napi::Array warnings = Napi::Array::New(env);
    for (const std::string& w : model_->warnings) warnings.Set(warnings.Length(), text_of(env, w));
    o.Set("warnings", warnings);
    return o;
  }

 private:
  struct TypeSum {
    const zg::TypeInfo* type;
    uint64_t tensors;
    uint64_t bytes;
  };

  void read_file(const gguf::File& file) {
    version_ = file.version();
    bytes_ = file.size();
    paths_ = file.paths();
    tensors_ = file.tensors().size();
    for (const gguf::Tensor& t : file.tensors()) {
      parameters_ += t.values;
      TypeSum* sum = nullptr;
      for (TypeSum& s : types_) {
        if (s.type == t.type) sum = &s;
      }
      if (sum == nullptr) sum = &types_.emplace_back(TypeSum{t.type, 0, 0});
      sum->tensors++;
      sum->bytes += t.size_bytes;
    }
    for (const auto& [key, name] : {std::pair{"general.name", "name"},
                                    {"general.architecture", "architecture"},
                                    {"general.type", "kind"},
                                    {"general.license", "license"},
                                    {"tokenizer.ggml.model", "tokenizer"},
                                    {"tokenizer.ggml.pre", "preTokenizer"}}) {
      std::string_view text;
      gguf::Error ignored;
      if (file.get(key, &text, &ignored) && !text.empty()) texts_.emplace_back(name, text.substr(0, 256));
    }
    std::string_view chat;
    gguf::Error ignored;
    if (file.get("tokenizer.chat_template", &chat, &ignored) && !chat.empty()) texts_.emplace_back("chatTemplate", chat);
  }

  Napi::Object shape(Napi::Env env) {
    const Model& m = *model_;
    Napi::Object o = Napi::Object::New(env);
    const std::pair<const char*, uint32_t> numbers[] = {{"layers", static_cast<uint32_t>(m.layers.size())},
                                                        {"width", m.width},
                                                        {"feed", m.feed},
                                                        {"heads", m.heads},
                                                        {"kvHeads", m.kv_heads},
                                                        {"headSize", m.head_size},
                                                        {"vocabulary", m.vocabulary},
                                                        {"context", m.context},
                                                        {"experts", m.experts},
                                                        {"expertsUsed", m.experts_used}};
    for (const auto& [name, n] : numbers) o.Set(name, n);
    uint32_t window = 0;
    for (const zg::det::Layer& l : m.layers) window = std::max(window, l.window);
    o.Set("window", window);
    // Packed weights, and what stays in the file's pages: the embedding, of which rows are read.
    o.Set("weightBytes", static_cast<double>(zg::cpu::Engine::weight_bytes(m)));
    o.Set("embeddingBytes", static_cast<double>(m.embedding.rows * m.embedding.row_bytes));
    o.Set("positionBytes", static_cast<double>(zg::cpu::Engine::page_shape(m).bytes()) / ZG_PAGE);
    return o;
  }

  std::string path_;
  uint32_t version_ = 0;
  uint64_t bytes_ = 0;
  uint64_t tensors_ = 0;
  uint64_t parameters_ = 0;
  std::vector<std::string> paths_;
  std::vector<TypeSum> types_;
  std::vector<std::pair<const char*, std::string>> texts_;
  std::unique_ptr<Model> model_;
  std::string refused_;
};

Napi::Value describe(const Napi::CallbackInfo& info) {
  std::string path;
  if (info.Length() < 1 || !path_of(info[0], &path)) return fail(info.Env(), "describe: a path wanted");
  auto* worker = new DescribeWorker(info.Env(), std::move(path));
  const Napi::Promise promise = worker->promise();
  worker->Queue();
  return promise;
}

class ConvertWorker final : public PromiseWorker {
 public:
  ConvertWorker(Napi::Env env, std::string from, std::string to, const zg::Recipe& recipe, unsigned threads,
                std::shared_ptr<zg::Conversion> state)
      : PromiseWorker(env, "zg:quantize"),
        from_(std::move(from)),
        to_(std::move(to)),
        recipe_(recipe),
        threads_(threads),
        state_(std::move(state)) {}

 protected:
  void Execute() override {
    gguf::Error error;
    const auto file = gguf::File::open(from_.c_str(), &error);
    if (file == nullptr) return SetError(error.message);
    std::string why;
    if (!zg::convert(*file, recipe_, to_.c_str(), threads_, state_.get(), &why)) SetError(why);
  }

 private:
  std::string from_;
  std::string to_;
  const zg::Recipe& recipe_;
  unsigned threads_;
  std::shared_ptr<zg::Conversion> state_;
};

Napi::Value quantize_file(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  std::string from;
  std::string to;
  if (info.Length() < 4 || !path_of(info[0], &from) || !path_of(info[1], &to) || !info[2].IsString() || !info[3].IsNumber()) {
    return fail(env, "quantizeFile: two paths, a recipe and a number of threads wanted");
  }
  const zg::Recipe* recipe = zg::recipe_by_name(info[2].As<Napi::String>().Utf8Value());
  const double threads = info[3].As<Napi::Number>().DoubleValue();
  if (recipe == nullptr || !(threads >= 1 && threads <= 64)) return fail(env, "quantizeFile: no such recipe, or threads not from 1 to 64");
  const auto state = std::make_shared<zg::Conversion>();
  auto* worker = new ConvertWorker(env, std::move(from), std::move(to), *recipe, static_cast<unsigned>(threads), state);
  Napi::Object o = Napi::Object::New(env);
  o.Set("done", worker->promise());
  o.Set("progress", Napi::Function::New(env, [state](const Napi::CallbackInfo& call) -> Napi::Value {
          Napi::Array pair = Napi::Array::New(call.Env(), 2);
          pair.Set(0u, static_cast<double>(state->done_bytes.load()));
          pair.Set(1u, static_cast<double>(state->total_bytes.load()));
          return pair;
        }));
  o.Set("cancel", Napi::Function::New(env, [state](const Napi::CallbackInfo& call) -> Napi::Value {
          state->cancel.store(true);
          return call.Env().Undefined();
        }));
  worker->Queue();
  return o;
}

Napi::Value quantize(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (info.Length() < 2 || !info[0].IsNumber() || !info[1].IsTypedArray() ||
      info[1].As<Napi::TypedArray>().TypedArrayType() != napi_float32_array) {
    return fail(env, "quantize: the id of a type and a Float32Array wanted");
  }
  const auto type = static_cast<zg::det::Type>(info[0].As<Napi::Number>().Uint32Value());
  const auto values = info[1].As<Napi::Float32Array>();
  const zg::det::TypeShape shape = zg::det::type_shape(type);
  const size_t count = values.ElementLength();
  if (shape.values == 0 || count % shape.values != 0 || count > kMaxFloats) {
    return fail(env, "quantize: whole blocks of a supported type, at most 1048576 values, wanted");
  }
  Napi::Uint8Array out = Napi::Uint8Array::New(env, count / shape.values * shape.bytes);
  if (env.IsExceptionPending()) return env.Undefined();
  return zg::quantize_row(type, values.Data(), count, out.Data()) ? Napi::Value(out) : env.Undefined();
}

Napi::Value recipe_names(const Napi::CallbackInfo& info) {
  Napi::Array out = Napi::Array::New(info.Env());
  for (const zg::Recipe* r = zg::recipes(); r->name != nullptr; r++) out.Set(out.Length(), r->name);
  return out;
}

}  // namespace

void initModelFiles(Napi::Env env, Napi::Object exports) {
  exports.Set("describe", Napi::Function::New(env, describe));
  exports.Set("recipes", Napi::Function::New(env, recipe_names));
  exports.Set("quantize", Napi::Function::New(env, quantize));
  exports.Set("quantizeFile", Napi::Function::New(env, quantize_file));
}
