// Binding of native/infer/tokenizer.h: checks arguments, calls, returns. lib/infer/tokenizer.ts is its only caller.
//
//   new Tokenizer(path[, pre])      opens a GGUF file and reads its vocabulary; throws an Error that says what is wrong
//     .info()                       {model, size, bosId, eosId, eotId, eomId, unknownId, paddingId, endIds, addBos, addEos,
//                                   spacePrefix, chatTemplate, warnings}; ids that the file lacks and an absent template: undefined
//     .encode(text, special)        Int32Array, without BOS; text longer than 16 MiB is a RangeError
//     .guard(text, mark)            string: text with the mark in every name of a control token
//     .encodeGuarded(text, mark)    Int32Array: control tokens by name, but not in guarded parts
//     .piece(id, special)           Uint8Array; empty for ids that are not there
//     .decode(ids, special)         Uint8Array, from an Int32Array
//     .compile(words)               a Grammar in a promise (native/infer/grammar.h says what the words are); rejects when they are malformed
//                                   or no text ends
//   Grammar                         what a request carries as `grammar`
//     .accepts(bytes)               0 no text begins so, 1 some text begins so, 2 it is a whole text (tests and checks)
//     .allowed(bytes)               Int32Array: tokens that may follow (tests and checks)
//     .shortest()                   Uint8Array: one of the shortest texts; undefined when it is too long
#include "tokenizer_napi.h"

#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "infer_args.h"
#include "tokenizer.h"
#include "unicode.h"

namespace {

using zg::infer_args::fail;

Napi::Value bytes_of(Napi::Env env, std::string_view bytes) {
  Napi::Uint8Array out = Napi::Uint8Array::New(env, bytes.size());
  if (!env.IsExceptionPending() && !bytes.empty()) std::memcpy(out.Data(), bytes.data(), bytes.size());
  return out;
}

Napi::Value ids_of(Napi::Env env, const std::vector<int32_t>& ids) {
  Napi::Int32Array out = Napi::Int32Array::New(env, ids.size());
  if (!env.IsExceptionPending() && !ids.empty()) std::memcpy(out.Data(), ids.data(), ids.size() * sizeof(int32_t));
  return out;
}

// The vocabulary as a trie, made at the first grammar.
struct Vocabulary {
  std::shared_ptr<zg::Tokenizer> tokenizer;
  std::once_flag once;
  std::shared_ptr<const zg::infer::TokenTrie> trie;

  std::shared_ptr<const zg::infer::TokenTrie> get() {
    std::call_once(once, [this] {
      std::vector<std::string_view> pieces(tokenizer->size());
      for (size_t id = 0; id < pieces.size(); id++) pieces[id] = tokenizer->piece(static_cast<int64_t>(id), false);
      trie = zg::infer::TokenTrie::build(pieces);
    });
    return trie;
  }
};

class GrammarWrap : public Napi::ObjectWrap<GrammarWrap> {
 public:
  static Napi::FunctionReference* define(Napi::Env env, Napi::Object exports) {
    const Napi::Function function =
        DefineClass(env, "Grammar",
                    {InstanceMethod("accepts", &GrammarWrap::accepts), InstanceMethod("allowed", &GrammarWrap::allowed),
                     InstanceMethod("shortest", &GrammarWrap::shortest)});
    exports.Set("Grammar", function);
    return new Napi::FunctionReference(Napi::Persistent(function));
  }

  // Only compile() gives it something.
  explicit GrammarWrap(const Napi::CallbackInfo& call) : Napi::ObjectWrap<GrammarWrap>(call) {
    if (call.Length() > 0 && call[0].IsExternal()) {
      grammar_ = *call[0].As<Napi::External<std::shared_ptr<zg::infer::Grammar>>>().Data();
    } else {
      fail(call.Env(), "Grammar: made by Tokenizer.compile alone");
    }
  }

  const std::shared_ptr<zg::infer::Grammar>& grammar() const { return grammar_; }

 private:
  using State = zg::infer::Grammar::State;

  // The state behind some bytes, or dead.
  State behind(const Napi::CallbackInfo& call) {
    const auto bytes = call[0].As<Napi::Uint8Array>();
    grammar_->trim();
    const State start = grammar_->start();
    return start == zg::infer::Grammar::kDead
               ? start
               : grammar_->step(start, std::string_view(reinterpret_cast<const char*>(bytes.Data()), bytes.ByteLength()));
  }

  static bool bytes_given(const Napi::CallbackInfo& call) {
    return call.Length() == 1 && call[0].IsTypedArray() && call[0].As<Napi::TypedArray>().TypedArrayType() == napi_uint8_array;
  }

  Napi::Value accepts(const Napi::CallbackInfo& call) {
    if (grammar_ == nullptr || !bytes_given(call)) return fail(call.Env(), "accepts: a Uint8Array wanted");
    const std::lock_guard lock(grammar_->mutex());
    const State state = behind(call);
    return Napi::Number::New(call.Env(), state == zg::infer::Grammar::kDead ? 0 : grammar_->accepts(state) ? 2 : 1);
  }

  Napi::Value allowed(const Napi::CallbackInfo& call) {
    if (grammar_ == nullptr || !bytes_given(call)) return fail(call.Env(), "allowed: a Uint8Array wanted");
    const std::lock_guard lock(grammar_->mutex());
    const State state = behind(call);
    const std::vector<uint64_t>* mask = state == zg::infer::Grammar::kDead ? nullptr : grammar_->mask(state);
    std::vector<int32_t> ids;
    for (size_t id = 0; mask != nullptr && id < grammar_->trie().size(); id++) {
      if (((*mask)[id / 64] >> (id % 64) & 1) != 0) ids.push_back(static_cast<int32_t>(id));
    }
    return ids_of(call.Env(), ids);
  }

  Napi::Value shortest(const Napi::CallbackInfo& call) {
    if (grammar_ == nullptr) return fail(call.Env(), "Grammar: empty");
    const std::lock_guard lock(grammar_->mutex());
    grammar_->trim();
    const State start = grammar_->start();
    std::string text;
    if (start == zg::infer::Grammar::kDead || !grammar_->shortest(start, &text)) return call.Env().Undefined();
    return bytes_of(call.Env(), text);
  }

  std::shared_ptr<zg::infer::Grammar> grammar_;
};

// Checks an automaton and measures it, off the event loop.
class CompileWorker final : public Napi::AsyncWorker {
 public:
  CompileWorker(Napi::Env env, std::shared_ptr<Vocabulary> vocabulary, std::vector<uint32_t> words)
      : AsyncWorker(env, "zg:grammar"),
        deferred_(Napi::Promise::Deferred::New(env)),
        vocabulary_(std::move(vocabulary)),
        words_(std::move(words)) {}
  Napi::Promise promise() const { return deferred_.Promise(); }

 protected:
  void Execute() override {
    std::string error;
    grammar_ = zg::infer::Grammar::load(words_.data(), words_.size(), vocabulary_->get(), &error);
    if (grammar_ == nullptr) SetError(error);
  }
  void OnOK() override {
    const Napi::Env env = Env();
    const auto* make = env.GetInstanceData<Napi::FunctionReference>();
    const Napi::Value held = Napi::External<std::shared_ptr<zg::infer::Grammar>>::New(env, &grammar_);
    const Napi::Object value = make->New({held});
    if (env.IsExceptionPending()) {
      deferred_.Reject(env.GetAndClearPendingException().Value());
    } else {
      deferred_.Resolve(value);
    }
  }
  void OnError(const Napi::Error& error) override { deferred_.Reject(error.Value()); }

 private:
  Napi::Promise::Deferred deferred_;
  std::shared_ptr<Vocabulary> vocabulary_;
  std::vector<uint32_t> words_;
  std::shared_ptr<zg::infer::Grammar> grammar_;
};

class TokenizerWrap : public Napi::ObjectWrap<TokenizerWrap> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Tokenizer",
                       {InstanceMethod("info", &TokenizerWrap::info), InstanceMethod("encode", &TokenizerWrap::encode),
                        InstanceMethod("guard", &TokenizerWrap::guard),
                        InstanceMethod("encodeGuarded", &TokenizerWrap::encode_guarded),
                        InstanceMethod("piece", &TokenizerWrap::piece), InstanceMethod("decode", &TokenizerWrap::decode),
                        InstanceMethod("compile", &TokenizerWrap::compile)});
  }

  explicit TokenizerWrap(const Napi::CallbackInfo& call) : Napi::ObjectWrap<TokenizerWrap>(call) {
    const Napi::Env env = call.Env();
    const bool pre_given = call.Length() > 1 && !call[1].IsUndefined();
    if (call.Length() < 1 || !call[0].IsString() || (pre_given && !call[1].IsString())) {
      fail(env, "Tokenizer: a path and, if at all, the name of a pre-tokenizer wanted");
      return;
    }
    const std::string path = call[0].As<Napi::String>().Utf8Value();
    const std::string pre = pre_given ? call[1].As<Napi::String>().Utf8Value() : std::string();
    if (path.find('\0') != std::string::npos) {
      fail(env, "Tokenizer: the path has a NUL in it");
      return;
    }
    zg::gguf::Error error;
    std::shared_ptr<const zg::gguf::File> file = zg::gguf::File::open(path.c_str(), &error);
    if (file != nullptr) tokenizer_ = zg::Tokenizer::open(std::move(file), pre, &warnings_, &error);
    if (tokenizer_ == nullptr) {
      Napi::Error::New(env, error.message).ThrowAsJavaScriptException();
      return;
    }
    encoder_ = std::make_unique<zg::Encoder>();
    vocabulary_->tokenizer = tokenizer_;
  }

 private:
  Napi::Value compile(const Napi::CallbackInfo& call) {
    const Napi::Env env = call.Env();
    if (tokenizer_ == nullptr || call.Length() != 1 || !call[0].IsTypedArray() ||
        call[0].As<Napi::TypedArray>().TypedArrayType() != napi_uint32_array) {
      return fail(env, "compile: a Uint32Array wanted");
    }
    const auto words = call[0].As<Napi::Uint32Array>();
    auto* worker = new CompileWorker(env, vocabulary_, {words.Data(), words.Data() + words.ElementLength()});
    const Napi::Promise promise = worker->promise();
    worker->Queue();
    return promise;
  }

  Napi::Value info(const Napi::CallbackInfo& call) {
    const Napi::Env env = call.Env();
    if (tokenizer_ == nullptr) return fail(env, "Tokenizer: not open");
    const zg::Tokenizer& t = *tokenizer_;
    Napi::Object out = Napi::Object::New(env);
    const auto set_id = [&](const char* name, int32_t id) {
      if (id >= 0) out.Set(name, Napi::Number::New(env, id));
    };
    out.Set("model", std::string(t.model()));
    out.Set("size", Napi::Number::New(env, static_cast<double>(t.size())));
    set_id("bosId", t.special_ids().bos);
    set_id("eosId", t.special_ids().eos);
    set_id("eotId", t.special_ids().eot);
    set_id("eomId", t.special_ids().eom);
    set_id("unknownId", t.special_ids().unknown);
    set_id("paddingId", t.special_ids().padding);
    out.Set("endIds", ids_of(env, t.end_ids()));
    out.Set("addBos", Napi::Boolean::New(env, t.add_bos()));
    out.Set("addEos", Napi::Boolean::New(env, t.add_eos()));
    out.Set("spacePrefix", Napi::Boolean::New(env, t.space_prefix()));
    out.Set("unicode", Napi::String::New(env, zg::unicode::kVersion));
    // As bytes: the file's text need not be UTF-8.
    if (!t.chat_template().empty()) out.Set("chatTemplate", bytes_of(env, t.chat_template()));
    Napi::Array warnings = Napi::Array::New(env, warnings_.size());
    for (uint32_t i = 0; i < warnings_.size(); i++) warnings.Set(i, warnings_[i]);
    out.Set("warnings", warnings);
    return out;
  }

  Napi::Value encode(const Napi::CallbackInfo& call) {
    const Napi::Env env = call.Env();
    if (call.Length() != 2 || !call[0].IsString() || !call[1].IsBoolean()) return fail(env, "encode: a string and a bool wanted");
    std::string text;
    if (!ready(call, &text)) return env.Undefined();
    std::vector<int32_t> ids;
    if (!tokenizer_->encode(text, call[1].As<Napi::Boolean>(), encoder_.get(), &ids)) return refuse(env);
    return ids_of(env, ids);
  }

  Napi::Value encode_guarded(const Napi::CallbackInfo& call) {
    const Napi::Env env = call.Env();
    std::string text;
    std::string mark;
    if (!two_strings(call, &text, &mark)) return env.Undefined();
    std::vector<int32_t> ids;
    if (!tokenizer_->encode_guarded(text, mark, encoder_.get(), &ids)) return refuse(env);
    return ids_of(env, ids);
  }

  Napi::Value guard(const Napi::CallbackInfo& call) {
    const Napi::Env env = call.Env();
    std::string text;
    std::string mark;
    if (!two_strings(call, &text, &mark)) return env.Undefined();
    std::string out;
    tokenizer_->guard(text, mark, &out);
    return Napi::String::New(env, out);
  }

  // The first argument's text, bounded.
  bool ready(const Napi::CallbackInfo& call, std::string* text) {
    const Napi::Env env = call.Env();
    if (tokenizer_ == nullptr) return fail(env, "Tokenizer: not open"), false;
    size_t size = 0;
    if (napi_get_value_string_utf8(env, call[0], nullptr, 0, &size) != napi_ok) return fail(env, "no string"), false;
    if (size > zg::kMaxTextBytes) return refuse(env), false;
    text->resize(size);
    if (napi_get_value_string_utf8(env, call[0], text->data(), size + 1, &size) != napi_ok) return fail(env, "no string"), false;
    return true;
  }

  bool two_strings(const Napi::CallbackInfo& call, std::string* text, std::string* mark) {
    if (call.Length() != 2 || !call[0].IsString() || !call[1].IsString()) {
      return fail(call.Env(), "a text and a mark wanted"), false;
    }
    *mark = call[1].As<Napi::String>().Utf8Value();
    if (mark->empty() || mark->size() > 64) return fail(call.Env(), "the mark has 1 to 64 bytes"), false;
    return ready(call, text);
  }

  Napi::Value piece(const Napi::CallbackInfo& call) {
    const Napi::Env env = call.Env();
    if (call.Length() != 2 || !call[0].IsNumber() || !call[1].IsBoolean()) return fail(env, "piece: an id and a bool wanted");
    if (tokenizer_ == nullptr) return fail(env, "Tokenizer: not open");
    const double id = call[0].As<Napi::Number>().DoubleValue();
    const bool there = id >= 0 && id < static_cast<double>(tokenizer_->size());
    return bytes_of(env, tokenizer_->piece(there ? static_cast<int64_t>(id) : -1, call[1].As<Napi::Boolean>()));
  }

  Napi::Value decode(const Napi::CallbackInfo& call) {
    const Napi::Env env = call.Env();
    if (call.Length() != 2 || !call[0].IsTypedArray() || !call[1].IsBoolean() ||
        call[0].As<Napi::TypedArray>().TypedArrayType() != napi_int32_array) {
      return fail(env, "decode: an Int32Array and a bool wanted");
    }
    if (tokenizer_ == nullptr) return fail(env, "Tokenizer: not open");
    const Napi::Int32Array ids = call[0].As<Napi::Int32Array>();
    std::string out;
    tokenizer_->decode(ids.Data(), ids.ElementLength(), call[1].As<Napi::Boolean>(), &out);
    return bytes_of(env, out);
  }

  Napi::Value refuse(Napi::Env env) {
    Napi::RangeError::New(env, "the text is longer than 16 MiB, or has too many control tokens").ThrowAsJavaScriptException();
    return env.Undefined();
  }

  std::shared_ptr<zg::Tokenizer> tokenizer_;
  std::shared_ptr<Vocabulary> vocabulary_ = std::make_shared<Vocabulary>();
  std::unique_ptr<zg::Encoder> encoder_;
  std::vector<std::string> warnings_;
};

}  // namespace

void initTokenizer(Napi::Env env, Napi::Object exports) {
  exports.Set("Tokenizer", TokenizerWrap::define(env));
  env.SetInstanceData(GrammarWrap::define(env, exports));
}

std::shared_ptr<zg::infer::Grammar> grammar_of(const Napi::Value& value, size_t vocabulary) {
  const auto* make = value.Env().GetInstanceData<Napi::FunctionReference>();
  if (!value.IsObject() || make == nullptr || !value.As<Napi::Object>().InstanceOf(make->Value())) return nullptr;
  const std::shared_ptr<zg::infer::Grammar>& grammar = GrammarWrap::Unwrap(value.As<Napi::Object>())->grammar();
  return grammar != nullptr && grammar->trie().size() == vocabulary ? grammar : nullptr;
}
