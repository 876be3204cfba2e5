#include "forward_det.h"

#include <algorithm>
#include <cmath>

namespace zg::det {

Forward::Forward(const Model& model, uint32_t positions, unsigned threads, bool half_cache)
    : model_(model), half_cache_(half_cache), pool_(threads), plane_(size_t{kPage} * model.kv_width()) {
  for (const RopeParameters& p : model.rope) tables_.push_back(rope_table(p, positions));
}

void Forward::cut(uint32_t sequence, uint32_t position) {
  if (sequence >= sequences_.size()) return;
  std::vector<uint32_t>& list = sequences_[sequence];
  const size_t keep = (position + kPage - 1) / kPage;
  while (list.size() > keep) {
    free_.push_back(list.back());
    list.pop_back();
  }
}

void Forward::reserve(const Row& row) {
  if (row.sequence >= sequences_.size()) sequences_.resize(row.sequence + 1);
  std::vector<uint32_t>& list = sequences_[row.sequence];
  while (list.size() * kPage <= row.position) {
    if (free_.empty()) {
      free_.push_back(page_count_++);
      pages_.resize(page_count_ * 2 * model_.layers.size() * plane_);
    }
    const uint32_t page = free_.back();
    free_.pop_back();
    // Nothing may read a slot before it is written.
    float* start = key(0, page);
    std::fill(start, start + 2 * model_.layers.size() * plane_, float_of(kNan));
    list.push_back(page);
  }
}

void Forward::norm(const std::vector<float>& weight, const float* x, float* out, size_t n) const {
  float lanes[64] = {};
  for (size_t i = 0; i < n; i++) lanes[i % 64] = fma1(x[i], x[i], lanes[i % 64]);
  const float r = rms_factor(join64(lanes), static_cast<float>(n), model_.epsilon);
  for (size_t i = 0; i < n; i++) out[i] = mul1(mul1(x[i], r), weight[i]);
}

// y = rows first_row … of w times count vectors x, which lie one behind the other; a bias is added last.
void Forward::multiply(const Matrix& w, size_t first_row, size_t rows, const float* x, size_t count, const std::vector<float>& bias,
                       float* y) {
  const bool floats = is_float_type(w.type);
  std::vector<Activations> blocks(floats ? 0 : count);
  for (size_t i = 0; i < blocks.size(); i++) quantize(x + i * w.columns, w.columns, &blocks[i]);
  pool_.run(rows, 16, [&](size_t begin, size_t end) {
    for (size_t r = begin; r < end; r++) {
      const uint8_t* row = w.row(first_row + r);
      for (size_t i = 0; i < count; i++) {
        const float v = floats ? product(w.type, row, w.columns, x + i * w.columns) : product(w.type, row, w.columns, blocks[i]);
        y[i * rows + r] = bias.empty() ? v : add1(v, bias[r]);
      }
    }
  });
}

void Forward::rotate(const Layer& layer, uint32_t position, float* heads, size_t count) const {
  const size_t pairs = model_.rope_dims / 2;
  const float* table = tables_[layer.rope].data() + size_t{position} * model_.rope_dims;
  for (size_t h = 0; h < count; h++) {
    float* v = heads + h * model_.head_size;
    for (size_t i = 0; i < pairs; i++) {
      float& a = model_.architecture.half_split ? v[i] : v[2 * i];
      float& b = model_.architecture.half_split ? v[i + pairs] : v[2 * i + 1];
      const float c = table[2 * i];
      const float s = table[2 * i + 1];
      const float turned = fma1(a, c, -mul1(b, s));
      b = fma1(a, s, mul1(b, c));
      a = turned;
    }
  }
}

void Forward::append(size_t layer, const Row& row, const float* k, const float* v) {
  const uint32_t page = sequences_[row.sequence][row.position / kPage];
  const size_t slot = row.position % kPage;
  const size_t hs = model_.head_size;
  for (size_t i = 0; i < model_.kv_width(); i++) {
    key(layer, page)[i * kPage + slot] = stored(k[i]);
    value(layer, page)[(i / hs * kPage + slot) * hs + i % hs] = stored(v[i]);
  }
}

void Forward::attend(size_t layer, const Row& row, size_t head, const float* q, float* out) {
  const Model& m = model_;
  const size_t hs = m.head_size;
  const size_t kv = head / (m.heads / m.kv_heads);
  const std::vector<uint32_t>& list = sequences_[row.sequence];
  const uint32_t window = m.layers[layer].window;
  const uint32_t last = row.position;
  const uint32_t first = window != 0 && last + 1 > window ? last + 1 - window : 0;
  std::vector<float> o(hs);
  float maximum = 0;
  float sum = 0;
  bool any = false;
  for (uint32_t block = first / kKeyBlock; block <= last / kKeyBlock; block++) {
    const uint32_t begin = std::max(first, block * kKeyBlock);
    const uint32_t end = std::min(last, block * kKeyBlock + kKeyBlock - 1);
    float p[kKeyBlock] = {};
    float block_maximum = -INFINITY;
    for (uint32_t t = begin; t <= end; t++) {
      const float* k = key(layer, list[t / kPage]) + kv * hs * kPage + t % kPage;
      float s = 0;
      for (size_t d = 0; d < hs; d++) s = fma1(q[d], k[d * kPage], s);
      s = mul1(s, m.score_scale);
      if (m.score_cap != 0) s = mul1(m.score_cap, ztanh(div1(s, m.score_cap)));
      p[t % kKeyBlock] = s;
      block_maximum = larger(block_maximum, s);
    }
    float lanes[kKeyBlock] = {};
    for (uint32_t t = begin; t <= end; t++) lanes[t % kKeyBlock] = p[t % kKeyBlock] = zexp(p[t % kKeyBlock] - block_maximum);
    const float block_sum = join64(lanes);
    float alpha = 0;
    float beta = 0;
    if (any) {
      const float joined = larger(maximum, block_maximum);
      alpha = zexp(maximum - joined);
      beta = zexp(block_maximum - joined);
      sum = fma1(block_sum, beta, mul1(sum, alpha));
      maximum = joined;
    } else {
      sum = block_sum;
      maximum = block_maximum;
    }
    for (size_t d = 0; d < hs; d++) {
      float block_out = 0;
      for (uint32_t t = begin; t <= end; t++) {
        const float* v = value(layer, list[t / kPage]) + (kv * kPage + t % kPage) * hs;
        block_out = fma1(p[t % kKeyBlock], v[d], block_out);
      }
      o[d] = any ? fma1(block_out, beta, mul1(o[d], alpha)) : block_out;
    }
    any = true;
  }
  for (size_t d = 0; d < hs; d++) out[d] = div1(o[d], sum);
}

// Down · (act(gate · h) ∘ (up · h)) of one expert (0 where there is one alone).
void Forward::dense(const Matrix& gate, const Matrix& up, const Matrix& down, size_t expert, const float* h, size_t count, float* y) {
  const size_t feed = model_.feed;
  std::vector<float> g(count * feed);
  std::vector<float> u(count * feed);
  multiply(gate, expert * feed, feed, h, count, {}, g.data());
  multiply(up, expert * feed, feed, h, count, {}, u.data());
  for (size_t i = 0; i < g.size(); i++) g[i] = mul1(model_.architecture.gemma ? gelu(g[i]) : silu(g[i]), u[i]);
  multiply(down, expert * model_.width, model_.width, g.data(), count, {}, y);
}

// Experts of the k largest router outputs, ties by lower index; added by ascending index (section 12.3).
void Forward::mixture(const Layer& layer, const float* h, float* y) {
  const Model& m = model_;
  std::vector<float> r(m.experts);
  multiply(layer.router, 0, m.experts, h, 1, {}, r.data());
  float largest = -INFINITY;
  for (const float v : r) largest = larger(largest, v);
  float total = 0;
  std::vector<float> p(m.experts);
  for (size_t e = 0; e < m.experts; e++) total = add1(total, p[e] = zexp(r[e] - largest));
  std::vector<bool> chosen(m.experts);
  for (uint32_t i = 0; i < m.experts_used; i++) {
    size_t best = m.experts;
    for (size_t e = 0; e < m.experts; e++) {
      if (!chosen[e] && (best == m.experts || r[e] > r[best])) best = e;
    }
    chosen[best] = true;
  }
  float part = 0;
  for (size_t e = 0; e < m.experts; e++) {
    p[e] = div1(p[e], total);
    if (chosen[e]) part = add1(part, p[e]);
  }
  std::fill(y, y + m.width, 0.0f);
  std::vector<float> out(m.width);
  for (size_t e = 0; e < m.experts; e++) {
    if (!chosen[e]) continue;
    dense(layer.gate, layer.up, layer.down, e, h, 1, out.data());
    const float weight = div1(p[e], part);
    for (size_t i = 0; i < m.width; i++) y[i] = fma1(weight, out[i], y[i]);
  }
}

void Forward::run(const std::vector<Row>& rows, std::vector<float>* logits, std::vector<float>* hidden, std::vector<uint32_t>* failed) {
  const Model& m = model_;
  const size_t n = rows.size();
  const size_t w = m.width;
  for (const Row& row : rows) reserve(row);
  failed->assign(n, 0);
  std::vector<float> x(n * w), h(n * w), y(n * w), q(n * m.q_width()), k(n * m.kv_width()), v(n * m.kv_width()), o(n * m.q_width());
  for (size_t i = 0; i < n; i++) {
    dequantize(m.embedding.type, m.embedding.row(rows[i].token), w, &x[i * w]);
    if (m.architecture.gemma) {
      for (size_t c = 0; c < w; c++) x[i * w + c] = mul1(x[i * w + c], m.embedding_scale);
    }
  }
  const auto norms = [&](const std::vector<float>& weight, const std::vector<float>& from, std::vector<float>& to) {
    for (size_t i = 0; i < n; i++) norm(weight, &from[i * w], &to[i * w], w);
  };
  const auto check = [&](const std::vector<float>& values, uint32_t layer) {
    for (size_t i = 0; i < n * w; i++) {
      if (!is_finite(values[i]) && (*failed)[i / w] == 0) (*failed)[i / w] = layer;
    }
  };
  for (size_t l = 0; l < m.layers.size(); l++) {
    const Layer& layer = m.layers[l];
    norms(layer.attention_norm, x, h);
    multiply(layer.q, 0, layer.q.rows, h.data(), n, layer.q_bias, q.data());
    multiply(layer.k, 0, layer.k.rows, h.data(), n, layer.k_bias, k.data());
    multiply(layer.v, 0, layer.v.rows, h.data(), n, layer.v_bias, v.data());
    for (size_t i = 0; i < n; i++) {
      float* qi = &q[i * m.q_width()];
      float* ki = &k[i * m.kv_width()];
      if (m.architecture.head_norms) {
        for (size_t a = 0; a < m.heads; a++) norm(layer.q_norm, qi + a * m.head_size, qi + a * m.head_size, m.head_size);
        for (size_t a = 0; a < m.kv_heads; a++) norm(layer.k_norm, ki + a * m.head_size, ki + a * m.head_size, m.head_size);
      }
      rotate(layer, rows[i].position, qi, m.heads);
      rotate(layer, rows[i].position, ki, m.kv_heads);
      append(l, rows[i], ki, &v[i * m.kv_width()]);
    }
    pool_.run(n * m.heads, 1, [&](size_t begin, size_t end) {
      for (size_t j = begin; j < end; j++) {
        attend(l, rows[j / m.heads], j % m.heads, &q[j * m.head_size], &o[j * m.head_size]);
      }
    });
    multiply(layer.o, 0, w, o.data(), n, layer.o_bias, y.data());
    if (m.architecture.post_norms) norms(layer.post_attention_norm, y, y);
    for (size_t i = 0; i < n * w; i++) x[i] = add1(x[i], y[i]);
    norms(layer.feed_norm, x, h);
    if (m.experts == 0) {
      dense(layer.gate, layer.up, layer.down, 0, h.data(), n, y.data());
    } else {
      for (size_t i = 0; i < n; i++) mixture(layer, &h[i * w], &y[i * w]);
    }
    if (m.architecture.post_norms) norms(layer.post_feed_norm, y, y);
    for (size_t i = 0; i < n * w; i++) x[i] = add1(x[i], y[i]);
    check(x, static_cast<uint32_t>(l) + 1);
  }
  norms(m.output_norm, x, h);
  check(h, static_cast<uint32_t>(m.layers.size()) + 1);
  logits->clear();
  if (hidden != nullptr) hidden->clear();
  for (size_t i = 0; i < n; i++) {
    if (!rows[i].wants_logits) continue;
    const size_t at = logits->size();
    logits->resize(at + m.vocabulary);
    multiply(m.output, 0, m.vocabulary, &h[i * w], 1, {}, logits->data() + at);
    for (size_t j = at; j < logits->size(); j++) {
      float& value = (*logits)[j];
      if (m.logit_cap != 0) value = mul1(m.logit_cap, ztanh(div1(value, m.logit_cap)));
      if (!is_finite(value) && (*failed)[i] == 0) (*failed)[i] = static_cast<uint32_t>(m.layers.size()) + 1;
    }
    if (hidden != nullptr) hidden->insert(hidden->end(), &h[i * w], &h[i * w] + w);
  }
}

}  // namespace zg::det
