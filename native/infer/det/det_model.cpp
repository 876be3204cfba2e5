#include "det_model.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace zg::det {
namespace {

using gguf::Error;
using gguf::File;
using gguf::Tensor;

constexpr Architecture kArchitectures[] = {
    {"llama", false, false, false, false, 0, 0, false},   {"qwen2", true, false, false, false, 0, 0, false},
    {"qwen3", true, true, false, false, 0, 0, false},     {"qwen3moe", true, true, false, false, 0, 0, false},
    {"gemma", true, false, true, false, 0, 0, false},     {"gemma2", true, false, true, true, 2, 1, false},
    {"gemma3", true, true, true, true, 6, 5, true},
};

constexpr uint32_t kMaxLayers = 1'024;
constexpr uint32_t kMaxHeadSize = 512;
constexpr uint32_t kMaxWidth = 1u << 20;
constexpr uint32_t kMaxExperts = 1'024;

bool fail(Error* error, std::string message) {
  error->message = std::move(message);
  return false;
}

// Reads one model's keys and tensors; each step returns false with the error set.
class Loader {
 public:
  Loader(Model* model, Error* error) : m_(*model), file_(*model->file), error_(error) {}

  bool run() {
    if (file_.tensors().empty()) return fail(error_, "the file holds no tensors (a vocabulary only), so there is no model to run");
    return architecture() && shape() && rope() && weights();
  }

 private:
  bool architecture() {
    std::string_view name;
    if (!file_.get("general.architecture", &name, error_)) return false;
    if (name.empty()) return fail(error_, "metadata 'general.architecture' is missing: not a language model");
    const Architecture* known = architecture_by_name(name);
    if (known == nullptr) {
      return fail(error_, "architecture '" + gguf::printable(name) + "' is not known; known are " + architecture_names());
    }
    m_.architecture = *known;
    std::string_view title;
    if (!file_.get("general.name", &title, error_)) return false;
    m_.name = title;
    if (file_.is_lone_part()) return fail(error_, "the bytes are one part of a model that is split over several files");
    return true;
  }

  std::string key(const char* suffix) const { return std::string(m_.architecture.name) + "." + suffix; }

  // An integer from least to most; 0 as fallback: required.
  bool number(const char* suffix, uint32_t fallback, uint32_t least, uint32_t most, uint32_t* out) {
    const std::string name = key(suffix);
    if (file_.find(name) == nullptr) {
      if (fallback == 0) return fail(error_, "metadata '" + name + "' is missing");
      *out = fallback;
    } else if (!file_.get_at(name, 0, out, error_)) {
      return false;
    }
    if (*out >= least && *out <= most) return true;
    return fail(error_, "metadata '" + name + "': " + std::to_string(*out) + " is not from " + std::to_string(least) + " to " +
                            std::to_string(most));
  }

  // Refuses arrays whose layers differ: every layer has the same shape here.
  bool uniform(const char* suffix, uint32_t value) {
    const gguf::Value* v = file_.find(key(suffix));
    if (v == nullptr || v->type != gguf::ValueType::kArray) return true;
    if (v->count < layers_) return fail(error_, "metadata '" + key(suffix) + "': fewer entries than layers");
    for (uint32_t i = 0; i < layers_; i++) {
      uint32_t n = 0;
      if (!file_.get_at(key(suffix), i, &n, error_)) return false;
      if (n != value) return fail(error_, "metadata '" + key(suffix) + "': layers of different shape are not supported");
    }
    return true;
  }

  bool positive(const char* suffix, float* out) {
    if (!file_.get(key(suffix), out, error_)) return false;
    if (std::isfinite(*out) && *out > 0) return true;
    return fail(error_, "metadata '" + key(suffix) + "': not a positive number");
  }

  bool shape() {
    Model& m = m_;
    if (!number("block_count", 0, 1, kMaxLayers, &layers_) || !number("context_length", 0, 1, UINT32_MAX, &m.context) ||
        !number("embedding_length", 0, 1, kMaxWidth, &m.width) || !number("feed_forward_length", 0, 1, kMaxWidth, &m.feed) ||
        !number("attention.head_count", 0, 1, kMaxWidth, &m.heads) ||
        !number("attention.head_count_kv", m.heads, 1, m.heads, &m.kv_heads)) {
      return false;
    }
    uint32_t value_size = 0;
    if (!number("attention.key_length", std::max(m.width / m.heads, 1u), 1, kMaxHeadSize, &m.head_size) ||
        !number("attention.value_length", m.head_size, 1, kMaxHeadSize, &value_size) ||
        !number("rope.dimension_count", m.head_size, 1, kMaxHeadSize, &m.rope_dims)) {
      return false;
    }
    m.epsilon = 0;
    if (!positive("attention.layer_norm_rms_epsilon", &m.epsilon) || !uniform("feed_forward_length", m.feed) ||
        !uniform("attention.head_count", m.heads) || !uniform("attention.head_count_kv", m.kv_heads)) {
      return false;
    }
    if (m.heads % m.kv_heads != 0) {
      return fail(error_, std::to_string(m.heads) + " heads cannot share " + std::to_string(m.kv_heads) + " key-value heads");
    }
    if (m.head_size % 2 != 0) return fail(error_, "head size " + std::to_string(m.head_size) + " is odd");
    if (value_size != m.head_size) return fail(error_, "keys and values of different size are not supported");
    if (m.rope_dims % 2 != 0 || m.rope_dims > m.head_size) {
      return fail(error_, "metadata '" + key("rope.dimension_count") + "': " + std::to_string(m.rope_dims) +
                              " is odd or larger than a head");
    }
    m.score_scale = div1(1.0f, sqrt1(static_cast<float>(m.head_size)));
    const std::string_view name = m.architecture.name;
    if ((name == "gemma2" && layers_ == 46) || (name == "gemma3" && layers_ == 62)) {
      m.score_scale = sqrt1(div1(static_cast<float>(m.heads), static_cast<float>(m.width)));
    }
    if (m.architecture.gemma) m.embedding_scale = sqrt1(static_cast<float>(m.width));
    if (!file_.get(key("attn_logit_softcapping"), &m.score_cap, error_) ||
        !file_.get(key("final_logit_softcapping"), &m.logit_cap, error_) ||
        !file_.get(key("expert_count"), &m.experts, error_) || !file_.get(key("expert_used_count"), &m.experts_used, error_) ||
        !file_.get(key("attention.sliding_window"), &window_, error_)) {
      return false;
    }
    if (m.experts > 0) {
      if (m.experts > kMaxExperts || m.experts_used == 0 || m.experts_used > m.experts) {
        return fail(error_, "the counts of experts do not fit together");
      }
      if (!number("expert_feed_forward_length", m.feed, 1, kMaxWidth, &m.feed)) return false;
    }
    return true;
  }

  bool rope() {
    RopeParameters p;
    p.dims = m_.rope_dims;
    float factor = 1;
    float old_factor = 1;
    std::string_view type = "none";
    if (!positive("rope.freq_base", &p.base) || !positive("rope.scaling.factor", &factor) ||
        !positive("rope.scale_linear", &old_factor) || !file_.get(key("rope.scaling.type"), &type, error_)) {
      return false;
    }
    if (!vector("rope_freqs.weight", p.dims / 2, false, &p.divisors)) return false;
    for (const float f : p.divisors) {
      if (!std::isfinite(f) || !(f > 0)) return fail(error_, "tensor 'rope_freqs.weight': not all positive numbers");
    }
    if (type == "linear") {
      p.linear = factor != 1 ? factor : old_factor;
    } else if (type == "none") {
      p.linear = old_factor;
    } else if (type == "yarn") {
      p.yarn = true;
      p.yarn_factor = factor;
      p.original_context = m_.context;
      if (!file_.get(key("rope.scaling.original_context_length"), &p.original_context, error_) ||
          !positive("rope.scaling.yarn_beta_fast", &p.beta_fast) || !positive("rope.scaling.yarn_beta_slow", &p.beta_slow)) {
        return false;
      }
      if (file_.find(key("rope.scaling.attn_factor")) != nullptr && !positive("rope.scaling.attn_factor", &p.attention_factor)) {
        return false;
      }
      if (p.original_context == 0 || p.base == 1) return fail(error_, "YaRN without an original context length or with base 1");
    } else {
      return fail(error_, "metadata '" + key("rope.scaling.type") + "': '" + gguf::printable(type) + "' is not supported");
    }
    m_.rope.push_back(p);
    if (m_.architecture.local_base) {
      RopeParameters local;
      local.dims = p.dims;
      m_.rope.push_back(local);
    }
    return true;
  }

  const Tensor* find(const std::string& name, uint64_t columns, uint64_t rows, uint64_t depth, bool required) {
    const Tensor* t = file_.tensor(name);
    if (t == nullptr) {
      if (required) fail(error_, "tensor '" + name + "' is missing");
      return nullptr;
    }
    used_++;
    if (t->dims[0] != columns || t->dims[1] != rows || t->dims[2] != depth || t->dims[3] != 1) {
      gguf::fail_at(error_,
                    "tensor '" + name + "' is " + std::to_string(t->dims[0]) + " x " + std::to_string(t->values / t->dims[0]) + ", " +
                        std::to_string(columns) + " x " + std::to_string(rows * depth) + " wanted, described",
                    t->info_offset);
      return nullptr;
    }
    if (type_shape(static_cast<Type>(t->type->id)).values == 0) {
      gguf::fail_at(error_, "tensor '" + name + "': type " + t->type->name + " is not supported, described", t->info_offset);
      return nullptr;
    }
    return t;
  }

  bool matrix(const std::string& name, size_t columns, size_t rows, bool required, Matrix* out, size_t depth = 1) {
    const Tensor* t = find(name, columns, rows, depth, required);
    if (t == nullptr) return !error_->failed();
    *out = {t->data, static_cast<Type>(t->type->id), columns, rows * depth, columns / t->type->block_values * t->type->block_bytes};
    return true;
  }

  bool vector(const std::string& name, size_t count, bool required, std::vector<float>* out) {
    const Tensor* t = find(name, count, 1, 1, required);
    if (t == nullptr) return !error_->failed();
    out->resize(count);
    dequantize(static_cast<Type>(t->type->id), t->data, count, out->data());
    return true;
  }

  bool layer(uint32_t index, Layer* l) {
    const Model& m = m_;
    const std::string at = "blk." + std::to_string(index) + ".";
    const size_t q = m.q_width();
    const size_t kv = m.kv_width();
    const Architecture& a = m.architecture;
    if (a.window_period != 0 && window_ != 0 && index % a.window_period != a.window_full) {
      l->window = window_;
      l->rope = a.local_base ? 1 : 0;
    } else if (a.window_period == 0) {
      l->window = window_ < m.context ? window_ : 0;
    }
    const bool ok =
        vector(at + "attn_norm.weight", m.width, true, &l->attention_norm) && matrix(at + "attn_q.weight", m.width, q, true, &l->q) &&
        matrix(at + "attn_k.weight", m.width, kv, true, &l->k) && matrix(at + "attn_v.weight", m.width, kv, true, &l->v) &&
        matrix(at + "attn_output.weight", q, m.width, true, &l->o) && vector(at + "attn_q.bias", q, false, &l->q_bias) &&
        vector(at + "attn_k.bias", kv, false, &l->k_bias) && vector(at + "attn_v.bias", kv, false, &l->v_bias) &&
        vector(at + "attn_output.bias", m.width, false, &l->o_bias) &&
        (!a.head_norms || (vector(at + "attn_q_norm.weight", m.head_size, true, &l->q_norm) &&
                           vector(at + "attn_k_norm.weight", m.head_size, true, &l->k_norm))) &&
        (!a.post_norms || (vector(at + "post_attention_norm.weight", m.width, true, &l->post_attention_norm) &&
                           vector(at + "post_ffw_norm.weight", m.width, true, &l->post_feed_norm))) &&
        vector(at + "ffn_norm.weight", m.width, true, &l->feed_norm);
    if (!ok) return false;
    if (m.experts == 0) {
      return matrix(at + "ffn_gate.weight", m.width, m.feed, true, &l->gate) &&
             matrix(at + "ffn_up.weight", m.width, m.feed, true, &l->up) &&
             matrix(at + "ffn_down.weight", m.feed, m.width, true, &l->down);
    }
    return matrix(at + "ffn_gate_inp.weight", m.width, m.experts, true, &l->router) &&
           matrix(at + "ffn_gate_exps.weight", m.width, m.feed, true, &l->gate, m.experts) &&
           matrix(at + "ffn_up_exps.weight", m.width, m.feed, true, &l->up, m.experts) &&
           matrix(at + "ffn_down_exps.weight", m.feed, m.width, true, &l->down, m.experts) &&
           (is_float_type(l->router.type) || fail(error_, "tensor '" + at + "ffn_gate_inp.weight' must be of a float type"));
  }

  bool weights() {
    Model& m = m_;
    const Tensor* embedding = file_.tensor("token_embd.weight");
    if (embedding == nullptr) return fail(error_, "tensor 'token_embd.weight' is missing");
    const uint64_t vocabulary = embedding->dims[1];
    const gguf::Value* tokens = file_.find("tokenizer.ggml.tokens");
    if (vocabulary > INT32_MAX || (tokens != nullptr && tokens->count != vocabulary)) {
      return gguf::fail_at(error_, "tensor 'token_embd.weight' has " + std::to_string(vocabulary) +
                                       " rows, which the list of tokens does not match, described",
                           embedding->info_offset);
    }
    m.vocabulary = static_cast<uint32_t>(vocabulary);
    if (!matrix("token_embd.weight", m.width, m.vocabulary, true, &m.embedding) ||
        !matrix("output.weight", m.width, m.vocabulary, false, &m.output) ||
        !vector("output_norm.weight", m.width, true, &m.output_norm)) {
      return false;
    }
    if (!m.output.present()) m.output = m.embedding;
    for (uint32_t i = 0; i < layers_; i++) {
      m.layers.emplace_back();
      if (!layer(i, &m.layers.back())) return false;
    }
    for (const Tensor& t : file_.tensors()) m.parameters += t.values;
    if (used_ < file_.tensors().size()) {
      m.warnings.push_back(std::to_string(file_.tensors().size() - used_) + " tensors of the file are not used");
    }
    return true;
  }

  Model& m_;
  const File& file_;
  Error* error_;
  uint32_t layers_ = 0;
  uint32_t window_ = 0;
  size_t used_ = 0;
};

// SplitMix64.
uint64_t next_random(uint64_t* state) {
  uint64_t z = *state += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

void put_half(uint8_t* p, float v) {
  const uint16_t h = float_half(v);
  p[0] = static_cast<uint8_t>(h);
  p[1] = static_cast<uint8_t>(h >> 8);
}

}  // namespace

const Architecture* architecture_by_name(std::string_view name) noexcept {
  for (const Architecture& a : kArchitectures) {
    if (name == a.name) return &a;
  }
  return nullptr;
}

std::string architecture_names() {
  std::string names;
  for (const Architecture& a : kArchitectures) names += (names.empty() ? "" : ", ") + std::string(a.name);
  return names;
}

std::unique_ptr<Model> Model::open(const char* path, gguf::Error* error) noexcept {
  auto file = File::open(path, error);
  return file == nullptr ? nullptr : load(std::move(file), error);
}

std::unique_ptr<Model> Model::load(std::unique_ptr<gguf::File> file, gguf::Error* error) noexcept {
  auto model = std::make_unique<Model>();
  model->file = std::move(file);
  if (!Loader(model.get(), error).run()) return nullptr;
  return model;
}

void random_blocks(Type type, size_t rows, size_t columns, uint64_t seed, uint8_t* out) {
  const TypeShape shape = type_shape(type);
  const size_t bytes = rows * (columns / shape.values) * shape.bytes;
  const float unit = 1.0f / std::sqrt(static_cast<float>(columns));
  for (size_t i = 0; i < bytes; i += 8) {
    const uint64_t r = next_random(&seed);
    std::memcpy(out + i, &r, std::min<size_t>(8, bytes - i));
  }
  for (uint8_t* p = out; p < out + bytes; p += shape.bytes) {
    const float jitter = 0.75f + static_cast<float>(next_random(&seed) >> 40) * 0x1p-25f;
    const float d = unit * jitter;
    switch (type) {
      case Type::kF32: {
        const float v = d * (static_cast<float>(next_random(&seed) >> 40) * 0x1p-23f - 1.0f);
        std::memcpy(p, &v, 4);
        break;
      }
      case Type::kF16: put_half(p, d * (static_cast<float>(next_random(&seed) >> 40) * 0x1p-23f - 1.0f)); break;
      case Type::kBF16: {
        const float v = d * (static_cast<float>(next_random(&seed) >> 40) * 0x1p-23f - 1.0f);
        const uint32_t b = bits_of(v);
        p[0] = static_cast<uint8_t>(b >> 16);
        p[1] = static_cast<uint8_t>(b >> 24);
        break;
      }
      case Type::kQ8_0:
      case Type::kIQ4_NL: put_half(p, d / 127); break;
      case Type::kQ4_0: put_half(p, d / 8); break;
      case Type::kQ5_0: put_half(p, d / 16); break;
      case Type::kQ4_1: put_half(p, d / 8), put_half(p + 2, -d); break;
      case Type::kQ5_1: put_half(p, d / 16), put_half(p + 2, -d); break;
      case Type::kQ4_K:
      case Type::kQ5_K: put_half(p, d / (type == Type::kQ4_K ? 480 : 960)), put_half(p + 2, d / 64); break;
      case Type::kQ6_K: put_half(p + 208, d / (32 * 128)); break;
      case Type::kQ2_K: put_half(p + 80, d / 24), put_half(p + 82, d / 16); break;
      case Type::kQ3_K: put_half(p + 108, d / 128); break;
      case Type::kIQ4_XS: put_half(p, d / (127 * 32)); break;
      case Type::kMXFP4: p[0] = static_cast<uint8_t>(128 + std::ilogb(d / 12)); break;
    }
  }
}

std::unique_ptr<Model> random_model(const RandomShape& s, uint64_t seed) {
  auto model = std::make_unique<Model>();
  Model& m = *model;
  m.architecture = kArchitectures[0];
  m.context = s.context;
  m.width = s.width;
  m.feed = s.feed;
  m.heads = s.heads;
  m.kv_heads = s.kv_heads;
  m.head_size = s.head_size;
  m.rope_dims = s.head_size;
  m.vocabulary = s.vocabulary;
  m.epsilon = 1e-5f;
  m.score_scale = div1(1.0f, sqrt1(static_cast<float>(m.head_size)));
  RopeParameters p;
  p.dims = m.rope_dims;
  m.rope.push_back(p);
  m.output_norm.assign(m.width, 1.0f);
  const auto matrix = [&](Type type, size_t columns, size_t rows) {
    const TypeShape shape = type_shape(type);
    Matrix w{nullptr, type, columns, rows, columns / shape.values * shape.bytes};
    m.owned.push_back(std::make_unique<uint8_t[]>(w.row_bytes * rows));
    w.data = m.owned.back().get();
    random_blocks(type, rows, columns, next_random(&seed), m.owned.back().get());
    return w;
  };
  m.embedding = matrix(s.type, m.width, m.vocabulary);
  m.output = matrix(s.second, m.width, m.vocabulary);
  for (uint32_t i = 0; i < s.layers; i++) {
    Layer l;
    const Type other = i % 2 == 0 ? s.second : s.type;
    l.attention_norm.assign(m.width, 1.0f);
    l.feed_norm.assign(m.width, 1.0f);
    l.q = matrix(s.type, m.width, m.q_width());
    l.k = matrix(s.type, m.width, m.kv_width());
    l.v = matrix(other, m.width, m.kv_width());
    l.o = matrix(s.type, m.q_width(), m.width);
    l.gate = matrix(s.type, m.width, m.feed);
    l.up = matrix(s.type, m.width, m.feed);
    l.down = matrix(other, m.feed, m.width);
    m.layers.push_back(std::move(l));
  }
  return model;
}

}  // namespace zg::det
