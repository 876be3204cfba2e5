#include "engine.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "../det/rules.h"
#include "turns.h"

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace zg::cpu {
namespace {

// Rows of one pass: their activations stay in the second-level cache.
constexpr size_t kPassRows = 256;
// Bytes of weights (times the share of a product's time that is not reading) below which a product stays on the calling thread.
constexpr size_t kAloneBytes = 96 << 10;
// Those of a chunk. Few and large ones are read faster, small ones leave less to wait for: each thread gets a few.
constexpr size_t kChunkLeast = 48 << 10;
constexpr size_t kChunkMost = 512 << 10;
constexpr size_t kChunksEach = 4;
// Multiply-adds of attention below which it stays there.
constexpr uint64_t kAloneAttention = 400'000;
// Rows of a sequence whose attention is one item of work: a multiple of what a tile of queries takes.
constexpr size_t kTogether = 8;
// Values of rows in steps that are done row by row.
constexpr size_t kAloneValues = 16'384;

// Row groups of a chunk.
size_t grain_of(size_t groups, size_t group_cost, unsigned threads) {
  const size_t all = groups * group_cost;
  if (all < kAloneBytes) return groups;
  const size_t wanted = std::clamp(all / (kChunksEach * threads), kChunkLeast, kChunkMost);
  return std::clamp<size_t>(wanted / std::max<size_t>(1, group_cost), 1, groups);
}

}  // namespace

template <typename Body>
void Engine::each_row(size_t n, const Body& body) {
  const size_t grain = std::max<size_t>(1, kAloneValues / std::max<size_t>(x_stride_, 1));
  workers_.run(n, n * x_stride_ <= kAloneValues ? n : grain, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; i++) body(i);
  });
}

void Engine::resize(size_t rows) {
  if (rows <= capacity_) return;
  x_.resize(rows * x_stride_);
  h_.resize(rows * x_stride_);
  y_.resize(rows * x_stride_);
  q_.resize(rows * q_stride_);
  o_.resize(rows * q_stride_);
  k_.resize(rows * kv_stride_);
  v_.resize(rows * kv_stride_);
  gate_.resize(rows * feed_stride_);
  up_.resize(rows * feed_stride_);
  capacity_ = rows;
}

bool Engine::run(std::vector<Row>* rows, const std::atomic<bool>* cancel) {
#if defined(__x86_64__)
  const unsigned before = _mm_getcsr();
  _mm_setcsr(0x1F80);
#endif
  size_t wanted = 0;
  std::vector<uint32_t> positions;
  for (Row& row : *rows) {
    row.logits = row.hidden = nullptr;
    row.failed_layer = 0;
    wanted += row.wants_logits || partial();
    positions.push_back(row.position);
  }
  if (!partial()) logits_.resize(wanted * vocabulary_stride_);
  hidden_.resize(wanted * x_stride_);
  for (const auto& turns : turns_) turns->need(positions, &workers_);
  bool ok = true;
  size_t at = 0;
  for (size_t i = 0; i < rows->size() && ok; i += kPassRows) {
    const size_t n = std::min(kPassRows, rows->size() - i);
    Row* pass = rows->data() + i;
    resize(n);
    const bool alone = workers_.threads() > 1 && pace_.alone(n);
    const auto start = std::chrono::steady_clock::now();
    workers_.set_alone(alone);
    ok = run_rows(pass, n, cancel);
    if (!ok) break;
    const size_t here = static_cast<size_t>(std::count_if(pass, pass + n, [&](const Row& r) { return r.wants_logits || partial(); }));
    if (partial()) {
      hand_over(pass, n, hidden_.data() + at * x_stride_);
    } else if (here > 0) {
      output(pass, n, logits_.data() + at * vocabulary_stride_, hidden_.data() + at * x_stride_);
    }
    at += here;
    workers_.set_alone(false);
    pace_.took(n, alone, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  workers_.set_alone(false);
#if defined(__x86_64__)
  _mm_setcsr(before);
#endif
  return ok;
}

bool Engine::run_rows(Row* rows, size_t n, const std::atomic<bool>* cancel) {
  const det::Model& m = *model_;
  const size_t w = x_stride_;
  const float epsilon = m.epsilon;
  each_row(n, [&](size_t i) {
    float* x = &x_[i * w];
    det::dequantize(m.embedding.type, m.embedding.row(rows[i].token), m.width, x);
  });
  find_adapters(rows, n);
  if (!adapters_.empty()) adapt_embedding(rows, n);
  if (m.architecture.gemma) {
    each_row(n, [&](size_t i) {
      for (size_t c = 0; c < m.width; c++) x_[i * w + c] = det::mul1(x_[i * w + c], m.embedding_scale);
    });
  }
  // Residual and what follows, done row by row: the branch's norm, its addition, the check, the next norm.
  const auto join = [&](const std::vector<float>& post, size_t i) {
    if (!post.empty()) level_.norm(&y_[i * w], post.data(), &y_[i * w], m.width, 1, epsilon);
    level_.add(&x_[i * w], &y_[i * w], m.width);
  };
  const auto normed = [&](const std::vector<float>& weight, size_t i) {
    level_.norm(&x_[i * w], weight.data(), &h_[i * w], m.width, 1, epsilon);
    normed_.put(level_, i, &h_[i * w]);
  };
  for (size_t l = 0; l < layers_.size(); l++) {
    if (cancel != nullptr && cancel->load(std::memory_order_relaxed)) return false;
    const det::Layer& layer = m.layers[l];
    const Layer& p = layers_[l];
    const bool floats = p.q.floats() || p.k.floats() || p.v.floats();
    const bool quants = !(p.q.floats() && p.k.floats() && p.v.floats());
    normed_.prepare(n, m.width, quants, floats);
    each_row(n, [&](size_t i) { normed(layer.attention_norm, i); });
    const Product qkv[] = {{p.q.first, q_.data(), q_stride_, &layer.q_bias},
                           {p.k.first, k_.data(), kv_stride_, &layer.k_bias},
                           {p.v.first, v_.data(), kv_stride_, &layer.v_bias}};
    multiply(qkv, 3, normed_, n);
    adapt(l, &Adapter::Layer::q, {h_.data(), w, q_.data(), q_stride_, n});
    adapt(l, &Adapter::Layer::k, {h_.data(), w, k_.data(), kv_stride_, n});
    adapt(l, &Adapter::Layer::v, {h_.data(), w, v_.data(), kv_stride_, n});
    attention(l, rows, n);
    attended_.prepare(n, m.q_width(), !p.o.floats(), p.o.floats());
    each_row(n, [&](size_t i) { attended_.put(level_, i, &o_[i * q_stride_]); });
    const Product o = {p.o.first, y_.data(), w, &layer.o_bias};
    multiply(&o, 1, attended_, n);
    adapt(l, &Adapter::Layer::o, {o_.data(), q_stride_, y_.data(), w, n});
    const Packed& gate = p.gate;
    const bool mixed = m.experts != 0;
    normed_.prepare(n, m.width, !mixed && !(gate.floats() && p.up.floats()), mixed || gate.floats() || p.up.floats());
    each_row(n, [&](size_t i) {
      join(layer.post_attention_norm, i);
      normed(layer.feed_norm, i);
    });
    if (mixed) {
      mixture(l, n);
    } else {
      feed_forward(l, n);
    }
    each_row(n, [&](size_t i) {
      join(layer.post_feed_norm, i);
      if (rows[i].failed_layer == 0 && level_.finite(&x_[i * w], m.width) == 0) rows[i].failed_layer = static_cast<uint32_t>(l) + 1;
    });
  }
  return true;
}

// Products of the same activations as one job.
void Engine::multiply(const Product* products, size_t count, const Tokens& x, size_t n) {
  size_t groups = 0;
  size_t bytes = 0;
  for (size_t i = 0; i < count; i++) {
    groups += products[i].w.groups;
    bytes += products[i].w.groups * products[i].w.group_bytes;
  }
  // From a few tokens on, arithmetic takes longer than reading.
  const size_t weight = std::max<size_t>(1, n / 2);
  const size_t grain = grain_of(groups, bytes / groups * weight, workers_.threads());
  workers_.run(groups, grain, [&](size_t begin, size_t end) {
    for (size_t i = 0; i < count && begin < end; i++) {
      const Product& p = products[i];
      const size_t own = p.w.groups;
      if (begin < own) {
        const size_t stop = std::min(end, own);
        level_.product(&p.w, static_cast<uint32_t>(begin), static_cast<uint32_t>(stop), x.groups(), x.group_count(), p.y, p.stride);
        if (p.bias != nullptr && !p.bias->empty()) {
          const size_t first = begin * ZG_ROWS;
          const size_t width = std::min<size_t>(stop * ZG_ROWS, p.w.rows) - first;
          for (size_t t = 0; t < n; t++) level_.add(p.y + t * p.stride + first, p.bias->data() + first, width);
        }
        begin = stop;
      }
      begin -= std::min(begin, own);
      end -= std::min(end, own);
    }
  });
}

// Norms and turns q and k, appends k and v to the cache, and leaves the heads' results in o_.
void Engine::attention(size_t l, Row* rows, size_t n) {
  const det::Model& m = *model_;
  const det::Layer& layer = m.layers[l];
  const PageShape& shape = pages_->shape();
  const Turns& turns = *turns_[layer.rope];
  const int half_split = m.architecture.half_split ? 1 : 0;
  each_row(n, [&](size_t i) {
    float* q = &q_[i * q_stride_];
    float* k = &k_[i * kv_stride_];
    if (m.architecture.head_norms) {
      level_.norm(q, layer.q_norm.data(), q, m.head_size, m.heads, m.epsilon);
      level_.norm(k, layer.k_norm.data(), k, m.head_size, m.kv_heads, m.epsilon);
    }
    const float* angles = turns.at(rows[i].position);
    level_.rotate(q, m.heads, m.head_size, m.rope_dims / 2, angles, half_split);
    level_.rotate(k, m.kv_heads, m.head_size, m.rope_dims / 2, angles, half_split);
    const ZgPlace to = {shape.floats ? 1 : 0, rows[i].position % ZG_PAGE, m.kv_heads, m.head_size, shape.padded, shape.key_offset(l),
                        shape.value_offset(l)};
    level_.store(k, &v_[i * kv_stride_], rows[i].sequence->page_of(rows[i].position), &to);
  });
  uint64_t work = 0;
  for (size_t i = 0; i < n; i++) {
    const uint64_t seen = uint64_t{rows[i].position} + 1;
    work += (layer.window == 0 ? seen : std::min<uint64_t>(seen, layer.window)) * m.q_width() * 2;
  }
  // Rows of one sequence read the same keys and values: a few are worked on together.
  std::vector<Stretch> stretches;
  for (size_t i = 0; i < n; i++) {
    Stretch* s = stretches.empty() ? nullptr : &stretches.back();
    if (s != nullptr && s->count < kTogether && rows[i].sequence == rows[s->first].sequence && rows[i].position == rows[i - 1].position + 1) {
      s->count++;
    } else {
      stretches.push_back({i, 1});
    }
  }
  const size_t items = stretches.size() * m.kv_heads;
  const size_t grain = work < kAloneAttention ? items : std::max<size_t>(1, items / (size_t{8} * workers_.threads()));
  workers_.run(items, grain, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; i++) {
      const Stretch& s = stretches[i / m.kv_heads];
      attend(l, rows[s.first], s, i % m.kv_heads);
    }
  });
}

void Engine::attend(size_t l, const Row& row, const Stretch& stretch, size_t kv_head) {
  const det::Model& m = *model_;
  const PageShape& shape = pages_->shape();
  alignas(64) float scratch[2 * ZG_QUERIES * 512];
  const uint32_t group = m.heads / m.kv_heads;
  const size_t at = stretch.first * q_stride_ + kv_head * group * m.head_size;
  ZgAttention a{};
  a.pages = row.sequence->table();
  a.floats = shape.floats ? 1 : 0;
  a.key_offset = shape.key_offset(l) + kv_head * m.head_size * ZG_PAGE;
  a.value_offset = shape.value_offset(l) + kv_head * shape.padded * ZG_PAGE;
  a.q = &q_[at];
  a.out = &o_[at];
  a.stride = q_stride_;
  a.rows = static_cast<uint32_t>(stretch.count);
  a.heads = group;
  a.head_size = m.head_size;
  a.padded = shape.padded;
  a.position = row.position;
  a.window = m.layers[l].window;
  a.scale = m.score_scale;
  a.cap = m.score_cap;
  a.scratch = scratch;
  level_.attend(&a);
}

// gate_ = act(gate · x) ∘ (up · x) for the n tokens of normed_.
void Engine::gated(size_t layer, size_t expert, size_t n, const uint32_t* of) {
  const ZgMatrix g = layers_[layer].gate.matrix(expert);
  const ZgMatrix u = layers_[layer].up.matrix(expert);
  const Packed& packed = layers_[layer].gate;
  // Groups that lie beside each other are read so: in one stream.
  const bool together = g.group_bytes != packed.own_bytes;
  const size_t cost = (packed.own_bytes + layers_[layer].up.own_bytes) * std::max<size_t>(1, n / 2);
  const size_t grain = grain_of(g.groups, cost, workers_.threads());
  const int gelu = model_->architecture.gemma ? 1 : 0;
  const bool changed = adapts(layer, &Adapter::Layer::gate) || adapts(layer, &Adapter::Layer::up);
  workers_.run(g.groups, grain, [&](size_t begin, size_t end) {
    const size_t width = together ? 1 : end - begin;
    for (size_t at = begin; at < end; at += width) {
      const auto first = static_cast<uint32_t>(at);
      const auto last = static_cast<uint32_t>(at + width);
      level_.product(&g, first, last, normed_.groups(), normed_.group_count(), gate_.data(), feed_stride_);
      level_.product(&u, first, last, normed_.groups(), normed_.group_count(), up_.data(), feed_stride_);
    }
    for (size_t t = 0; t < n && !changed; t++) {
      const size_t at = t * feed_stride_ + begin * ZG_ROWS;
      level_.gate(&gate_[at], &up_[at], (end - begin) * ZG_ROWS, gelu);
    }
  });
  if (!changed) return;
  adapt(layer, &Adapter::Layer::gate, {h_.data(), x_stride_, gate_.data(), feed_stride_, n, of, true, expert});
  adapt(layer, &Adapter::Layer::up, {h_.data(), x_stride_, up_.data(), feed_stride_, n, of, true, expert});
  each_row(n, [&](size_t t) { level_.gate(&gate_[t * feed_stride_], &up_[t * feed_stride_], feed_stride_, gelu); });
}

void Engine::feed_forward(size_t layer, size_t n) {
  const Layer& p = layers_[layer];
  gated(layer, 0, n, nullptr);
  gated_.prepare(n, model_->feed, !p.down.floats(), p.down.floats());
  each_row(n, [&](size_t i) { gated_.put(level_, i, &gate_[i * feed_stride_]); });
  const Product down = {p.down.first, y_.data(), x_stride_, nullptr};
  multiply(&down, 1, gated_, n);
  adapt(layer, &Adapter::Layer::down, {gate_.data(), feed_stride_, y_.data(), x_stride_, n});
}

// The k largest of a row's router outputs, ties by lower index, ascending by index, with their weights.
void Engine::choose(const float* r, uint32_t* experts, float* weights) const {
  const det::Model& m = *model_;
  float largest = -INFINITY;
  for (size_t e = 0; e < m.experts; e++) largest = det::larger(largest, r[e]);
  float total = 0;
  std::vector<float> p(m.experts);
  for (size_t e = 0; e < m.experts; e++) total = det::add1(total, p[e] = det::zexp(r[e] - largest));
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
    p[e] = det::div1(p[e], total);
    if (chosen[e]) part = det::add1(part, p[e]);
  }
  size_t at = 0;
  for (size_t e = 0; e < m.experts; e++) {
    if (!chosen[e]) continue;
    experts[at] = static_cast<uint32_t>(e);
    weights[at++] = det::div1(p[e], part);
  }
}

// Each expert once, over all rows that chose it; a row's results are added by ascending index of the expert.
void Engine::mixture(size_t layer, size_t n) {
  const det::Model& m = *model_;
  const Layer& p = layers_[layer];
  const size_t router_stride = (size_t{m.experts} + ZG_ROWS - 1) / ZG_ROWS * ZG_ROWS;
  const size_t used = m.experts_used;
  router_.resize(n * router_stride);
  experts_.resize(n * used);
  expert_weights_.resize(n * used);
  const Product router = {p.router.first, router_.data(), router_stride, nullptr};
  multiply(&router, 1, normed_, n);
  adapt(layer, &Adapter::Layer::router, {h_.data(), x_stride_, router_.data(), router_stride, n});
  for (size_t i = 0; i < n; i++) choose(&router_[i * router_stride], &experts_[i * used], &expert_weights_[i * used]);
  std::fill_n(y_.data(), n * x_stride_, 0.0f);
  expert_out_.resize(n * x_stride_);
  std::vector<uint32_t> rows;
  std::vector<float> weights;
  for (uint32_t e = 0; e < m.experts; e++) {
    rows.clear();
    weights.clear();
    for (size_t i = 0; i < n * used; i++) {
      if (experts_[i] != e) continue;
      rows.push_back(static_cast<uint32_t>(i / used));
      weights.push_back(expert_weights_[i]);
    }
    if (rows.empty()) continue;
    normed_.prepare(rows.size(), m.width, !(p.gate.floats() && p.up.floats()), p.gate.floats() || p.up.floats());
    each_row(rows.size(), [&](size_t i) { normed_.put(level_, i, &h_[rows[i] * x_stride_]); });
    gated(layer, e, rows.size(), rows.data());
    gated_.prepare(rows.size(), m.feed, !p.down.floats(), p.down.floats());
    each_row(rows.size(), [&](size_t i) { gated_.put(level_, i, &gate_[i * feed_stride_]); });
    const Product down = {p.down.matrix(e), expert_out_.data(), x_stride_, nullptr};
    multiply(&down, 1, gated_, rows.size());
    adapt(layer, &Adapter::Layer::down, {gate_.data(), feed_stride_, expert_out_.data(), x_stride_, rows.size(), rows.data(), false, e});
    each_row(rows.size(), [&](size_t i) { level_.mix(&y_[rows[i] * x_stride_], &expert_out_[i * x_stride_], m.width, weights[i]); });
  }
}

void Engine::hand_over(Row* rows, size_t n, float* hidden) {
  std::copy_n(x_.data(), n * x_stride_, hidden);
  for (size_t i = 0; i < n; i++) rows[i].hidden = hidden + i * x_stride_;
}

// Final norm of all rows, logits of those that want them.
void Engine::output(Row* rows, size_t n, float* logits, float* hidden) {
  const det::Model& m = *model_;
  const auto last = static_cast<uint32_t>(layers_.size()) + 1;
  std::vector<uint32_t> wanted;
  for (size_t i = 0; i < n; i++) {
    if (rows[i].wants_logits) wanted.push_back(static_cast<uint32_t>(i));
  }
  normed_.prepare(wanted.size(), m.width, !output_.floats(), output_.floats());
  each_row(wanted.size(), [&](size_t i) {
    float* h = hidden + i * x_stride_;
    Row& row = rows[wanted[i]];
    level_.norm(&x_[wanted[i] * x_stride_], m.output_norm.data(), h, m.width, 1, m.epsilon);
    if (row.failed_layer == 0 && level_.finite(h, m.width) == 0) row.failed_layer = last;
    normed_.put(level_, i, h);
  });
  const Product product = {output_.first, logits, vocabulary_stride_, nullptr};
  multiply(&product, 1, normed_, wanted.size());
  adapt(0, nullptr, {hidden, x_stride_, logits, vocabulary_stride_, wanted.size(), wanted.data()});
  workers_.run(wanted.size(), 1, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; i++) {
      float* row_logits = logits + i * vocabulary_stride_;
      Row& row = rows[wanted[i]];
      if (m.logit_cap != 0) level_.soft_cap(row_logits, m.vocabulary, m.logit_cap);
      if (row.failed_layer == 0 && level_.finite(row_logits, m.vocabulary) == 0) row.failed_layer = last;
      if (row.failed_layer != 0) continue;
      row.logits = row_logits;
      row.hidden = hidden + i * x_stride_;
    }
  });
}

}  // namespace zg::cpu
