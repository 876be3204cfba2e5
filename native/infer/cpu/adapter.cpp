#include "adapter.h"

#include <charconv>
#include <cmath>
#include <cstring>

namespace zg::cpu {

using gguf::Error;
using gguf::File;
using gguf::Tensor;

namespace {

constexpr uint64_t kMaxRank = 4'096;

bool fail(Error* error, std::string message) {
  error->message = std::move(message);
  return false;
}

// A matrix of the model that can be adapted.
struct Target {
  const det::Matrix* matrix = nullptr;
  Adapter::Pair* pair = nullptr;
  // Matrices behind one another.
  size_t count = 1;
  bool is_embedding = false;
};

}  // namespace

class AdapterLoader {
 public:
  AdapterLoader(const File& file, const det::Model& model, Adapter* adapter, Error* error)
      : file_(file), m_(model), out_(*adapter), error_(error), workers_(1) {}

  bool run() {
    if (!kind()) return false;
    out_.layers_.resize(m_.layers.size());
    size_t pairs = 0;
    for (const Tensor& a : file_.tensors()) {
      const std::string_view name = a.name;
      if (name.ends_with(".lora_b")) {
        if (file_.tensor(std::string(name.substr(0, name.size() - 1)) + "a") != nullptr) continue;
        return fail(error_, "tensor '" + gguf::printable(name) + "' has no '.lora_a' beside it");
      }
      if (!name.ends_with(".lora_a")) return fail(error_, "tensor '" + gguf::printable(name) + "' is neither '.lora_a' nor '.lora_b'");
      const Tensor* b = file_.tensor(std::string(name.substr(0, name.size() - 1)) + "b");
      if (b == nullptr) return fail(error_, "tensor '" + gguf::printable(name) + "' has no '.lora_b' beside it");
      if (!pair(name.substr(0, name.size() - 7), a, *b)) return false;
      pairs++;
    }
    return pairs > 0 || fail(error_, "the adapter holds no tensors");
  }

 private:
  bool kind() {
    std::string_view type;
    std::string_view how;
    std::string_view architecture;
    std::string_view name;
    if (!file_.get("general.type", &type, error_) || !file_.get("adapter.type", &how, error_) ||
        !file_.get("general.architecture", &architecture, error_) || !file_.get("general.name", &name, error_) ||
        !file_.get("adapter.lora.alpha", &alpha_, error_)) {
      return false;
    }
    if (type != "adapter") return fail(error_, "metadata 'general.type' is '" + gguf::printable(type) + "', not 'adapter'");
    if (how != "lora") return fail(error_, "metadata 'adapter.type' is '" + gguf::printable(how) + "', only 'lora' is known");
    if (architecture != m_.architecture.name) {
      return fail(error_, "the adapter is for '" + gguf::printable(architecture) + "', the model is '" + m_.architecture.name + "'");
    }
    if (!std::isfinite(alpha_)) return fail(error_, "metadata 'adapter.lora.alpha' is no finite number");
    out_.name_ = name;
    return true;
  }

  // What a name of the model's file stands for; no matrix: nothing that is adapted.
  Target target(std::string_view name) {
    if (name == "output.weight") return {&m_.output, &out_.output_, 1, false};
    if (name == "token_embd.weight") return {&m_.embedding, &out_.embedding_, 1, true};
    if (!name.starts_with("blk.")) return {};
    uint32_t index = 0;
    const char* end = name.data() + name.size();
    const auto parsed = std::from_chars(name.data() + 4, end, index);
    if (parsed.ec != std::errc() || index >= m_.layers.size()) return {};
    const std::string_view rest(parsed.ptr, static_cast<size_t>(end - parsed.ptr));
    const det::Layer& l = m_.layers[index];
    Adapter::Layer& p = out_.layers_[index];
    if (rest == ".attn_q.weight") return {&l.q, &p.q, 1, false};
    if (rest == ".attn_k.weight") return {&l.k, &p.k, 1, false};
    if (rest == ".attn_v.weight") return {&l.v, &p.v, 1, false};
    if (rest == ".attn_output.weight") return {&l.o, &p.o, 1, false};
    if (m_.experts == 0) {
      if (rest == ".ffn_gate.weight") return {&l.gate, &p.gate, 1, false};
      if (rest == ".ffn_up.weight") return {&l.up, &p.up, 1, false};
      if (rest == ".ffn_down.weight") return {&l.down, &p.down, 1, false};
      return {};
    }
    if (rest == ".ffn_gate_inp.weight") return {&l.router, &p.router, 1, false};
    if (rest == ".ffn_gate_exps.weight") return {&l.gate, &p.gate, m_.experts, false};
    if (rest == ".ffn_up_exps.weight") return {&l.up, &p.up, m_.experts, false};
    if (rest == ".ffn_down_exps.weight") return {&l.down, &p.down, m_.experts, false};
    return {};
  }

  bool pair(std::string_view name, const Tensor& a, const Tensor& b) {
    std::string quoted = "'";
    quoted.append(gguf::printable(name)).append("'");
    const Target t = target(name);
    if (t.matrix == nullptr) return fail(error_, "the adapter changes " + quoted + ", which this model has not, or which is not adapted here");
    const uint64_t rank = b.dims[0];
    const size_t rows = t.matrix->rows / t.count;
    // An embedding is looked up, not multiplied: its A has a row of rank values for each token, its B makes the width.
    const bool a_fits = t.is_embedding ? a.dims[0] == rank && a.dims[1] == m_.vocabulary : a.dims[0] == t.matrix->columns && a.dims[1] == rank;
    const size_t b_rows = t.is_embedding ? m_.width : rows;
    if (!a_fits || b.dims[1] != b_rows || a.dims[2] != t.count || b.dims[2] != t.count || a.dims[3] != 1 || b.dims[3] != 1) {
      return fail(error_, "the adapter's matrices for " + quoted + " do not have its size");
    }
    if (rank > kMaxRank) return fail(error_, "rank " + std::to_string(rank) + " of " + quoted + " is more than 4096");
    t.pair->scale = alpha_ == 0 ? 1 : det::div1(alpha_, static_cast<float>(rank));
    out_.rank_ = std::max(out_.rank_, static_cast<uint32_t>(rank));
    std::vector<float> values;
    if (!read(b, &values) || !packed(values, rank, b_rows, t.count, &t.pair->b)) return false;
    if (!read(a, &values)) return false;
    if (!t.is_embedding) return packed(values, a.dims[0], rank, t.count, &t.pair->a);
    out_.bytes_ += values.size() * sizeof(float);
    out_.embedding_rows_ = std::move(values);
    // Marks it as present; nothing is multiplied with it.
    t.pair->a = t.pair->b;
    return true;
  }

  bool read(const Tensor& t, std::vector<float>* out) {
    if (t.type->dequantize == nullptr) {
      return fail(error_, "tensor '" + gguf::printable(t.name) + "': type " + t.type->name + " is not supported");
    }
    out->resize(t.values);
    t.type->dequantize(t.data, t.values, out->data());
    for (const float v : *out) {
      if (!std::isfinite(v)) return fail(error_, "tensor '" + gguf::printable(t.name) + "' has a value that is no finite number");
    }
    return true;
  }

  bool packed(const std::vector<float>& values, size_t columns, size_t rows, size_t count, Packed* to) {
    const det::Matrix matrix = {reinterpret_cast<const uint8_t*>(values.data()), det::Type::kF32, columns, rows * count, columns * 4};
    *to = packed_shape(matrix, rows);
    const size_t bytes = packed_bytes(*to, count);
    // Groups of rows are multiples of a cache line. Many are small, so pages of their own would be mostly empty.
    std::unique_ptr<uint8_t, Adapter::Free> memory(static_cast<uint8_t*>(std::aligned_alloc(64, bytes)));
    if (memory == nullptr) return fail(error_, "no memory for an adapter of " + std::to_string(bytes >> 20) + " MiB");
    std::memset(memory.get(), 0, bytes);
    pack(matrix, rows, count, false, memory.get(), to, &workers_);
    out_.bytes_ += bytes;
    out_.memory_.push_back(std::move(memory));
    return true;
  }

  const File& file_;
  const det::Model& m_;
  Adapter& out_;
  Error* error_;
  Workers workers_;
  float alpha_ = 0;
};

std::unique_ptr<const Adapter> Adapter::open(const char* path, const det::Model& model, Error* error) {
  const auto file = File::open(path, error);
  return file == nullptr ? nullptr : load(*file, model, error);
}

std::unique_ptr<const Adapter> Adapter::load(const File& file, const det::Model& model, Error* error) {
  auto adapter = std::make_unique<Adapter>();
  if (!AdapterLoader(file, model, adapter.get(), error).run()) return nullptr;
  return adapter;
}

}  // namespace zg::cpu
