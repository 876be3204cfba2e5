// Forward and backward of one sequence. The formulas are those of the engine (RMS norm, RoPE on adjacent pairs, causal
// soft-max attention, SiLU gate); the backward pass recomputes attention probabilities from the saved logarithms of
// their sums instead of keeping heads * n * n of them.
#include "model.h"

#include <cmath>
#include <cstdio>

#include "random.h"

namespace zg::train {

namespace {
constexpr long kQueryRows = 64;   // rows of scores at a time: 64 * 512 floats stay in the second cache
constexpr long kLogitRows = 512;
}  // namespace

const char* Config::fault() const {
  if (vocab < 2 || vocab > 65535) return "vocab must be 2 to 65535";
  if (width < 2 || width > 8192 || layers < 1 || layers > 128 || hidden < 1 || hidden > 65536) return "size out of range";
  if (heads < 1 || kv_heads < 1 || heads > 256 || width % heads != 0 || heads % kv_heads != 0) return "heads do not divide";
  if (head_size() % 2 != 0) return "head size must be even";
  if (context < 2 || context > 8192) return "context must be 2 to 8192";
  return nullptr;
}

Layout layout_of(const Config& c) {
  Layout layout;
  const auto add = [&](const char* name, long layer, long rows, long columns, bool norm) {
    Tensor t{};
    if (layer < 0) {
      std::snprintf(t.name, sizeof t.name, "%s.weight", name);
    } else {
      std::snprintf(t.name, sizeof t.name, "blk.%ld.%s.weight", layer, name);
    }
    t.rows = rows;
    t.columns = columns;
    t.offset = layout.count;
    t.norm = norm;
    layout.count += rows * columns;
    layout.tensors.push_back(t);
    return t.offset;
  };
  layout.embedding = add("token_embd", -1, c.vocab, c.width, false);
  for (long i = 0; i < c.layers; i++) {
    LayerOffsets at{};
    at.attn_norm = add("attn_norm", i, 1, c.width, true);
    at.qkv = add("attn_q", i, c.width, c.width, false);
    add("attn_k", i, c.kv_width(), c.width, false);
    add("attn_v", i, c.kv_width(), c.width, false);
    at.attn_out = add("attn_output", i, c.width, c.width, false);
    at.ffn_norm = add("ffn_norm", i, 1, c.width, true);
    at.gate_up = add("ffn_gate", i, c.hidden, c.width, false);
    add("ffn_up", i, c.hidden, c.width, false);
    at.down = add("ffn_down", i, c.width, c.hidden, false);
    layout.layers.push_back(at);
  }
  layout.output_norm = add("output_norm", -1, 1, c.width, true);
  return layout;
}

void initialize(const Config& config, const Layout& layout, uint64_t seed, float* parameters) {
  Random random(seed, 0x696e6974);
  for (const Tensor& t : layout.tensors) {
    float* p = parameters + t.offset;
    const long count = t.rows * t.columns;
    double spread = 0.6 / std::sqrt(static_cast<double>(t.columns));
    const bool adds = t.offset != layout.embedding && (std::string(t.name).find("attn_output") != std::string::npos ||
                                                       std::string(t.name).find("ffn_down") != std::string::npos);
    if (adds) spread /= std::sqrt(2.0 * static_cast<double>(config.layers));
    if (t.offset == layout.embedding) spread = 0.03;
    for (long i = 0; i < count; i++) p[i] = t.norm ? 1.0f : static_cast<float>(random.normal() * spread);
  }
}

template <class T>
Workspace<T>::Workspace(const Config& c) {
  const auto n = static_cast<size_t>(c.context);
  const auto d = static_cast<size_t>(c.width);
  const auto f = static_cast<size_t>(c.hidden);
  const auto qkv = static_cast<size_t>(c.qkv_width());
  const auto hs = static_cast<size_t>(c.head_size());
  layers.resize(static_cast<size_t>(c.layers));
  for (Layer& l : layers) {
    l.in.resize(n * d);
    l.normed.resize(n * d);
    l.qkv.resize(n * qkv);
    l.mixed.resize(n * d);
    l.middle.resize(n * d);
    l.normed2.resize(n * d);
    l.gate_up.resize(n * 2 * f);
    l.act.resize(n * f);
    l.r1.resize(n);
    l.r2.resize(n);
    l.log_sum.resize(n * static_cast<size_t>(c.heads));
  }
  out.resize(n * d);
  final_normed.resize(n * d);
  final_r.resize(n);
  logits.resize(kLogitRows * static_cast<size_t>(c.vocab));
  keys_t.resize(hs * n);
  values_t.resize(hs * n);
  scores.resize(kQueryRows * n);
  dscores.resize(kQueryRows * n);
  dx.resize(n * d);
  dh.resize(n * d);
  dqkv.resize(n * qkv);
  dgate_up.resize(n * 2 * f);
  dact.resize(n * f);
  dmixed.resize(n * d);
  mean_of.resize(n);
  cosines.resize(n * hs / 2);
  sines.resize(n * hs / 2);
  for (size_t p = 0; p < n; p++) {
    for (size_t i = 0; i < hs / 2; i++) {
      const double angle =
          static_cast<double>(p) * std::pow(c.rope_base, -2.0 * static_cast<double>(i) / static_cast<double>(hs));
      cosines[p * hs / 2 + i] = static_cast<T>(std::cos(angle));
      sines[p * hs / 2 + i] = static_cast<T>(std::sin(angle));
    }
  }
}

template <class T>
Model<T>::Model(const Config& config, const Kernels<T>& kernels)
    : config_(config), layout_(layout_of(config)), k_(kernels) {}

template <class T>
void Model<T>::rope(T* qkv, long n, const Workspace<T>& w, bool back) const {
  const long hs = config_.head_size(), half = hs / 2, heads = config_.heads + config_.kv_heads, row = config_.qkv_width();
  for (long p = 0; p < n; p++) {
    const T* cosine = w.cosines.data() + p * half;
    const T* sine = w.sines.data() + p * half;
    for (long h = 0; h < heads; h++) {
      T* x = qkv + p * row + h * hs;
      for (long i = 0; i < half; i++) {
        const T s = back ? -sine[i] : sine[i];
        const T a = x[2 * i], b = x[2 * i + 1];
        x[2 * i] = a * cosine[i] - b * s;
        x[2 * i + 1] = a * s + b * cosine[i];
      }
    }
  }
}

template <class T>
void Model<T>::attention(long n, typename Workspace<T>::Layer& layer, Workspace<T>& w) const {
  const long hs = config_.head_size(), row = config_.qkv_width(), d = config_.width, group = config_.heads / config_.kv_heads;
  const T scale = static_cast<T>(1 / std::sqrt(static_cast<double>(hs)));
  for (long h = 0; h < config_.heads; h++) {
    const T* q = layer.qkv.data() + h * hs;
    const T* key = layer.qkv.data() + d + (h / group) * hs;
    const T* value = key + config_.kv_width();
    if (h % group == 0) {
      for (long p = 0; p < n; p++) {
        for (long i = 0; i < hs; i++) w.keys_t[static_cast<size_t>(i * n + p)] = key[p * row + i];
      }
    }
    for (long q0 = 0; q0 < n; q0 += kQueryRows) {
      const long rows = n - q0 < kQueryRows ? n - q0 : kQueryRows, seen = q0 + rows;
      T* s = w.scores.data();
      k_.gemm(rows, seen, hs, q + q0 * row, row, 1, w.keys_t.data(), n, 1, s, seen, false);
      for (long i = 0; i < rows; i++) {
        const long at = q0 + i;
        layer.log_sum[static_cast<size_t>(h * config_.context + at)] = k_.softmax(s + i * seen, at + 1, scale);
        for (long j = at + 1; j < seen; j++) s[i * seen + j] = 0;
      }
      k_.gemm(rows, hs, seen, s, seen, 1, value, row, 1, layer.mixed.data() + q0 * d + h * hs, d, false);
    }
  }
}

template <class T>
void Model<T>::attention_back(long n, const typename Workspace<T>::Layer& layer, Workspace<T>& w) const {
  const long hs = config_.head_size(), row = config_.qkv_width(), d = config_.width, group = config_.heads / config_.kv_heads;
  const T scale = static_cast<T>(1 / std::sqrt(static_cast<double>(hs)));
  for (long h = 0; h < config_.heads; h++) {
    const long kv = d + (h / group) * hs, vv = kv + config_.kv_width();
    const T* q = layer.qkv.data() + h * hs;
    const T* key = layer.qkv.data() + kv;
    const T* value = layer.qkv.data() + vv;
    const bool first = h % group == 0;
    if (first) {
      for (long p = 0; p < n; p++) {
        for (long i = 0; i < hs; i++) {
          w.keys_t[static_cast<size_t>(i * n + p)] = key[p * row + i];
          w.values_t[static_cast<size_t>(i * n + p)] = value[p * row + i];
        }
      }
      for (long p = 0; p < n; p++) {
        for (long i = 0; i < hs; i++) w.dqkv[static_cast<size_t>(p * row + kv + i)] = 0;
        for (long i = 0; i < hs; i++) w.dqkv[static_cast<size_t>(p * row + vv + i)] = 0;
      }
    }
    for (long q0 = 0; q0 < n; q0 += kQueryRows) {
      const long rows = n - q0 < kQueryRows ? n - q0 : kQueryRows, seen = q0 + rows;
      T* s = w.scores.data();
      T* ds = w.dscores.data();
      const T* dout = w.dmixed.data() + q0 * d + h * hs;
      k_.gemm(rows, seen, hs, q + q0 * row, row, 1, w.keys_t.data(), n, 1, s, seen, false);
      k_.gemm(rows, seen, hs, dout, d, 1, w.values_t.data(), n, 1, ds, seen, false);
      for (long i = 0; i < rows; i++) {
        const long at = q0 + i;
        const T mean = k_.dot(dout + i * d, layer.mixed.data() + at * d + h * hs, hs);
        k_.softmax_again(s + i * seen, at + 1, scale, layer.log_sum[static_cast<size_t>(h * config_.context + at)]);
        k_.softmax_back(s + i * seen, ds + i * seen, at + 1, scale, mean);
        for (long j = at + 1; j < seen; j++) s[i * seen + j] = ds[i * seen + j] = 0;
      }
      k_.gemm(rows, hs, seen, ds, seen, 1, key, row, 1, w.dqkv.data() + q0 * row + h * hs, row, false);
      k_.gemm(seen, hs, rows, ds, 1, seen, q + q0 * row, row, 1, w.dqkv.data() + kv, row, true);
      k_.gemm(seen, hs, rows, s, 1, seen, dout, d, 1, w.dqkv.data() + vv, row, true);
    }
  }
}

template <class T>
void Model<T>::forward(const T* parameters, const int32_t* tokens, long n, Workspace<T>& w) const {
  const long d = config_.width, f = config_.hidden, row = config_.qkv_width();
  const T epsilon = static_cast<T>(config_.epsilon);
  T* x = w.layers[0].in.data();
  for (long p = 0; p < n; p++) {
    const T* from = parameters + layout_.embedding + tokens[p] * d;
    for (long i = 0; i < d; i++) x[p * d + i] = from[i];
  }
  for (size_t l = 0; l < w.layers.size(); l++) {
    auto& layer = w.layers[l];
    const LayerOffsets& at = layout_.layers[l];
    const T* in = layer.in.data();
    for (long p = 0; p < n; p++) {
      layer.r1[static_cast<size_t>(p)] =
          k_.rms(in + p * d, parameters + at.attn_norm, layer.normed.data() + p * d, d, epsilon);
    }
    k_.gemm(n, row, d, layer.normed.data(), d, 1, parameters + at.qkv, 1, d, layer.qkv.data(), row, false);
    rope(layer.qkv.data(), n, w, false);
    attention(n, layer, w);
    for (long i = 0; i < n * d; i++) layer.middle[static_cast<size_t>(i)] = in[i];
    k_.gemm(n, d, d, layer.mixed.data(), d, 1, parameters + at.attn_out, 1, d, layer.middle.data(), d, true);
    for (long p = 0; p < n; p++) {
      layer.r2[static_cast<size_t>(p)] = k_.rms(layer.middle.data() + p * d, parameters + at.ffn_norm,
                                                layer.normed2.data() + p * d, d, epsilon);
    }
    k_.gemm(n, 2 * f, d, layer.normed2.data(), d, 1, parameters + at.gate_up, 1, d, layer.gate_up.data(), 2 * f, false);
    for (long p = 0; p < n; p++) {
      const T* gate = layer.gate_up.data() + p * 2 * f;
      k_.silu_mul(gate, gate + f, layer.act.data() + p * f, f);
    }
    T* out = l + 1 < w.layers.size() ? w.layers[l + 1].in.data() : w.out.data();
    for (long i = 0; i < n * d; i++) out[i] = layer.middle[static_cast<size_t>(i)];
    k_.gemm(n, d, f, layer.act.data(), f, 1, parameters + at.down, 1, f, out, d, true);
  }
  for (long p = 0; p < n; p++) {
    w.final_r[static_cast<size_t>(p)] = k_.rms(w.out.data() + p * d, parameters + layout_.output_norm,
                                              w.final_normed.data() + p * d, d, epsilon);
  }
}

template <class T>
void Model<T>::logits_at(const T* parameters, long at, const Workspace<T>& w, T* out) const {
  const long d = config_.width;
  k_.gemm(1, config_.vocab, d, w.final_normed.data() + at * d, d, 1, parameters + layout_.embedding, 1, d, out,
          config_.vocab, false);
}

template <class T>
double Model<T>::loss(const T* parameters, const int32_t* tokens, const int32_t* targets, long n, Workspace<T>& w,
                      T* gradient, double scale) const {
  forward(parameters, tokens, n, w);
  const long d = config_.width, v = config_.vocab;
  const T* embedding = parameters + layout_.embedding;
  double total = 0;
  for (long p0 = 0; p0 < n; p0 += kLogitRows) {
    const long rows = n - p0 < kLogitRows ? n - p0 : kLogitRows;
    T* logits = w.logits.data();
    const T* states = w.final_normed.data() + p0 * d;
    k_.gemm(rows, v, d, states, d, 1, embedding, 1, d, logits, v, false);
    for (long i = 0; i < rows; i++) {
      T* row = logits + i * v;
      const int32_t target = targets[p0 + i];
      if (target < 0) {
        for (long j = 0; j < v; j++) row[j] = 0;
        continue;
      }
      const double hit = static_cast<double>(row[target]);
      total += static_cast<double>(k_.softmax(row, v, 1)) - hit;
      row[target] -= 1;
      for (long j = 0; j < v; j++) row[j] *= static_cast<T>(scale);
    }
    if (gradient == nullptr) continue;
    k_.gemm(rows, d, v, logits, v, 1, embedding, d, 1, w.dh.data() + p0 * d, d, false);
    k_.gemm(v, d, rows, logits, 1, v, states, d, 1, gradient + layout_.embedding, d, true);
  }
  if (gradient != nullptr) backward(parameters, tokens, n, w, gradient);
  return total;
}

template <class T>
void Model<T>::backward(const T* parameters, const int32_t* tokens, long n, Workspace<T>& w, T* gradient) const {
  const long d = config_.width, f = config_.hidden, row = config_.qkv_width();
  T* dx = w.dx.data();
  T* dh = w.dh.data();
  for (long i = 0; i < n * d; i++) dx[i] = 0;
  for (long p = 0; p < n; p++) {
    k_.rms_back(w.out.data() + p * d, parameters + layout_.output_norm, dh + p * d, w.final_r[static_cast<size_t>(p)],
               dx + p * d, gradient + layout_.output_norm, d);
  }
  for (size_t l = w.layers.size(); l-- > 0;) {
    auto& layer = w.layers[l];
    const LayerOffsets& at = layout_.layers[l];
    // feed-forward part: dx is the gradient of its output and, through the skip, of its input
    k_.gemm(n, f, d, dx, d, 1, parameters + at.down, f, 1, w.dact.data(), f, false);
    k_.gemm(d, f, n, dx, 1, d, layer.act.data(), f, 1, gradient + at.down, f, true);
    for (long p = 0; p < n; p++) {
      const T* gate = layer.gate_up.data() + p * 2 * f;
      T* dgate = w.dgate_up.data() + p * 2 * f;
      k_.silu_mul_back(gate, gate + f, w.dact.data() + p * f, dgate, dgate + f, f);
    }
    k_.gemm(n, d, 2 * f, w.dgate_up.data(), 2 * f, 1, parameters + at.gate_up, d, 1, dh, d, false);
    k_.gemm(2 * f, d, n, w.dgate_up.data(), 1, 2 * f, layer.normed2.data(), d, 1, gradient + at.gate_up, d, true);
    for (long p = 0; p < n; p++) {
      k_.rms_back(layer.middle.data() + p * d, parameters + at.ffn_norm, dh + p * d, layer.r2[static_cast<size_t>(p)],
                 dx + p * d, gradient + at.ffn_norm, d);
    }
    // attention
    k_.gemm(n, d, d, dx, d, 1, parameters + at.attn_out, d, 1, w.dmixed.data(), d, false);
    k_.gemm(d, d, n, dx, 1, d, layer.mixed.data(), d, 1, gradient + at.attn_out, d, true);
    attention_back(n, layer, w);
    rope(w.dqkv.data(), n, w, true);
    k_.gemm(n, d, row, w.dqkv.data(), row, 1, parameters + at.qkv, d, 1, dh, d, false);
    k_.gemm(row, d, n, w.dqkv.data(), 1, row, layer.normed.data(), d, 1, gradient + at.qkv, d, true);
    for (long p = 0; p < n; p++) {
      k_.rms_back(layer.in.data() + p * d, parameters + at.attn_norm, dh + p * d, layer.r1[static_cast<size_t>(p)],
                 dx + p * d, gradient + at.attn_norm, d);
    }
  }
  for (long p = 0; p < n; p++) k_.add_to(gradient + layout_.embedding + tokens[p] * d, dx + p * d, d);
}

template struct Workspace<float>;
template struct Workspace<double>;
template class Model<float>;
template class Model<double>;

}  // namespace zg::train
