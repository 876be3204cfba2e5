#include "shape.h"

#include <algorithm>
#include <cmath>

#include "random.h"

namespace zg::train {

std::string Config::fault() const {
  const auto within = [](long v, long least, long most) { return v >= least && v <= most; };
  if (!within(vocab, 2, 1 << 20)) return "the vocabulary must have 2 to 1048576 tokens";
  if (!within(width, 2, 16384)) return "the width must be 2 to 16384";
  if (!within(layers, 1, 256)) return "there must be 1 to 256 layers";
  if (!within(hidden, 1, 65536)) return "the feed-forward width must be 1 to 65536";
  if (!within(heads, 1, 256) || !within(kv_heads, 1, heads) || heads % kv_heads != 0) return "heads and key-value heads do not divide";
  if (!within(head_size, 2, 512) || head_size % 2 != 0) return "a head must have an even size of 2 to 512";
  if (!within(context, 2, 32768)) return "the context must be 2 to 32768";
  if (experts != 0 && (!within(experts, 1, 1024) || !within(experts_used, 1, experts))) return "the counts of experts do not fit together";
  return "";
}

std::string new_config(const std::string& architecture, const Config& sizes, long window, double rope_base, Config* out) {
  const det::Architecture* rules = det::architecture_by_name(architecture);
  if (rules == nullptr) return "architecture '" + architecture + "' is not known; known are " + det::architecture_names();
  Config c = sizes;
  c.architecture = *rules;
  if (c.heads > 0 && c.head_size == 0) {
    if (c.width % c.heads != 0) return "the width does not divide into the heads: name the head size";
    c.head_size = c.width / c.heads;
  }
  if (architecture == "qwen2") c.q_bias = c.k_bias = c.v_bias = true;
  if (architecture == "qwen3moe" && c.experts == 0) return "qwen3moe needs experts";
  if (c.experts != 0 && architecture != "qwen3moe" && architecture != "llama") return architecture + " has no experts";
  if (rules->gemma) c.embedding_scale = static_cast<double>(det::sqrt1(static_cast<float>(c.width)));
  if (architecture == "gemma2") c.score_cap = 50, c.logit_cap = 30;
  if (c.head_size > 0) c.score_scale = static_cast<double>(det::div1(1.0f, det::sqrt1(static_cast<float>(c.head_size))));
  det::RopeParameters p;
  p.dims = static_cast<uint32_t>(c.head_size);
  p.base = static_cast<float>(rope_base);
  c.rope.assign(1, p);
  if (rules->local_base) {
    det::RopeParameters local;
    local.dims = p.dims;
    c.rope.push_back(local);
  }
  for (uint32_t i = 0; i < static_cast<uint32_t>(std::max(c.layers, 0l)) && i < 4096; i++) {
    const bool windowed = rules->window_period != 0 && window != 0 && i % rules->window_period != rules->window_full;
    c.window_of.push_back(windowed ? window : 0);
    c.rope_of.push_back(windowed && rules->local_base ? 1 : 0);
  }
  *out = c;
  return c.fault();
}

Config config_of(const det::Model& m, long context) {
  Config c;
  c.architecture = m.architecture;
  c.vocab = m.vocabulary;
  c.width = m.width;
  c.layers = static_cast<long>(m.layers.size());
  c.heads = m.heads;
  c.kv_heads = m.kv_heads;
  c.head_size = m.head_size;
  c.hidden = m.feed;
  c.context = context > 0 ? std::min(context, static_cast<long>(m.context)) : static_cast<long>(m.context);
  c.experts = m.experts;
  c.experts_used = m.experts_used;
  c.tied = m.output.data == m.embedding.data;
  c.epsilon = static_cast<double>(m.epsilon);
  c.score_scale = static_cast<double>(m.score_scale);
  c.score_cap = static_cast<double>(m.score_cap);
  c.logit_cap = static_cast<double>(m.logit_cap);
  c.embedding_scale = static_cast<double>(m.embedding_scale);
  c.rope = m.rope;
  for (const det::Layer& l : m.layers) {
    c.rope_of.push_back(l.rope);
    c.window_of.push_back(static_cast<long>(l.window));
  }
  const det::Layer& first = m.layers[0];
  c.q_bias = !first.q_bias.empty();
  c.k_bias = !first.k_bias.empty();
  c.v_bias = !first.v_bias.empty();
  c.o_bias = !first.o_bias.empty();
  return c;
}

Layout layout_of(const Config& c) {
  Layout layout;
  const auto add = [&](const std::string& name, long rows, long columns, Kind kind, long depth = 1) {
    layout.tensors.push_back({name, rows, columns, depth, layout.count, kind});
    layout.count += rows * columns * depth;
    return layout.tensors.back().offset;
  };
  const auto norm = [&](const std::string& name, long columns) { return add(name + ".weight", 1, columns, Kind::kNorm); };
  const auto bias = [&](const std::string& name, bool there, long columns) {
    return there ? add(name + ".bias", 1, columns, Kind::kBias) : -1;
  };
  layout.embedding = add("token_embd.weight", c.vocab, c.width, Kind::kMatrix);
  for (long i = 0; i < c.layers; i++) {
    LayerOffsets at;
    const std::string b = "blk." + std::to_string(i) + ".";
    at.attn_norm = norm(b + "attn_norm", c.width);
    at.qkv = add(b + "attn_q.weight", c.q_width(), c.width, Kind::kMatrix);
    add(b + "attn_k.weight", c.kv_width(), c.width, Kind::kMatrix);
    add(b + "attn_v.weight", c.kv_width(), c.width, Kind::kMatrix);
    at.q_bias = bias(b + "attn_q", c.q_bias, c.q_width());
    at.k_bias = bias(b + "attn_k", c.k_bias, c.kv_width());
    at.v_bias = bias(b + "attn_v", c.v_bias, c.kv_width());
    if (c.architecture.head_norms) {
      at.q_norm = norm(b + "attn_q_norm", c.head_size);
      at.k_norm = norm(b + "attn_k_norm", c.head_size);
    }
    at.attn_out = add(b + "attn_output.weight", c.width, c.q_width(), Kind::kMatrix);
    at.o_bias = bias(b + "attn_output", c.o_bias, c.width);
    if (c.architecture.post_norms) at.post_attn = norm(b + "post_attention_norm", c.width);
    at.ffn_norm = norm(b + "ffn_norm", c.width);
    if (c.experts == 0) {
      at.gate_up = add(b + "ffn_gate.weight", c.hidden, c.width, Kind::kMatrix);
      at.up = add(b + "ffn_up.weight", c.hidden, c.width, Kind::kMatrix);
      at.down = add(b + "ffn_down.weight", c.width, c.hidden, Kind::kMatrix);
    } else {
      at.router = add(b + "ffn_gate_inp.weight", c.experts, c.width, Kind::kMatrix);
      at.gate_up = add(b + "ffn_gate_exps.weight", c.hidden, c.width, Kind::kMatrix, c.experts);
      at.up = add(b + "ffn_up_exps.weight", c.hidden, c.width, Kind::kMatrix, c.experts);
      at.down = add(b + "ffn_down_exps.weight", c.width, c.hidden, Kind::kMatrix, c.experts);
    }
    if (c.architecture.post_norms) at.post_ffn = norm(b + "post_ffw_norm", c.width);
    layout.layers.push_back(at);
  }
  layout.output_norm = norm("output_norm", c.width);
  layout.output = c.tied ? layout.embedding : add("output.weight", c.vocab, c.width, Kind::kMatrix);
  return layout;
}

void initialize(const Config& config, const Layout& layout, uint64_t seed, float* parameters) {
  Random random(seed, 0x696e6974);
  for (const Tensor& t : layout.tensors) {
    float* p = parameters + t.offset;
    double spread = 0.6 / std::sqrt(static_cast<double>(t.columns));
    if (t.name.find("attn_output") != std::string::npos || t.name.find("ffn_down") != std::string::npos) {
      spread /= std::sqrt(2.0 * static_cast<double>(config.layers));
    }
    if (t.offset == layout.embedding) spread = 0.03;
    for (long i = 0; i < t.count(); i++) {
      p[i] = t.kind == Kind::kNorm ? 1.0f : t.kind == Kind::kBias ? 0.0f : static_cast<float>(random.normal() * spread);
    }
  }
}

std::string load_parameters(const det::Model& model, const Layout& layout, std::vector<float>* parameters) {
  parameters->resize(static_cast<size_t>(layout.count));
  for (const Tensor& t : layout.tensors) {
    const gguf::Tensor* from = model.file->tensor(t.name);
    if (from == nullptr || from->values != static_cast<uint64_t>(t.count())) return "tensor '" + t.name + "' is missing or has another shape";
    float* to = parameters->data() + t.offset;
    det::dequantize(static_cast<det::Type>(from->type->id), from->data, from->values, to);
    for (long i = 0; i < t.count(); i++) {
      if (!std::isfinite(to[i])) return "tensor '" + t.name + "' holds a value that is no finite number";
    }
  }
  return "";
}

AdapterLayout adapter_layout_of(const Config& c, const AdapterConfig& adapter) {
  AdapterLayout layout;
  layout.layers.resize(static_cast<size_t>(c.layers));
  if (adapter.rank == 0) return layout;
  layout.rank = adapter.rank;
  layout.scale = adapter.scale();
  const auto wanted = [&](const char* name) {
    return std::find(adapter.targets.begin(), adapter.targets.end(), name) != adapter.targets.end();
  };
  for (long i = 0; i < c.layers; i++) {
    LayerPairs& pairs = layout.layers[static_cast<size_t>(i)];
    const auto add = [&](const char* target, long rows, long columns, PairOffsets* pair, bool expert = false) {
      if (!wanted(target)) return;
      const std::string name = "blk." + std::to_string(i) + "." + target + (expert ? "_exps" : "") + ".weight";
      const long depth = expert ? c.experts : 1;
      pair->a = layout.count;
      layout.tensors.push_back({name + ".lora_a", adapter.rank, columns, depth, layout.count, Kind::kMatrix});
      layout.count += layout.tensors.back().count();
      pair->b = layout.count;
      layout.tensors.push_back({name + ".lora_b", rows, adapter.rank, depth, layout.count, Kind::kMatrix});
      layout.count += layout.tensors.back().count();
    };
    add("attn_q", c.q_width(), c.width, &pairs.q);
    add("attn_k", c.kv_width(), c.width, &pairs.k);
    add("attn_v", c.kv_width(), c.width, &pairs.v);
    add("attn_output", c.width, c.q_width(), &pairs.o);
    add("ffn_gate", c.hidden, c.width, &pairs.gate, c.experts > 0);
    add("ffn_up", c.hidden, c.width, &pairs.up, c.experts > 0);
    add("ffn_down", c.width, c.hidden, &pairs.down, c.experts > 0);
  }
  return layout;
}

void initialize(const AdapterLayout& layout, uint64_t seed, float* parameters) {
  Random random(seed, 0x6c6f7261);
  for (const Tensor& t : layout.tensors) {
    const bool is_b = t.name.ends_with(".lora_b");
    const double spread = 1 / std::sqrt(static_cast<double>(t.columns));
    for (long i = 0; i < t.count(); i++) parameters[t.offset + i] = is_b ? 0.0f : static_cast<float>(random.normal() * spread);
  }
}

}  // namespace zg::train
