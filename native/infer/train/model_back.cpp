// Backward pass of the transformer: model.cpp from its end to its beginning. dx is the gradient of the stream throughout.
#include <algorithm>

#include "model.h"

namespace zg::train {

template <class T>
void Model<T>::add_low_back(const Pair& pair, long n, const T* x, long ldx, long in, const T* dy, long ldy, long out, T* dx, long lddx,
                            Workspace<T>& w) const {
  if (pair.a == nullptr || n == 0) return;
  const long r = adapter_.rank;
  const T scale = static_cast<T>(adapter_.scale);
  T* low = w.low.data();
  T* dlow = w.dlow.data();
  if (pair.db != nullptr) {
    k_.gemm(n, r, in, x, ldx, 1, pair.a, 1, in, low, r, false);
    for (long i = 0; i < n * r; i++) low[i] *= scale;
    k_.gemm(out, r, n, dy, 1, ldy, low, r, 1, pair.db, r, true);
  }
  k_.gemm(n, r, out, dy, ldy, 1, pair.b, r, 1, dlow, r, false);
  for (long i = 0; i < n * r; i++) dlow[i] *= scale;
  if (pair.da != nullptr) k_.gemm(r, in, n, dlow, 1, r, x, ldx, 1, pair.da, in, true);
  k_.gemm(n, in, r, dlow, r, 1, pair.a, in, 1, dx, lddx, true);
}

template <class T>
void Model<T>::head_norms_back(size_t l, long n, const T* base, T* gradient, Workspace<T>& w) const {
  Layer& layer = w.layers[l];
  const LayerOffsets& at = layout_.layers[l];
  const long hs = config_.head_size, row = config_.qkv_width(), norms = config_.heads + config_.kv_heads;
  std::vector<T> dy(static_cast<size_t>(hs));
  for (long p = 0; p < n; p++) {
    for (long h = 0; h < norms; h++) {
      const long weight = h < config_.heads ? at.q_norm : at.k_norm;
      T* dx = w.dqkv.data() + p * row + h * hs;
      std::copy_n(dx, hs, dy.data());
      std::fill_n(dx, hs, T{0});
      k_.rms_back(layer.raw.data() + p * row + h * hs, base + weight, dy.data(), layer.head_r[static_cast<size_t>(p * norms + h)], dx,
                  gradient == nullptr ? nullptr : gradient + weight, hs);
    }
  }
}

template <class T>
void Model<T>::attention_back(size_t l, long begin, long n, Workspace<T>& w) const {
  const Layer& layer = w.layers[l];
  const long hs = config_.head_size, row = config_.qkv_width(), qw = config_.q_width(), group = config_.heads / config_.kv_heads;
  const long window = config_.window_of[l];
  const T scale = static_cast<T>(config_.score_scale), limit = static_cast<T>(config_.score_cap);
  const bool capped = config_.score_cap != 0;
  const T* qkv = layer.qkv.data() + begin * row;
  T* dqkv = w.dqkv.data() + begin * row;
  for (long h = 0; h < config_.heads; h++) {
    const long kv = qw + (h / group) * hs, vv = kv + config_.kv_width();
    const T* q = qkv + h * hs;
    const T* key = qkv + kv;
    const T* value = qkv + vv;
    if (h % group == 0) {
      for (long p = 0; p < n; p++) {
        for (long i = 0; i < hs; i++) {
          w.keys_t[static_cast<size_t>(i * n + p)] = key[p * row + i];
          w.values_t[static_cast<size_t>(i * n + p)] = value[p * row + i];
        }
        std::fill_n(dqkv + p * row + kv, hs, T{0});
        std::fill_n(dqkv + p * row + vv, hs, T{0});
      }
    }
    for (long q0 = 0; q0 < n; q0 += kQueryRows) {
      const long rows = std::min(n - q0, kQueryRows), first = window > 0 ? std::max(0l, q0 + 1 - window) : 0, seen = q0 + rows - first;
      T* s = w.scores.data();
      T* ds = w.dscores.data();
      const T* dout = w.dmixed.data() + (begin + q0) * qw + h * hs;
      k_.gemm(rows, seen, hs, q + q0 * row, row, 1, w.keys_t.data() + first, n, 1, s, seen, false);
      k_.gemm(rows, seen, hs, dout, qw, 1, w.values_t.data() + first, n, 1, ds, seen, false);
      for (long i = 0; i < rows; i++) {
        const long at = q0 + i, from = window > 0 ? std::max(0l, at + 1 - window - first) : 0, to = at + 1 - first;
        T* line = s + i * seen;
        T* dline = ds + i * seen;
        const T mean = k_.dot(dout + i * qw, layer.mixed.data() + (begin + at) * qw + h * hs, hs);
        const T log_sum = layer.log_sum[static_cast<size_t>(h * config_.context + begin + at)];
        if (capped) {
          k_.cap(line + from, to - from, scale, limit);
          T* slope = w.slopes.data();
          for (long j = from; j < to; j++) slope[j] = scale * (1 - line[j] / limit * (line[j] / limit));
          k_.softmax_again(line + from, to - from, 1, log_sum);
          k_.softmax_back(line + from, dline + from, to - from, 1, mean);
          for (long j = from; j < to; j++) dline[j] *= slope[j];
        } else {
          k_.softmax_again(line + from, to - from, scale, log_sum);
          k_.softmax_back(line + from, dline + from, to - from, scale, mean);
        }
        for (long j = 0; j < from; j++) line[j] = dline[j] = 0;
        for (long j = to; j < seen; j++) line[j] = dline[j] = 0;
      }
      k_.gemm(rows, hs, seen, ds, seen, 1, key + first * row, row, 1, dqkv + q0 * row + h * hs, row, false);
      k_.gemm(seen, hs, rows, ds, 1, seen, q + q0 * row, row, 1, dqkv + first * row + kv, row, true);
      k_.gemm(seen, hs, rows, s, 1, seen, dout, qw, 1, dqkv + first * row + vv, row, true);
    }
  }
}

// Leaves the gradient of the normed input in w.dh. dy may be dx itself.
template <class T>
void Model<T>::dense_back(size_t l, const Weights<T>& weights, long n, const T* dy, Workspace<T>& w, const Gradient<T>& gradient) const {
  const Layer& layer = w.layers[l];
  const LayerOffsets& at = layout_.layers[l];
  const LayerPairs& pairs = adapter_.layers[l];
  const long d = config_.width, f = config_.hidden;
  k_.gemm(n, f, d, dy, d, 1, weights.base + at.down, f, 1, w.dact.data(), f, false);
  add_low_back(pair_of(pairs.down, weights, gradient, f, d, 0), n, layer.act.data(), f, f, dy, d, d, w.dact.data(), f, w);
  if (gradient.base != nullptr) k_.gemm(d, f, n, dy, 1, d, layer.act.data(), f, 1, gradient.base + at.down, f, true);
  const auto gate_back = config_.architecture.gemma ? k_.gelu_mul_back : k_.silu_mul_back;
  T* dgate = w.dgate_up.data();
  for (long p = 0; p < n; p++) {
    const T* gate = layer.gate_up.data() + p * 2 * f;
    gate_back(gate, gate + f, w.dact.data() + p * f, dgate + p * 2 * f, dgate + p * 2 * f + f, f);
  }
  const T* x = layer.normed2.data();
  k_.gemm(n, d, 2 * f, dgate, 2 * f, 1, weights.base + at.gate_up, d, 1, w.dh.data(), d, false);
  add_low_back(pair_of(pairs.gate, weights, gradient, d, f, 0), n, x, d, d, dgate, 2 * f, f, w.dh.data(), d, w);
  add_low_back(pair_of(pairs.up, weights, gradient, d, f, 0), n, x, d, d, dgate + f, 2 * f, f, w.dh.data(), d, w);
  if (gradient.base != nullptr) k_.gemm(2 * f, d, n, dgate, 1, 2 * f, x, d, 1, gradient.base + at.gate_up, d, true);
}

template <class T>
void Model<T>::backward(const Weights<T>& weights, const Window& window, Workspace<T>& w, const Gradient<T>& gradient) const {
  const T* base = weights.base;
  const long d = config_.width, qw = config_.q_width(), kvw = config_.kv_width(), row = config_.qkv_width(), n = window.size();
  const bool post = config_.architecture.post_norms;
  T* dx = w.dx.data();
  T* dh = w.dh.data();
  std::fill_n(dx, n * d, T{0});
  const auto norm_back = [&](const std::vector<T>& x, long weight, const T* dy, const std::vector<T>& r, T* to) {
    T* dw = gradient.base == nullptr ? nullptr : gradient.base + weight;
    for (long p = 0; p < n; p++) k_.rms_back(x.data() + p * d, base + weight, dy + p * d, r[static_cast<size_t>(p)], to + p * d, dw, d);
  };
  const auto bias_back = [&](long at, long count, const T* dy, long ld) {
    if (at < 0 || gradient.base == nullptr) return;
    for (long p = 0; p < n; p++) k_.add_to(gradient.base + at, dy + p * ld, count);
  };
  // The gradient of a branch's output: the stream's, or that before the branch's own norm.
  const auto before_norm = [&](const std::vector<T>& y, long weight, const std::vector<T>& r) -> const T* {
    if (!post) return dx;
    std::fill_n(w.dbranch.data(), n * d, T{0});
    norm_back(y, weight, dx, r, w.dbranch.data());
    return w.dbranch.data();
  };
  norm_back(w.out, layout_.output_norm, dh, w.final_r, dx);
  for (size_t l = w.layers.size(); l-- > 0;) {
    Layer& layer = w.layers[l];
    const LayerOffsets& at = layout_.layers[l];
    const LayerPairs& pairs = adapter_.layers[l];
    const T* dy = before_norm(layer.ffn_y, at.post_ffn, layer.r4);
    if (config_.experts == 0) {
      dense_back(l, weights, n, dy, w, gradient);
    } else {
      mixture_back(l, weights, n, dy, w, gradient);
    }
    norm_back(layer.middle, at.ffn_norm, dh, layer.r2, dx);

    dy = before_norm(layer.attn_y, at.post_attn, layer.r3);
    k_.gemm(n, qw, d, dy, d, 1, base + at.attn_out, qw, 1, w.dmixed.data(), qw, false);
    add_low_back(pair_of(pairs.o, weights, gradient, qw, d, 0), n, layer.mixed.data(), qw, qw, dy, d, d, w.dmixed.data(), qw, w);
    if (gradient.base != nullptr) k_.gemm(d, qw, n, dy, 1, d, layer.mixed.data(), qw, 1, gradient.base + at.attn_out, qw, true);
    bias_back(at.o_bias, d, dy, d);
    for (size_t i = 0; i < window.starts.size(); i++) {
      const long begin = window.starts[i], end = i + 1 < window.starts.size() ? window.starts[i + 1] : n;
      attention_back(l, begin, end - begin, w);
    }
    T* dqkv = w.dqkv.data();
    rope(l, dqkv, window, w, true);
    if (config_.architecture.head_norms) head_norms_back(l, n, base, gradient.base, w);
    k_.gemm(n, d, row, dqkv, row, 1, base + at.qkv, d, 1, dh, d, false);
    const T* x = layer.normed.data();
    add_low_back(pair_of(pairs.q, weights, gradient, d, qw, 0), n, x, d, d, dqkv, row, qw, dh, d, w);
    add_low_back(pair_of(pairs.k, weights, gradient, d, kvw, 0), n, x, d, d, dqkv + qw, row, kvw, dh, d, w);
    add_low_back(pair_of(pairs.v, weights, gradient, d, kvw, 0), n, x, d, d, dqkv + qw + kvw, row, kvw, dh, d, w);
    if (gradient.base != nullptr) k_.gemm(row, d, n, dqkv, 1, row, x, d, 1, gradient.base + at.qkv, d, true);
    bias_back(at.q_bias, qw, dqkv, row);
    bias_back(at.k_bias, kvw, dqkv + qw, row);
    bias_back(at.v_bias, kvw, dqkv + qw + kvw, row);
    norm_back(layer.in, at.attn_norm, dh, layer.r1, dx);
  }
  if (gradient.base == nullptr) return;
  for (long p = 0; p < n; p++) {
    k_.add_times(gradient.base + layout_.embedding + window.tokens[static_cast<size_t>(p)] * d, dx + p * d, d,
                 static_cast<T>(config_.embedding_scale));
  }
}

template class Model<float>;
template class Model<double>;

}  // namespace zg::train
