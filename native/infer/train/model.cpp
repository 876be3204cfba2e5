// Forward pass and loss. The formulas are those of the engine (inference.md section 4); the backward pass (model_back.cpp) computes
// attention probabilities again from the saved logarithms of their sums instead of keeping heads * n * n of them.
#include "model.h"

#include <algorithm>
#include <cmath>

namespace zg::train {

namespace {
constexpr long kLogitValues = 2'097'152;
}  // namespace

long logit_rows(const Config& c) { return std::clamp(kLogitValues / c.vocab, 16l, 512l); }

template <class T>
Workspace<T>::Workspace(const Config& c, long rank) {
  const auto n = static_cast<size_t>(c.context), d = static_cast<size_t>(c.width), f = static_cast<size_t>(c.hidden);
  const auto qkv = static_cast<size_t>(c.qkv_width()), q = static_cast<size_t>(c.q_width()), hs = static_cast<size_t>(c.head_size);
  const auto used = static_cast<size_t>(c.experts > 0 ? c.experts_used : 1);
  const bool post = c.architecture.post_norms, head = c.architecture.head_norms;
  const auto norms = static_cast<size_t>(c.heads + c.kv_heads);
  layers.resize(static_cast<size_t>(c.layers));
  for (Layer& l : layers) {
    for (std::vector<T>* v : {&l.in, &l.normed, &l.middle, &l.normed2}) v->resize(n * d);
    l.qkv.resize(n * qkv);
    l.mixed.resize(n * q);
    l.gate_up.resize(n * used * 2 * f);
    l.act.resize(n * used * f);
    if (head) l.raw.resize(n * qkv), l.head_r.resize(n * norms);
    if (post) l.attn_y.resize(n * d), l.ffn_y.resize(n * d), l.r3.resize(n), l.r4.resize(n);
    l.r1.resize(n);
    l.r2.resize(n);
    l.log_sum.resize(n * static_cast<size_t>(c.heads));
    if (c.experts > 0) {
      l.token_of.resize(n * used);
      l.share.resize(n * used);
      l.start_of.resize(static_cast<size_t>(c.experts) + 1);
    }
  }
  for (std::vector<T>* v : {&out, &final_normed, &dx, &dh, &dbranch}) v->resize(n * d);
  final_r.resize(n);
  const auto rows_held = static_cast<size_t>(logit_rows(c));
  logits.resize(rows_held * static_cast<size_t>(c.vocab));
  picked.resize(rows_held * d * 2);
  keys_t.resize(hs * n);
  values_t.resize(hs * n);
  scores.resize(kQueryRows * n);
  dscores.resize(kQueryRows * n);
  if (c.score_cap != 0) slopes.resize(kQueryRows * n);
  dqkv.resize(n * qkv);
  dgate_up.resize(n * 2 * f);
  dact.resize(n * f);
  dmixed.resize(n * q);
  if (c.experts > 0) {
    rows.resize(n * d);
    rows2.resize(n * d);
    router.resize(n * static_cast<size_t>(c.experts));
    drouter.resize(n * static_cast<size_t>(c.experts));
  }
  low.resize(n * static_cast<size_t>(rank));
  dlow.resize(n * static_cast<size_t>(rank));
  for (const det::RopeParameters& p : c.rope) {
    const std::vector<float> table = det::rope_table(p, static_cast<uint32_t>(c.context));
    std::vector<T> cosine(table.size() / 2), sine(table.size() / 2);
    for (size_t i = 0; i < cosine.size(); i++) {
      cosine[i] = static_cast<T>(table[2 * i]);
      sine[i] = static_cast<T>(table[2 * i + 1]);
    }
    cosines.push_back(std::move(cosine));
    sines.push_back(std::move(sine));
  }
}

template <class T>
uint64_t Workspace<T>::bytes(const Config& c, long rank) {
  const auto n = static_cast<uint64_t>(c.context), d = static_cast<uint64_t>(c.width), f = static_cast<uint64_t>(c.hidden);
  const auto qkv = static_cast<uint64_t>(c.qkv_width()), q = static_cast<uint64_t>(c.q_width());
  const auto used = static_cast<uint64_t>(c.experts > 0 ? c.experts_used : 1), held = static_cast<uint64_t>(logit_rows(c));
  const uint64_t post = c.architecture.post_norms ? 2 * d + 2 : 0, head = c.architecture.head_norms ? qkv + q : 0;
  const uint64_t layer = n * (4 * d + qkv + q + 3 * used * f + post + head + static_cast<uint64_t>(c.heads) + 2 * used + 2);
  const uint64_t scratch = n * (5 * d + qkv + q + 3 * f + 2 * static_cast<uint64_t>(c.head_size) + 3 * kQueryRows +
                                (c.experts > 0 ? 2 * d + 2 * static_cast<uint64_t>(c.experts) : 0) + 2 * static_cast<uint64_t>(rank) +
                                2 * static_cast<uint64_t>(c.head_size)) +
                           held * (static_cast<uint64_t>(c.vocab) + 2 * d);
  return sizeof(T) * (static_cast<uint64_t>(c.layers) * layer + scratch);
}

template <class T>
Model<T>::Model(const Config& config, const AdapterConfig& adapter, const Kernels<T>& kernels)
    : config_(config), layout_(layout_of(config)), adapter_(adapter_layout_of(config, adapter)), k_(kernels) {}

template <class T>
auto Model<T>::pair_of(const PairOffsets& at, const Weights<T>& weights, const Gradient<T>& gradient, long in, long out,
                       long expert) const -> Pair {
  if (at.a < 0 || weights.adapter == nullptr) return {};
  const long a = at.a + expert * adapter_.rank * in, b = at.b + expert * adapter_.rank * out;
  if (gradient.adapter == nullptr) return {weights.adapter + a, weights.adapter + b, nullptr, nullptr};
  return {weights.adapter + a, weights.adapter + b, gradient.adapter + a, gradient.adapter + b};
}

template <class T>
void Model<T>::add_low(const Pair& pair, long n, const T* x, long ldx, long in, T* y, long ldy, long out, Workspace<T>& w) const {
  if (pair.a == nullptr || n == 0) return;
  const long r = adapter_.rank;
  T* low = w.low.data();
  k_.gemm(n, r, in, x, ldx, 1, pair.a, 1, in, low, r, false);
  for (long i = 0; i < n * r; i++) low[i] *= static_cast<T>(adapter_.scale);
  k_.gemm(n, out, r, low, r, 1, pair.b, 1, r, y, ldy, true);
}

template <class T>
void Model<T>::rope(size_t layer, T* qkv, const Window& window, const Workspace<T>& w, bool back) const {
  const long hs = config_.head_size, half = config_.rope_dims() / 2, row = config_.qkv_width();
  const long heads = config_.heads + config_.kv_heads, n = window.size();
  const bool split = config_.architecture.half_split;
  const uint32_t table = config_.rope_of[layer];
  long position = 0;
  size_t next = 0;
  for (long p = 0; p < n; p++, position++) {
    if (next < window.starts.size() && window.starts[next] == p) position = 0, next++;
    const T* cosine = w.cosines[table].data() + position * half;
    const T* sine = w.sines[table].data() + position * half;
    for (long h = 0; h < heads; h++) {
      T* x = qkv + p * row + h * hs;
      for (long i = 0; i < half; i++) {
        const T s = back ? -sine[i] : sine[i];
        T& first = split ? x[i] : x[2 * i];
        T& second = split ? x[i + half] : x[2 * i + 1];
        const T a = first, b = second;
        first = a * cosine[i] - b * s;
        second = a * s + b * cosine[i];
      }
    }
  }
}

template <class T>
void Model<T>::head_norms(size_t l, long n, const T* base, Workspace<T>& w) const {
  Layer& layer = w.layers[l];
  const LayerOffsets& at = layout_.layers[l];
  const long hs = config_.head_size, row = config_.qkv_width(), norms = config_.heads + config_.kv_heads;
  std::copy(layer.qkv.begin(), layer.qkv.begin() + n * row, layer.raw.begin());
  for (long p = 0; p < n; p++) {
    for (long h = 0; h < norms; h++) {
      const T* weight = base + (h < config_.heads ? at.q_norm : at.k_norm);
      layer.head_r[static_cast<size_t>(p * norms + h)] = k_.rms(layer.raw.data() + p * row + h * hs, weight,
                                                                layer.qkv.data() + p * row + h * hs, hs, static_cast<T>(config_.epsilon));
    }
  }
}

// One sequence of a window: rows begin … begin + n - 1.
template <class T>
void Model<T>::attention(size_t l, long begin, long n, Workspace<T>& w) const {
  Layer& layer = w.layers[l];
  const long hs = config_.head_size, row = config_.qkv_width(), qw = config_.q_width(), group = config_.heads / config_.kv_heads;
  const long window = config_.window_of[l];
  const bool capped = config_.score_cap != 0;
  const T scale = static_cast<T>(config_.score_scale);
  const T* qkv = layer.qkv.data() + begin * row;
  for (long h = 0; h < config_.heads; h++) {
    const T* q = qkv + h * hs;
    const T* key = qkv + qw + (h / group) * hs;
    const T* value = key + config_.kv_width();
    if (h % group == 0) {
      for (long p = 0; p < n; p++) {
        for (long i = 0; i < hs; i++) w.keys_t[static_cast<size_t>(i * n + p)] = key[p * row + i];
      }
    }
    for (long q0 = 0; q0 < n; q0 += kQueryRows) {
      const long rows = std::min(n - q0, kQueryRows), first = window > 0 ? std::max(0l, q0 + 1 - window) : 0, seen = q0 + rows - first;
      T* s = w.scores.data();
      k_.gemm(rows, seen, hs, q + q0 * row, row, 1, w.keys_t.data() + first, n, 1, s, seen, false);
      for (long i = 0; i < rows; i++) {
        const long at = q0 + i, from = window > 0 ? std::max(0l, at + 1 - window - first) : 0, to = at + 1 - first;
        T* line = s + i * seen;
        if (capped) k_.cap(line + from, to - from, scale, static_cast<T>(config_.score_cap));
        layer.log_sum[static_cast<size_t>(h * config_.context + begin + at)] = k_.softmax(line + from, to - from, capped ? T{1} : scale);
        for (long j = 0; j < from; j++) line[j] = 0;
        for (long j = to; j < seen; j++) line[j] = 0;
      }
      k_.gemm(rows, hs, seen, s, seen, 1, value + first * row, row, 1, layer.mixed.data() + (begin + q0) * qw + h * hs, qw, false);
    }
  }
}

template <class T>
void Model<T>::dense(size_t l, const Weights<T>& weights, long n, T* y, Workspace<T>& w) const {
  Layer& layer = w.layers[l];
  const LayerOffsets& at = layout_.layers[l];
  const LayerPairs& pairs = adapter_.layers[l];
  const long d = config_.width, f = config_.hidden;
  k_.gemm(n, 2 * f, d, layer.normed2.data(), d, 1, weights.base + at.gate_up, 1, d, layer.gate_up.data(), 2 * f, false);
  add_low(pair_of(pairs.gate, weights, {}, d, f, 0), n, layer.normed2.data(), d, d, layer.gate_up.data(), 2 * f, f, w);
  add_low(pair_of(pairs.up, weights, {}, d, f, 0), n, layer.normed2.data(), d, d, layer.gate_up.data() + f, 2 * f, f, w);
  const auto gate_of = config_.architecture.gemma ? k_.gelu_mul : k_.silu_mul;
  for (long p = 0; p < n; p++) {
    const T* gate = layer.gate_up.data() + p * 2 * f;
    gate_of(gate, gate + f, layer.act.data() + p * f, f);
  }
  k_.gemm(n, d, f, layer.act.data(), f, 1, weights.base + at.down, 1, f, y, d, true);
  add_low(pair_of(pairs.down, weights, {}, f, d, 0), n, layer.act.data(), f, f, y, d, d, w);
}

template <class T>
void Model<T>::forward(const Weights<T>& weights, const Window& window, Workspace<T>& w) const {
  const T* base = weights.base;
  const long d = config_.width, qw = config_.q_width(), kvw = config_.kv_width(), row = config_.qkv_width(), n = window.size();
  const T epsilon = static_cast<T>(config_.epsilon);
  const bool post = config_.architecture.post_norms;
  T* x = w.layers[0].in.data();
  for (long p = 0; p < n; p++) {
    const T* from = base + layout_.embedding + window.tokens[static_cast<size_t>(p)] * d;
    for (long i = 0; i < d; i++) x[p * d + i] = from[i] * static_cast<T>(config_.embedding_scale);
  }
  const auto norms = [&](const std::vector<T>& from, long weight, T* to, std::vector<T>& r) {
    for (long p = 0; p < n; p++) r[static_cast<size_t>(p)] = k_.rms(from.data() + p * d, base + weight, to + p * d, d, epsilon);
  };
  const auto bias = [&](long at, long count, T* y, long ld) {
    if (at < 0) return;
    for (long p = 0; p < n; p++) k_.add_to(y + p * ld, base + at, count);
  };
  for (size_t l = 0; l < w.layers.size(); l++) {
    Layer& layer = w.layers[l];
    const LayerOffsets& at = layout_.layers[l];
    const LayerPairs& pairs = adapter_.layers[l];
    norms(layer.in, at.attn_norm, layer.normed.data(), layer.r1);
    T* qkv = layer.qkv.data();
    k_.gemm(n, row, d, layer.normed.data(), d, 1, base + at.qkv, 1, d, qkv, row, false);
    bias(at.q_bias, qw, qkv, row);
    bias(at.k_bias, kvw, qkv + qw, row);
    bias(at.v_bias, kvw, qkv + qw + kvw, row);
    add_low(pair_of(pairs.q, weights, {}, d, qw, 0), n, layer.normed.data(), d, d, qkv, row, qw, w);
    add_low(pair_of(pairs.k, weights, {}, d, kvw, 0), n, layer.normed.data(), d, d, qkv + qw, row, kvw, w);
    add_low(pair_of(pairs.v, weights, {}, d, kvw, 0), n, layer.normed.data(), d, d, qkv + qw + kvw, row, kvw, w);
    if (config_.architecture.head_norms) head_norms(l, n, base, w);
    rope(l, qkv, window, w, false);
    for (size_t i = 0; i < window.starts.size(); i++) {
      const long begin = window.starts[i], end = i + 1 < window.starts.size() ? window.starts[i + 1] : n;
      attention(l, begin, end - begin, w);
    }
    // A branch with a norm of its own is kept before it; others are added to the stream at once.
    const auto branch = [&](std::vector<T>& own, std::vector<T>& in, std::vector<T>& out) {
      std::vector<T>& y = post ? own : out;
      if (post) std::fill(y.begin(), y.begin() + n * d, T{0});
      else std::copy(in.begin(), in.begin() + n * d, y.begin());
      return y.data();
    };
    const auto join = [&](const std::vector<T>& own, long weight, std::vector<T>& r, const std::vector<T>& in, std::vector<T>& out) {
      if (!post) return;
      norms(own, weight, w.dh.data(), r);
      for (long i = 0; i < n * d; i++) out[static_cast<size_t>(i)] = in[static_cast<size_t>(i)] + w.dh[static_cast<size_t>(i)];
    };
    T* y = branch(layer.attn_y, layer.in, layer.middle);
    k_.gemm(n, d, qw, layer.mixed.data(), qw, 1, base + at.attn_out, 1, qw, y, d, true);
    bias(at.o_bias, d, y, d);
    add_low(pair_of(pairs.o, weights, {}, qw, d, 0), n, layer.mixed.data(), qw, qw, y, d, d, w);
    join(layer.attn_y, at.post_attn, layer.r3, layer.in, layer.middle);
    norms(layer.middle, at.ffn_norm, layer.normed2.data(), layer.r2);
    std::vector<T>& out = l + 1 < w.layers.size() ? w.layers[l + 1].in : w.out;
    y = branch(layer.ffn_y, layer.middle, out);
    if (config_.experts == 0) {
      dense(l, weights, n, y, w);
    } else {
      mixture(l, weights, n, y, w);
    }
    join(layer.ffn_y, at.post_ffn, layer.r4, layer.middle, out);
  }
  norms(w.out, layout_.output_norm, w.final_normed.data(), w.final_r);
}

template <class T>
void Model<T>::logits_at(const Weights<T>& weights, long at, const Workspace<T>& w, T* out) const {
  const long d = config_.width;
  k_.gemm(1, config_.vocab, d, w.final_normed.data() + at * d, d, 1, weights.base + layout_.output, 1, d, out, config_.vocab, false);
  if (config_.logit_cap != 0) k_.cap(out, config_.vocab, 1, static_cast<T>(config_.logit_cap));
}

template <class T>
double Model<T>::loss(const Weights<T>& weights, const Window& window, Workspace<T>& w, const Gradient<T>& gradient, double scale) const {
  forward(weights, window, w);
  const long d = config_.width, v = config_.vocab, held = logit_rows(config_), n = window.size();
  const T* output = weights.base + layout_.output;
  const bool derive = gradient.base != nullptr || gradient.adapter != nullptr;
  const T limit = static_cast<T>(config_.logit_cap);
  T* logits = w.logits.data();
  T* states = w.picked.data();
  T* dstates = states + held * d;
  if (derive) std::fill(w.dh.begin(), w.dh.begin() + n * d, T{0});
  double total = 0;
  std::vector<long> at;
  std::vector<T> capped(limit != 0 ? static_cast<size_t>(v) : 0);
  for (long p = 0; p < n;) {
    // Positions without a target cost nothing.
    at.clear();
    for (; p < n && static_cast<long>(at.size()) < held; p++) {
      if (window.targets[static_cast<size_t>(p)] >= 0) at.push_back(p);
    }
    const auto rows = static_cast<long>(at.size());
    for (long i = 0; i < rows; i++) std::copy_n(w.final_normed.data() + at[static_cast<size_t>(i)] * d, d, states + i * d);
    k_.gemm(rows, v, d, states, d, 1, output, 1, d, logits, v, false);
    for (long i = 0; i < rows; i++) {
      T* row = logits + i * v;
      const int32_t target = window.targets[static_cast<size_t>(at[static_cast<size_t>(i)])];
      if (limit != 0) {
        k_.cap(row, v, 1, limit);
        std::copy_n(row, v, capped.data());
      }
      const T hit = row[target];
      total += static_cast<double>(k_.softmax(row, v, 1)) - static_cast<double>(hit);
      row[target] -= 1;
      for (long j = 0; j < v; j++) row[j] *= static_cast<T>(scale);
      // The slope of the cap at what it gave.
      if (limit != 0) {
        for (long j = 0; j < v; j++) row[j] *= 1 - capped[static_cast<size_t>(j)] / limit * (capped[static_cast<size_t>(j)] / limit);
      }
    }
    if (!derive || rows == 0) continue;
    k_.gemm(rows, d, v, logits, v, 1, output, d, 1, dstates, d, false);
    if (gradient.base != nullptr) k_.gemm(v, d, rows, logits, 1, v, states, d, 1, gradient.base + layout_.output, d, true);
    for (long i = 0; i < rows; i++) std::copy_n(dstates + i * d, d, w.dh.data() + at[static_cast<size_t>(i)] * d);
  }
  if (derive) backward(weights, window, w, gradient);
  return total;
}

template struct Workspace<float>;
template struct Workspace<double>;
template class Model<float>;
template class Model<double>;

}  // namespace zg::train
