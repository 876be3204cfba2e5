#include "model_file.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "../gguf.h"
#include "../tensor_type.h"

namespace zg::train {

namespace {

constexpr long kBlock = 32;
constexpr size_t kAlignment = 32;

/// Nearest half, ties to even; for finite values of at most 65504.
uint16_t to_half(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  const float size = std::fabs(value);
  if (size < 0x1p-14f) return static_cast<uint16_t>(sign | static_cast<uint16_t>(std::lrint(size * 0x1p24f)));
  const uint32_t plain = bits & 0x7fffffff;
  const uint32_t rounded = plain + 0x0fff + (plain >> 13 & 1);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000) >> 13));
}

/// One Q8_0 block: the scale as half, then 32 values as multiples of what that half stands for.
void pack(const float* x, uint8_t* block) {
  float top = 0;
  for (long i = 0; i < kBlock; i++) top = std::max(top, std::fabs(x[i]));
  const uint16_t half = to_half(top / 127);
  const float scale = half_to_float(half);
  std::memcpy(block, &half, 2);
  for (long i = 0; i < kBlock; i++) {
    const long q = scale == 0 ? 0 : std::lrint(x[i] / scale);
    block[2 + i] = static_cast<uint8_t>(static_cast<int8_t>(std::clamp(q, -127l, 127l)));
  }
}

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

std::string read_metadata(const std::string& path, long vocab, Metadata* out) {
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
  if (static_cast<long>(tokens.size()) != vocab) return path + ": " + std::to_string(tokens.size()) + " tokens, the model has " + std::to_string(vocab);
  out->texts("tokenizer.ggml.tokens", tokens);
  out->numbers("tokenizer.ggml.token_type", types);
  out->texts("tokenizer.ggml.merges", merges);
  return "";
}

}  // namespace

void round_to_blocks(const Layout& layout, std::vector<float>& parameters) {
  for (const Tensor& t : layout.tensors) {
    if (t.norm) continue;
    uint8_t block[2 + kBlock];
    for (long at = 0; at < t.rows * t.columns; at += kBlock) {
      float* x = parameters.data() + t.offset + at;
      pack(x, block);
      uint16_t half;
      std::memcpy(&half, block, 2);
      for (long i = 0; i < kBlock; i++) x[i] = half_to_float(half) * static_cast<float>(static_cast<int8_t>(block[2 + i]));
    }
  }
}

std::string write_model(const std::string& path, const std::string& metadata, const Config& c,
                        const std::vector<float>& parameters) {
  if (c.width % kBlock != 0 || c.hidden % kBlock != 0) return "Q8_0 needs widths that are multiples of 32";
  Metadata meta;
  meta.text("general.architecture", "llama");
  meta.number("general.quantization_version", 2);
  meta.number("general.file_type", 7);  // mostly Q8_0
  meta.number("general.alignment", static_cast<uint32_t>(kAlignment));
  const auto shape = [&](const char* key, long value) { meta.number(std::string("llama.") + key, static_cast<uint32_t>(value)); };
  shape("block_count", c.layers);
  shape("context_length", c.context);
  shape("embedding_length", c.width);
  shape("feed_forward_length", c.hidden);
  shape("attention.head_count", c.heads);
  shape("attention.head_count_kv", c.kv_heads);
  shape("rope.dimension_count", c.head_size());
  shape("vocab_size", c.vocab);
  meta.real("llama.rope.freq_base", static_cast<float>(c.rope_base));
  meta.real("llama.attention.layer_norm_rms_epsilon", static_cast<float>(c.epsilon));
  const std::string fault = read_metadata(metadata, c.vocab, &meta);
  if (!fault.empty()) return fault;

  const Layout layout = layout_of(c);
  Bytes file;
  file.data.insert(file.data.end(), {'G', 'G', 'U', 'F'});
  file.number<uint32_t>(3);
  file.number<uint64_t>(layout.tensors.size());
  file.number<uint64_t>(meta.count());
  file.data.insert(file.data.end(), meta.bytes().data.begin(), meta.bytes().data.end());
  Bytes body;
  for (const Tensor& t : layout.tensors) {
    file.string(t.name);
    file.number<uint32_t>(t.norm ? 1 : 2);
    file.number<uint64_t>(static_cast<uint64_t>(t.columns));
    if (!t.norm) file.number<uint64_t>(static_cast<uint64_t>(t.rows));
    file.number<uint32_t>(static_cast<uint32_t>(t.norm ? TensorType::kF32 : TensorType::kQ8_0));
    file.number<uint64_t>(body.data.size());
    const float* x = parameters.data() + t.offset;
    for (long at = 0; at < t.rows * t.columns; at += t.norm ? 1 : kBlock) {
      if (t.norm) {
        body.number(x[at]);
      } else {
        uint8_t block[2 + kBlock];
        pack(x + at, block);
        body.data.insert(body.data.end(), block, block + sizeof block);
      }
    }
    body.pad();
  }
  file.pad();
  const std::string part = path + ".part";
  {
    std::ofstream out(part, std::ios::binary | std::ios::trunc);
    out.write(file.data.data(), static_cast<std::streamsize>(file.data.size()));
    out.write(body.data.data(), static_cast<std::streamsize>(body.data.size()));
    out.flush();
    if (!out) return "cannot write " + part;
  }
  std::error_code error;
  std::filesystem::rename(part, path, error);
  return error ? "cannot replace " + path + ": " + error.message() : "";
}

std::string read_model(const std::string& path, Config* config, std::vector<float>* parameters) {
  gguf::Error error;
  const auto file = gguf::File::open(path.c_str(), &error);
  if (file == nullptr) return path + ": " + error.message;
  std::string_view architecture;
  if (!file->get("general.architecture", &architecture, &error)) return path + ": " + error.message;
  if (architecture != "llama" || file->tensor("output.weight") != nullptr) return path + ": not a llama model with a tied output";
  const auto number = [&](const char* key, long* out) {
    uint32_t value = 0;
    if (!file->get(std::string("llama.") + key, &value, &error)) return false;
    *out = value;
    return true;
  };
  Config c;
  float base = 10000, epsilon = 0;
  if (!number("block_count", &c.layers) || !number("context_length", &c.context) || !number("embedding_length", &c.width) ||
      !number("feed_forward_length", &c.hidden) || !number("attention.head_count", &c.heads) ||
      !number("attention.head_count_kv", &c.kv_heads) || !file->get("llama.rope.freq_base", &base, &error) ||
      !file->get("llama.attention.layer_norm_rms_epsilon", &epsilon, &error)) {
    return path + ": " + error.message;
  }
  if (c.kv_heads == 0) c.kv_heads = c.heads;
  c.rope_base = static_cast<double>(base);
  c.epsilon = static_cast<double>(epsilon);
  if (const gguf::Tensor* embedding = file->tensor("token_embd.weight")) c.vocab = static_cast<long>(embedding->dims[1]);
  if (const char* fault = c.fault()) return path + ": " + fault;
  const Layout layout = layout_of(c);
  parameters->resize(static_cast<size_t>(layout.count));
  for (const Tensor& t : layout.tensors) {
    const gguf::Tensor* from = file->tensor(t.name);
    if (from == nullptr || from->dims[0] != static_cast<uint64_t>(t.columns) ||
        from->dims[1] != static_cast<uint64_t>(t.rows) || from->values != static_cast<uint64_t>(t.rows * t.columns)) {
      return path + ": tensor " + t.name + " is missing or has another shape";
    }
    if (from->type->dequantize == nullptr) return path + ": tensor " + t.name + " has type " + from->type->name;
    from->type->dequantize(from->data, from->values, parameters->data() + t.offset);
  }
  *config = c;
  return "";
}

}  // namespace zg::train
