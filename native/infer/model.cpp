#include "model.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace zg::infer {
namespace {

using gguf::Error;
using gguf::File;
using gguf::Tensor;

constexpr Architecture kArchitectures[] = {
    {"llama", false, false},
    {"qwen2", true, false},
    {"qwen3", true, true},
};

constexpr uint32_t kMaxLayers = 1'024;
constexpr uint32_t kMaxHeadSize = 512;
constexpr uint32_t kMaxWidth = 1u << 20;

bool fail(Error* error, std::string message) {
  error->message = std::move(message);
  return false;
}

// Reads one model's keys and tensors; each step returns false with the error set.
class Loader {
 public:
  Loader(Model* model, Error* error) : m_(model), file_(*model->file), error_(error) {}

  bool run() {
    if (file_.tensors().empty()) {
      return fail(error_, "the file holds no tensors (a vocabulary only), so there is no model to run");
    }
    return architecture() && shape() && rope() && weights();
  }

 private:
  bool architecture() {
    std::string_view name;
    if (!file_.get("general.architecture", &name, error_)) return false;
    if (name.empty()) return fail(error_, "metadata 'general.architecture' is missing: not a language model");
    std::string known;
    for (const Architecture& a : kArchitectures) {
      if (name == a.name) m_->architecture = &a;
      known += (known.empty() ? "" : ", ") + std::string(a.name);
    }
    if (m_->architecture == nullptr) {
      return fail(error_, "architecture '" + gguf::printable(name) + "' is not known; known are " + known);
    }
    std::string_view title;
    if (!file_.get("general.name", &title, error_)) return false;
    m_->name = title;
    uint32_t parts = 1;
    if (!file_.get("split.count", &parts, error_)) return false;
    if (parts > 1) return fail(error_, "the model is split over " + std::to_string(parts) + " files; join them first");
    return true;
  }

  std::string key(const char* suffix) const { return std::string(m_->architecture->name) + "." + suffix; }

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

  bool positive(const char* suffix, bool required, float* out) {
    const std::string name = key(suffix);
    if (required && file_.find(name) == nullptr) return fail(error_, "metadata '" + name + "' is missing");
    if (!file_.get(name, out, error_)) return false;
    if (std::isfinite(*out) && *out > 0) return true;
    return fail(error_, "metadata '" + name + "': not a positive number");
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

  bool shape() {
    Model& m = *m_;
    if (!number("block_count", 0, 1, kMaxLayers, &layers_) || !number("context_length", 0, 1, UINT32_MAX, &m.context) ||
        !number("embedding_length", 0, 1, kMaxWidth, &m.width) || !number("feed_forward_length", 0, 1, kMaxWidth, &m.feed) ||
        !number("attention.head_count", 0, 1, kMaxWidth, &m.heads) ||
        !number("attention.head_count_kv", m.heads, 1, m.heads, &m.kv_heads)) {
      return false;
    }
    uint32_t value_size = 0;
    const uint32_t by_width = std::max(m.width / m.heads, 1u);
    if (!number("attention.key_length", by_width, 1, kMaxHeadSize, &m.head_size) ||
        !number("attention.value_length", m.head_size, 1, kMaxHeadSize, &value_size) ||
        !number("rope.dimension_count", m.head_size, 1, kMaxHeadSize, &m.rope_dims) ||
        !positive("attention.layer_norm_rms_epsilon", true, &m.epsilon)) {
      return false;
    }
    if (!uniform("feed_forward_length", m.feed) || !uniform("attention.head_count", m.heads) ||
        !uniform("attention.head_count_kv", m.kv_heads)) {
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
    uint32_t experts = 0;
    if (!file_.get(key("expert_count"), &experts, error_)) return false;
    if (experts > 0) return fail(error_, "mixtures of experts are not supported");
    // A window that no position leaves changes nothing.
    uint32_t window = UINT32_MAX;
    if (!file_.get(key("attention.sliding_window"), &window, error_)) return false;
    if (window > 0 && window < m.context) return fail(error_, "sliding-window attention is not supported");
    return true;
  }

  bool rope() {
    Model& m = *m_;
    float base = 10'000;
    float factor = 1;
    float old_factor = 1;
    std::string_view type = "none";
    if (!positive("rope.freq_base", false, &base) || !positive("rope.scaling.factor", false, &factor) ||
        !positive("rope.scale_linear", false, &old_factor) || !file_.get(key("rope.scaling.type"), &type, error_)) {
      return false;
    }
    const uint32_t n = m.rope_dims;
    const uint32_t pairs = n / 2;
    m.frequencies.resize(pairs);
    for (uint32_t i = 0; i < pairs; i++) {
      m.frequencies[i] = std::pow(static_cast<double>(base), -2.0 * i / n);
    }
    if (!divisors()) return false;
    if (type == "linear" || (type == "none" && old_factor != 1)) {
      const float by = type == "linear" && file_.find(key("rope.scaling.factor")) != nullptr ? factor : old_factor;
      for (double& f : m.frequencies) f /= static_cast<double>(by);
    } else if (type == "yarn") {
      return yarn(static_cast<double>(base), static_cast<double>(factor));
    } else if (type != "none") {
      return fail(error_, "metadata '" + key("rope.scaling.type") + "': '" + gguf::printable(type) + "' is not supported");
    }
    return true;
  }

  // Llama 3.1 and later: a divisor for each pair.
  bool divisors() {
    std::vector<float> f;
    if (!vector("rope_freqs.weight", m_->rope_dims / 2, false, &f)) return false;
    for (size_t i = 0; i < f.size(); i++) {
      if (!std::isfinite(f[i]) || !(f[i] > 0)) return fail(error_, "tensor 'rope_freqs.weight': not all positive numbers");
      m_->frequencies[i] /= static_cast<double>(f[i]);
    }
    return true;
  }

  bool yarn(double base, double factor) {
    Model& m = *m_;
    float original = static_cast<float>(m.context);
    float fast = 32;
    float slow = 1;
    float magnitude = static_cast<float>(1 + 0.1 * std::log(factor));
    uint32_t trained = m.context;
    if (!file_.get(key("rope.scaling.original_context_length"), &trained, error_) ||
        !positive("rope.scaling.yarn_beta_fast", false, &fast) || !positive("rope.scaling.yarn_beta_slow", false, &slow) ||
        !positive("rope.scaling.attn_factor", false, &magnitude)) {
      return false;
    }
    if (trained == 0 || base == 1) return fail(error_, "YaRN without an original context length or with base 1");
    original = static_cast<float>(trained);
    const double n = m.rope_dims;
    const auto corrected = [&](double beta) {
      return n * std::log(static_cast<double>(original) / (2 * std::numbers::pi * beta)) / (2 * std::log(base));
    };
    const double low = std::max(0.0, std::floor(corrected(static_cast<double>(fast))));
    const double high = std::min(n - 1, std::ceil(corrected(static_cast<double>(slow))));
    for (size_t i = 0; i < m.frequencies.size(); i++) {
      const double ramp = (static_cast<double>(i) - low) / std::max(0.001, high - low);
      const double keep = 1 - std::clamp(ramp, 0.0, 1.0);
      m.frequencies[i] *= keep + (1 - keep) / factor;
    }
    m.rope_magnitude = magnitude;
    return true;
  }

  // Tensor by name with exactly these dimensions, of a type that can be computed with. nullptr with no error set: absent.
  const Tensor* find(const std::string& name, uint64_t columns, uint64_t rows, bool required) {
    const Tensor* t = file_.tensor(name);
    if (t == nullptr) {
      if (required) fail(error_, "tensor '" + name + "' is missing");
      return nullptr;
    }
    used_++;
    if (t->dims[0] != columns || t->dims[1] != rows || t->dims[2] != 1 || t->dims[3] != 1) {
      gguf::fail_at(error_,
                    "tensor '" + name + "' is " + std::to_string(t->dims[0]) + " x " + std::to_string(t->values / t->dims[0]) + ", " +
                        std::to_string(columns) + " x " + std::to_string(rows) + " wanted, described",
                    t->info_offset);
      return nullptr;
    }
    if (t->type->dequantize == nullptr) {
      gguf::fail_at(error_, "tensor '" + name + "': type " + t->type->name + " is not supported, described", t->info_offset);
      return nullptr;
    }
    return t;
  }

  bool matrix(const std::string& name, size_t columns, size_t rows, bool required, Matrix* out) {
    const Tensor* t = find(name, columns, rows, required);
    if (t == nullptr) return !error_->failed();
    *out = {t->data, t->type, columns, rows, columns / t->type->block_values * t->type->block_bytes};
    return true;
  }

  bool vector(const std::string& name, size_t count, bool required, std::vector<float>* out) {
    const Tensor* t = find(name, count, 1, required);
    if (t == nullptr) return !error_->failed();
    out->resize(count);
    t->type->dequantize(t->data, count, out->data());
    return true;
  }

  bool layer(const std::string& at, Layer* l) {
    const Model& m = *m_;
    const size_t q = size_t{m.heads} * m.head_size;
    const size_t kv = size_t{m.kv_heads} * m.head_size;
    const bool norms = m.architecture->head_norms;
    return vector(at + "attn_norm.weight", m.width, true, &l->attention_norm) &&
           matrix(at + "attn_q.weight", m.width, q, true, &l->q) && matrix(at + "attn_k.weight", m.width, kv, true, &l->k) &&
           matrix(at + "attn_v.weight", m.width, kv, true, &l->v) &&
           matrix(at + "attn_output.weight", q, m.width, true, &l->o) && vector(at + "attn_q.bias", q, false, &l->q_bias) &&
           vector(at + "attn_k.bias", kv, false, &l->k_bias) && vector(at + "attn_v.bias", kv, false, &l->v_bias) &&
           vector(at + "attn_output.bias", m.width, false, &l->o_bias) &&
           (!norms || (vector(at + "attn_q_norm.weight", m.head_size, true, &l->q_norm) &&
                       vector(at + "attn_k_norm.weight", m.head_size, true, &l->k_norm))) &&
           vector(at + "ffn_norm.weight", m.width, true, &l->feed_norm) &&
           matrix(at + "ffn_gate.weight", m.width, m.feed, true, &l->gate) &&
           matrix(at + "ffn_up.weight", m.width, m.feed, true, &l->up) &&
           matrix(at + "ffn_down.weight", m.feed, m.width, true, &l->down);
  }

  bool weights() {
    Model& m = *m_;
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
      Layer l;
      if (!layer("blk." + std::to_string(i) + ".", &l)) return false;
      m.layers.push_back(std::move(l));
    }
    for (const Tensor& t : file_.tensors()) m.parameters += t.values;
    if (used_ < file_.tensors().size()) {
      m.warnings.push_back(std::to_string(file_.tensors().size() - used_) + " tensors of the file are not used");
    }
    return true;
  }

  Model* m_;
  const File& file_;
  Error* error_;
  uint32_t layers_ = 0;
  size_t used_ = 0;
};

}  // namespace

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

}  // namespace zg::infer
