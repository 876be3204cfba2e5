// The mixture of experts and its derivative: tokens are sorted by expert, so that each expert is one product over its tokens.
// Weights are the soft-max over the chosen experts' router outputs, which is the same as that over all, divided by the chosen ones' sum.
#include <algorithm>
#include <cmath>

#include "model.h"

namespace zg::train {

template <class T>
void Model<T>::choose_experts(size_t l, const T* base, long n, Workspace<T>& w) const {
  Layer& layer = w.layers[l];
  const long d = config_.width, experts = config_.experts, used = config_.experts_used;
  k_.gemm_exact(n, experts, d, layer.normed2.data(), d, 1, base + layout_.layers[l].router, 1, d, w.router.data(), experts, false);
  std::vector<std::vector<std::pair<int32_t, T>>> of(static_cast<size_t>(experts));
  std::vector<int32_t> order(static_cast<size_t>(experts));
  for (long p = 0; p < n; p++) {
    const T* r = w.router.data() + p * experts;
    for (long e = 0; e < experts; e++) order[static_cast<size_t>(e)] = static_cast<int32_t>(e);
    std::partial_sort(order.begin(), order.begin() + used, order.end(), [&](int32_t a, int32_t b) { return r[a] != r[b] ? r[a] > r[b] : a < b; });
    double sum = 0;
    for (long i = 0; i < used; i++) sum += std::exp(static_cast<double>(r[order[static_cast<size_t>(i)]] - r[order[0]]));
    for (long i = 0; i < used; i++) {
      const int32_t e = order[static_cast<size_t>(i)];
      of[static_cast<size_t>(e)].emplace_back(static_cast<int32_t>(p), static_cast<T>(std::exp(static_cast<double>(r[e] - r[order[0]])) / sum));
    }
  }
  int32_t at = 0;
  for (size_t e = 0; e < of.size(); e++) {
    layer.start_of[e] = at;
    for (const auto& [token, share] : of[e]) {
      layer.token_of[static_cast<size_t>(at)] = token;
      layer.share[static_cast<size_t>(at++)] = share;
    }
  }
  layer.start_of[of.size()] = at;
}

template <class T>
void Model<T>::mixture(size_t l, const Weights<T>& weights, long n, T* y, Workspace<T>& w) const {
  Layer& layer = w.layers[l];
  const LayerOffsets& at = layout_.layers[l];
  const LayerPairs& pairs = adapter_.layers[l];
  const long d = config_.width, f = config_.hidden;
  choose_experts(l, weights.base, n, w);
  T* x = w.rows.data();
  T* out = w.rows2.data();
  for (long e = 0; e < config_.experts; e++) {
    const long begin = layer.start_of[static_cast<size_t>(e)], m = layer.start_of[static_cast<size_t>(e) + 1] - begin;
    if (m == 0) continue;
    const int32_t* token = layer.token_of.data() + begin;
    for (long i = 0; i < m; i++) std::copy_n(layer.normed2.data() + token[i] * d, d, x + i * d);
    T* gate_up = layer.gate_up.data() + begin * 2 * f;
    T* act = layer.act.data() + begin * f;
    k_.gemm(m, f, d, x, d, 1, weights.base + at.gate_up + e * f * d, 1, d, gate_up, 2 * f, false);
    k_.gemm(m, f, d, x, d, 1, weights.base + at.up + e * f * d, 1, d, gate_up + f, 2 * f, false);
    add_low(pair_of(pairs.gate, weights, {}, d, f, e), m, x, d, d, gate_up, 2 * f, f, w);
    add_low(pair_of(pairs.up, weights, {}, d, f, e), m, x, d, d, gate_up + f, 2 * f, f, w);
    for (long i = 0; i < m; i++) k_.silu_mul(gate_up + i * 2 * f, gate_up + i * 2 * f + f, act + i * f, f);
    k_.gemm(m, d, f, act, f, 1, weights.base + at.down + e * d * f, 1, f, out, d, false);
    add_low(pair_of(pairs.down, weights, {}, f, d, e), m, act, f, f, out, d, d, w);
    for (long i = 0; i < m; i++) k_.add_times(y + token[i] * d, out + i * d, d, layer.share[static_cast<size_t>(begin + i)]);
  }
}

template <class T>
void Model<T>::mixture_back(size_t l, const Weights<T>& weights, long n, const T* dy, Workspace<T>& w, const Gradient<T>& gradient) const {
  const Layer& layer = w.layers[l];
  const LayerOffsets& at = layout_.layers[l];
  const LayerPairs& pairs = adapter_.layers[l];
  const long d = config_.width, f = config_.hidden, experts = config_.experts;
  T* x = w.rows.data();
  T* dout = w.rows2.data();
  T* dgate = w.dgate_up.data();
  std::fill_n(w.dh.data(), n * d, T{0});
  std::fill_n(w.drouter.data(), n * experts, T{0});
  std::vector<T> mean(static_cast<size_t>(n));
  for (long e = 0; e < experts; e++) {
    const long begin = layer.start_of[static_cast<size_t>(e)], m = layer.start_of[static_cast<size_t>(e) + 1] - begin;
    if (m == 0) continue;
    const int32_t* token = layer.token_of.data() + begin;
    const T* share = layer.share.data() + begin;
    const T* act = layer.act.data() + begin * f;
    for (long i = 0; i < m; i++) {
      std::copy_n(layer.normed2.data() + token[i] * d, d, x + i * d);
      std::copy_n(dy + token[i] * d, d, dout + i * d);
    }
    const Pair down = pair_of(pairs.down, weights, gradient, f, d, e);
    k_.gemm(m, f, d, dout, d, 1, weights.base + at.down + e * d * f, f, 1, w.dact.data(), f, false);
    // What the share moves is dy · expert(h) = (derivative with respect to act) · act; the pair's matrices want the weighted gradient.
    add_low_back({down.a, down.b, nullptr, nullptr}, m, act, f, f, dout, d, d, w.dact.data(), f, w);
    for (long i = 0; i < m; i++) {
      const T moved = k_.dot(w.dact.data() + i * f, act + i * f, f);
      w.drouter[static_cast<size_t>(token[i] * experts + e)] = share[i] * moved;
      mean[static_cast<size_t>(token[i])] += share[i] * moved;
      for (long j = 0; j < f; j++) w.dact[static_cast<size_t>(i * f + j)] *= share[i];
      for (long j = 0; j < d; j++) dout[i * d + j] *= share[i];
    }
    if (gradient.base != nullptr) k_.gemm(d, f, m, dout, 1, d, act, f, 1, gradient.base + at.down + e * d * f, f, true);
    if (down.db != nullptr) {
      // The gradient of act is complete, so what this adds to it goes where nobody looks.
      add_low_back(down, m, act, f, f, dout, d, d, dgate, f, w);
    }
    for (long i = 0; i < m; i++) {
      const T* gate = layer.gate_up.data() + (begin + i) * 2 * f;
      k_.silu_mul_back(gate, gate + f, w.dact.data() + i * f, dgate + i * 2 * f, dgate + i * 2 * f + f, f);
    }
    T* dxe = dout;
    k_.gemm(m, d, f, dgate, 2 * f, 1, weights.base + at.gate_up + e * f * d, d, 1, dxe, d, false);
    k_.gemm(m, d, f, dgate + f, 2 * f, 1, weights.base + at.up + e * f * d, d, 1, dxe, d, true);
    add_low_back(pair_of(pairs.gate, weights, gradient, d, f, e), m, x, d, d, dgate, 2 * f, f, dxe, d, w);
    add_low_back(pair_of(pairs.up, weights, gradient, d, f, e), m, x, d, d, dgate + f, 2 * f, f, dxe, d, w);
    if (gradient.base != nullptr) {
      k_.gemm(f, d, m, dgate, 1, 2 * f, x, d, 1, gradient.base + at.gate_up + e * f * d, d, true);
      k_.gemm(f, d, m, dgate + f, 1, 2 * f, x, d, 1, gradient.base + at.up + e * f * d, d, true);
    }
    for (long i = 0; i < m; i++) k_.add_to(w.dh.data() + token[i] * d, dxe + i * d, d);
  }
  // Soft-max over the chosen: share * (moved - mean); others get nothing.
  for (long e = 0; e < experts; e++) {
    for (long i = layer.start_of[static_cast<size_t>(e)]; i < layer.start_of[static_cast<size_t>(e) + 1]; i++) {
      const int32_t token = layer.token_of[static_cast<size_t>(i)];
      w.drouter[static_cast<size_t>(token * experts + e)] -= layer.share[static_cast<size_t>(i)] * mean[static_cast<size_t>(token)];
    }
  }
  k_.gemm_exact(n, d, experts, w.drouter.data(), experts, 1, weights.base + at.router, d, 1, w.dh.data(), d, true);
  if (gradient.base != nullptr) {
    k_.gemm_exact(experts, d, n, w.drouter.data(), 1, experts, layer.normed2.data(), d, 1, gradient.base + at.router, d, true);
  }
}

template class Model<float>;
template class Model<double>;

}  // namespace zg::train
