#include "model_file.h"

#include <algorithm>
#include <cstdio>
#include <fstream>

#include "../convert.h"
#include "../gguf.h"
#include "../tensor_type.h"
#include "checkpoint.h"

namespace zg::train {

namespace {

constexpr size_t kAlignment = 32;

class Bytes {
 public:
  std::vector<char> data;
  template <class N>
  void number(N value) {
    const char* p = reinterpret_cast<const char*>(&value);
    data.insert(data.end(), p, p + sizeof value);
  }
  void string(std::string_view s) {
    number<uint64_t>(s.size());
    data.insert(data.end(), s.begin(), s.end());
  }
  void pad() {
    while (data.size() % kAlignment != 0) data.push_back(0);
  }
};

class Metadata {
 public:
  void text(std::string_view key, std::string_view value) { head(key, gguf::ValueType::kString), bytes_.string(value); }
  void number(std::string_view key, uint32_t value) { head(key, gguf::ValueType::kU32), bytes_.number(value); }
  void real(std::string_view key, float value) { head(key, gguf::ValueType::kF32), bytes_.number(value); }
  void flag(std::string_view key, bool value) { head(key, gguf::ValueType::kBool), bytes_.number<uint8_t>(value ? 1 : 0); }
  void texts(std::string_view key, const std::vector<std::string>& values) {
    array(key, gguf::ValueType::kString, values.size());
    for (const std::string& v : values) bytes_.string(v);
  }
  void numbers(std::string_view key, const std::vector<int32_t>& values) {
    array(key, gguf::ValueType::kI32, values.size());
    for (const int32_t v : values) bytes_.number(v);
  }
  /// An entry of another file as it is.
  void copy(const gguf::Value& v) {
    head(v.key, v.type);
    if (v.type == gguf::ValueType::kArray) {
      bytes_.number(static_cast<uint32_t>(v.element));
      bytes_.number<uint64_t>(v.count);
    }
    bytes_.data.insert(bytes_.data.end(), v.data, v.data + v.size);
  }
  uint64_t count() const { return count_; }
  const Bytes& bytes() const { return bytes_; }

 private:
  void head(std::string_view key, gguf::ValueType type) {
    bytes_.string(key);
    bytes_.number(static_cast<uint32_t>(type));
    count_++;
  }
  void array(std::string_view key, gguf::ValueType element, size_t count) {
    head(key, gguf::ValueType::kArray);
    bytes_.number(static_cast<uint32_t>(element));
    bytes_.number<uint64_t>(count);
  }
  Bytes bytes_;
  uint64_t count_ = 0;
};

std::string unescape(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); i++) {
    if (text[i] == '\\' && i + 1 < text.size()) {
      out += text[++i] == 'n' ? '\n' : text[i];
    } else {
      out += text[i];
    }
  }
  return out;
}

std::string read_metadata(const std::string& path, long vocab, Metadata* out, long* found = nullptr) {
  std::ifstream in(path);
  if (!in) return "cannot open " + path;
  std::vector<std::string> tokens, merges;
  std::vector<int32_t> types;
  std::string line;
  for (long number = 1; std::getline(in, line); number++) {
    const size_t space = line.find(' ', 2);
    if (line.size() < 4 || line[1] != ' ' || space == std::string::npos) {
      return path + ":" + std::to_string(number) + ": not \"kind key value\"";
    }
    const std::string key = line.substr(2, space - 2), value = line.substr(space + 1);
    switch (line[0]) {
      case 's': out->text(key, unescape(value)); break;
      case 'u': out->number(key, static_cast<uint32_t>(std::strtoul(value.c_str(), nullptr, 10))); break;
      case 'f': out->real(key, std::strtof(value.c_str(), nullptr)); break;
      case 'b': out->flag(key, value == "1"); break;
      case 't': types.push_back(static_cast<int32_t>(std::strtol(key.c_str(), nullptr, 10))), tokens.push_back(value); break;
      case 'm': merges.push_back(key + " " + value); break;
      default: return path + ":" + std::to_string(number) + ": unknown kind " + line[0];
    }
  }
  if (vocab >= 0 && static_cast<long>(tokens.size()) != vocab) return path + ": " + std::to_string(tokens.size()) + " tokens, the model has " + std::to_string(vocab);
  if (found != nullptr) *found = static_cast<long>(tokens.size());
  out->texts("tokenizer.ggml.tokens", tokens);
  out->numbers("tokenizer.ggml.token_type", types);
  out->texts("tokenizer.ggml.merges", merges);
  return "";
}

/// One tensor of a file to be written: bytes that live until then.
struct Part {
  std::string name;
  uint32_t type;
  std::vector<uint64_t> dims;
  const void* data;
  size_t size;
};

std::string write_gguf(const std::string& path, const Metadata& meta, const std::vector<Part>& parts) {
  Bytes head;
  head.data.insert(head.data.end(), {'G', 'G', 'U', 'F'});
  head.number<uint32_t>(3);
  head.number<uint64_t>(parts.size());
  head.number<uint64_t>(meta.count());
  head.data.insert(head.data.end(), meta.bytes().data.begin(), meta.bytes().data.end());
  uint64_t offset = 0;
  for (const Part& p : parts) {
    head.string(p.name);
    head.number(static_cast<uint32_t>(p.dims.size()));
    for (const uint64_t d : p.dims) head.number(d);
    head.number(p.type);
    head.number(offset);
    offset += (p.size + kAlignment - 1) / kAlignment * kAlignment;
  }
  head.pad();
  static const char kZeros[kAlignment] = {};
  std::vector<Piece> pieces = {{head.data.data(), head.data.size()}};
  for (const Part& p : parts) {
    pieces.push_back({p.data, p.size});
    pieces.push_back({kZeros, (kAlignment - p.size % kAlignment) % kAlignment});
  }
  return write_whole(path, pieces);
}

Part float_part(const Tensor& t, const float* values, bool is_stack) {
  Part part{t.name, static_cast<uint32_t>(TensorType::kF32), {static_cast<uint64_t>(t.columns)}, values + t.offset,
            static_cast<size_t>(t.count()) * sizeof(float)};
  if (t.kind == Kind::kMatrix) part.dims.push_back(static_cast<uint64_t>(t.rows));
  if (is_stack) part.dims.push_back(static_cast<uint64_t>(t.depth));
  return part;
}

std::vector<Part> float_parts(const std::vector<Tensor>& tensors, const float* values) {
  std::vector<Part> parts;
  for (const Tensor& t : tensors) parts.push_back(float_part(t, values, t.name.find("_exps.") != std::string::npos));
  return parts;
}

}  // namespace

std::string count_tokens(const std::string& metadata, const std::string& vocabulary, long* count) {
  if (!metadata.empty()) {
    Metadata ignored;
    return read_metadata(metadata, -1, &ignored, count);
  }
  gguf::Error error;
  const auto file = gguf::File::open(vocabulary.c_str(), &error);
  if (file == nullptr) return vocabulary + ": " + error.message;
  const gguf::Value* tokens = file->find("tokenizer.ggml.tokens");
  if (tokens == nullptr) return vocabulary + ": no vocabulary in this file";
  *count = static_cast<long>(tokens->count);
  return "";
}

std::string write_new_model(const std::string& path, const std::string& metadata, const std::string& vocabulary, const Config& c,
                            const std::vector<float>& parameters) {
  Metadata meta;
  const std::string a = c.architecture.name;
  meta.text("general.architecture", a);
  meta.number("general.file_type", 0);
  meta.number("general.alignment", static_cast<uint32_t>(kAlignment));
  const auto shape = [&](const char* key, long value) { meta.number(a + "." + key, static_cast<uint32_t>(value)); };
  shape("block_count", c.layers);
  shape("context_length", c.context);
  shape("embedding_length", c.width);
  shape("feed_forward_length", c.hidden);
  shape("attention.head_count", c.heads);
  shape("attention.head_count_kv", c.kv_heads);
  shape("attention.key_length", c.head_size);
  shape("attention.value_length", c.head_size);
  shape("rope.dimension_count", c.rope_dims());
  shape("vocab_size", c.vocab);
  meta.real(a + ".rope.freq_base", c.rope[0].base);
  meta.real(a + ".attention.layer_norm_rms_epsilon", static_cast<float>(c.epsilon));
  if (c.experts > 0) {
    shape("expert_count", c.experts);
    shape("expert_used_count", c.experts_used);
    shape("expert_feed_forward_length", c.hidden);
  }
  if (c.score_cap != 0) meta.real(a + ".attn_logit_softcapping", static_cast<float>(c.score_cap));
  if (c.logit_cap != 0) meta.real(a + ".final_logit_softcapping", static_cast<float>(c.logit_cap));
  const long window = *std::max_element(c.window_of.begin(), c.window_of.end());
  if (window > 0) shape("attention.sliding_window", window);
  const auto file = [&]() -> std::unique_ptr<gguf::File> {
    gguf::Error error;
    return vocabulary.empty() ? nullptr : gguf::File::open(vocabulary.c_str(), &error);
  }();
  if (!metadata.empty()) {
    const std::string fault = read_metadata(metadata, c.vocab, &meta);
    if (!fault.empty()) return fault;
  } else {
    if (file == nullptr) return vocabulary + ": cannot be read";
    for (const gguf::Value& v : file->metadata()) {
      if (v.key.starts_with("tokenizer.")) meta.copy(v);
    }
  }
  return write_gguf(path, meta, float_parts(layout_of(c).tensors, parameters.data()));
}

std::string write_model(const std::string& path, const det::Model& model, const Layout& layout, const std::vector<float>& parameters,
                        const std::string& recipe, unsigned threads) {
  const Recipe* wanted = recipe == "F32" ? nullptr : recipe_by_name(recipe);
  if (recipe != "F32" && wanted == nullptr) return "type '" + recipe + "' is not known";
  Metadata meta;
  for (const gguf::Value& v : model.file->metadata()) {
    if (v.key == "general.file_type" || v.key == "general.alignment" || v.key == "general.quantization_version" || v.key.starts_with("split.")) continue;
    meta.copy(v);
  }
  meta.number("general.file_type", 0);
  meta.number("general.alignment", static_cast<uint32_t>(kAlignment));
  std::vector<Part> parts = float_parts(layout.tensors, parameters.data());
  // What is not trained (rope_freqs) stays as it is.
  for (const gguf::Tensor& t : model.file->tensors()) {
    const auto same = [&](const Part& p) { return p.name == t.name; };
    if (std::any_of(parts.begin(), parts.end(), same)) continue;
    parts.push_back({std::string(t.name), t.type->id, {t.dims, t.dims + t.dim_count}, t.data, t.size_bytes});
  }
  if (wanted == nullptr) return write_gguf(path, meta, parts);
  const std::string plain = path + ".f32", made = path + ".made";
  std::string fault = write_gguf(plain, meta, parts);
  if (!fault.empty()) return fault;
  gguf::Error error;
  const auto file = gguf::File::open(plain.c_str(), &error);
  Conversion state;
  if (file == nullptr) fault = error.message;
  else convert(*file, *wanted, made.c_str(), threads, &state, &fault);
  std::remove(plain.c_str());
  if (fault.empty() && std::rename(made.c_str(), path.c_str()) != 0) fault = "cannot replace " + path;
  if (!fault.empty()) std::remove(made.c_str());
  return fault;
}

std::string write_adapter(const std::string& path, const det::Model& model, const std::string& name, const AdapterConfig& adapter,
                          const AdapterLayout& layout, const std::vector<float>& parameters) {
  Metadata meta;
  meta.text("general.architecture", model.architecture.name);
  meta.text("general.type", "adapter");
  meta.text("adapter.type", "lora");
  if (!name.empty()) meta.text("general.name", name);
  meta.real("adapter.lora.alpha", static_cast<float>(adapter.alpha));
  meta.number("general.alignment", static_cast<uint32_t>(kAlignment));
  return write_gguf(path, meta, float_parts(layout.tensors, parameters.data()));
}

}  // namespace zg::train
