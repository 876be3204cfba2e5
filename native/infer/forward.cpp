#include "forward.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <new>

namespace zg::infer {
namespace {

// Multiply-adds below which a product stays on the calling thread.
constexpr size_t kParallelWork = size_t{1} << 20;
// Rows of x from which on a weight row is widened once for all instead of in each product.
constexpr size_t kWidenRows = 3;
// Weight rows that are multiplied with all rows of x before the next ones.
constexpr size_t kTileRows = 8;

// Sixteen lanes, folded as in kernels.h.
float sum(const float* x, size_t count) {
  float lanes[16] = {};
  size_t i = 0;
  for (; i + 16 <= count; i += 16) {
    for (size_t j = 0; j < 16; j++) lanes[j] += x[i + j];
  }
  for (size_t j = 0; i + j < count; j++) lanes[j] += x[i + j];
  for (size_t half = 8; half > 0; half /= 2) {
    for (size_t j = 0; j < half; j++) lanes[j] += lanes[j + half];
  }
  return lanes[0];
}

bool all_finite(const float* x, size_t count) {
  uint32_t broken = 0;
  for (size_t i = 0; i < count; i++) {
    const uint32_t exponent = std::bit_cast<uint32_t>(x[i]) & 0x7F800000u;
    broken |= exponent == 0x7F800000u ? 1u : 0u;
  }
  return broken == 0;
}

RowsFunction fused_product(const Kernels& kernels, const TypeInfo& type) {
  switch (static_cast<TensorType>(type.id)) {
    case TensorType::kF32:
      return kernels.rows_f32;
    case TensorType::kF16:
      return kernels.rows_f16;
    case TensorType::kBF16:
      return kernels.rows_bf16;
    case TensorType::kQ8_0:
      return kernels.rows_q8_0;
    default:
      return nullptr;
  }
}

// Memory of a thread that grows to what was asked for.
float* scratch(size_t count) {
  static thread_local std::vector<float> memory;
  if (memory.size() < count) memory.resize(count);
  return memory.data();
}

const std::vector<float> kNoBias;

}  // namespace

Cache::Cache(const Model& model)
    : planes_(2 * model.layers.size()), kv_width_(size_t{model.kv_heads} * model.head_size) {}

uint64_t Cache::bytes(const Model& model, uint64_t positions) {
  const uint64_t blocks = (positions + kBlock - 1) / kBlock;
  return blocks * kBlock * 2 * model.layers.size() * model.kv_heads * model.head_size * sizeof(float);
}

bool Cache::reserve(size_t positions) {
  while (blocks_.size() * kBlock < positions) {
    std::unique_ptr<float[]> block(new (std::nothrow) float[planes_ * kBlock * kv_width_]);
    if (block == nullptr) return false;
    blocks_.push_back(std::move(block));
  }
  return true;
}

Runner::Runner(const Model& model, const Kernels& kernels, unsigned threads)
    : model_(model), kernels_(kernels), pool_(threads) {}

bool Runner::resize(size_t rows) {
  if (rows <= capacity_) return true;
  const size_t q = size_t{model_.heads} * model_.head_size;
  const size_t kv = size_t{model_.kv_heads} * model_.head_size;
  x_.resize(rows * model_.width);
  h_.resize(rows * model_.width);
  y_.resize(rows * model_.width);
  q_.resize(rows * q);
  o_.resize(rows * q);
  k_.resize(rows * kv);
  v_.resize(rows * kv);
  gate_.resize(rows * model_.feed);
  up_.resize(rows * model_.feed);
  turns_.resize(rows * model_.rope_dims);
  capacity_ = rows;
  return true;
}

bool Runner::run(std::vector<Row>& rows, const std::atomic<bool>* cancel) {
  const size_t n = rows.size();
  if (n == 0) return true;
  if (!resize(n)) return false;
  embed(rows);
  for (size_t i = 0; i < model_.layers.size(); i++) {
    if (cancel != nullptr && cancel->load(std::memory_order_relaxed)) return false;
    const Layer& l = model_.layers[i];
    norm(l.attention_norm, x_.data(), h_.data(), n);
    multiply(l.q, l.q_bias, h_.data(), n, q_.data());
    multiply(l.k, l.k_bias, h_.data(), n, k_.data());
    multiply(l.v, l.v_bias, h_.data(), n, v_.data());
    attention(i, rows);
    multiply(l.o, l.o_bias, o_.data(), n, y_.data());
    kernels_.add(x_.data(), y_.data(), n * model_.width);
    norm(l.feed_norm, x_.data(), h_.data(), n);
    feed_forward(l, n);
    kernels_.add(x_.data(), y_.data(), n * model_.width);
    mark_broken(rows, static_cast<uint32_t>(i) + 1);
  }
  output(rows);
  return true;
}

// The tokens' rows of the embedding, and the turns of RoPE at their positions.
void Runner::embed(const std::vector<Row>& rows) {
  const Matrix& e = model_.embedding;
  const size_t pairs = model_.frequencies.size();
  for (size_t r = 0; r < rows.size(); r++) {
    e.type->dequantize(e.data + rows[r].token * e.row_bytes, e.columns, x_.data() + r * model_.width);
    float* turns = turns_.data() + r * 2 * pairs;
    for (size_t i = 0; i < pairs; i++) {
      const double angle = rows[r].position * model_.frequencies[i];
      turns[2 * i] = static_cast<float>(std::cos(angle)) * model_.rope_magnitude;
      turns[2 * i + 1] = static_cast<float>(std::sin(angle)) * model_.rope_magnitude;
    }
  }
}

void Runner::norm(const std::vector<float>& w, const float* x, float* out, size_t rows) {
  for (size_t r = 0; r < rows; r++) {
    kernels_.rms_norm(x + r * model_.width, w.data(), model_.epsilon, out + r * model_.width, model_.width);
  }
}

// y = W x + bias for each row of x.
void Runner::multiply(const Matrix& w, const std::vector<float>& bias, const float* x, size_t rows, float* y) {
  const RowsFunction fused = fused_product(kernels_, *w.type);
  const bool floats = w.type->id == static_cast<uint32_t>(TensorType::kF32);
  const bool widen = fused == nullptr || (!floats && rows >= kWidenRows);
  const size_t work = w.rows * w.columns * rows;
  const size_t grain = work < kParallelWork ? w.rows : std::max<size_t>(1, w.rows / (size_t{4} * pool_.threads()));
  pool_.run(w.rows, grain, [&](size_t begin, size_t end) {
    // A few rows at a time stay near while all of x passes.
    const size_t tile = rows == 1 && !widen ? end - begin : kTileRows;
    for (size_t i = begin; i < end; i += tile) {
      const size_t count = std::min(tile, end - i);
      const uint8_t* weights = w.data + i * w.row_bytes;
      size_t row_bytes = w.row_bytes;
      if (widen) {
        // Rows lie one behind the other.
        float* wide = scratch(count * w.columns);
        w.type->dequantize(weights, count * w.columns, wide);
        weights = reinterpret_cast<const uint8_t*>(wide);
        row_bytes = w.columns * sizeof(float);
      }
      for (size_t r = 0; r < rows; r++) {
        float* out = y + r * w.rows + i;
        (widen ? kernels_.rows_f32 : fused)(weights, row_bytes, count, x + r * w.columns, w.columns, out);
        if (bias.empty()) continue;
        for (size_t j = 0; j < count; j++) out[j] += bias[i + j];
      }
    }
  });
}

// RMS norm of each of count heads, in place.
void Runner::norm_heads(const std::vector<float>& w, float* heads, size_t count) const {
  const size_t hs = model_.head_size;
  float* normed = scratch(hs);
  for (size_t i = 0; i < count; i++, heads += hs) {
    kernels_.rms_norm(heads, w.data(), model_.epsilon, normed, hs);
    std::memcpy(heads, normed, hs * sizeof(float));
  }
}

// Turns the pairs of count heads: (a, b) → (a cos − b sin, a sin + b cos).
void Runner::rotate(float* heads, size_t count, const float* turns) const {
  const size_t pairs = model_.frequencies.size();
  const bool half_split = model_.architecture->half_split;
  for (size_t h = 0; h < count; h++, heads += model_.head_size) {
    for (size_t i = 0; i < pairs; i++) {
      float& first = heads[half_split ? i : 2 * i];
      float& second = heads[half_split ? i + pairs : 2 * i + 1];
      const float a = first;
      const float b = second;
      const float c = turns[2 * i];
      const float s = turns[2 * i + 1];
      first = __builtin_fmaf(a, c, -(b * s));
      second = __builtin_fmaf(a, s, b * c);
    }
  }
}

// Turns q and k, appends k and v to the caches, and leaves the heads' results in o_.
void Runner::attention(size_t layer, std::vector<Row>& rows) {
  const Layer& l = model_.layers[layer];
  const size_t hs = model_.head_size;
  const size_t q_width = model_.heads * hs;
  const size_t kv_width = model_.kv_heads * hs;
  uint64_t work = 0;
  for (size_t r = 0; r < rows.size(); r++) {
    float* q = q_.data() + r * q_width;
    float* k = k_.data() + r * kv_width;
    if (!l.q_norm.empty()) {
      norm_heads(l.q_norm, q, model_.heads);
      norm_heads(l.k_norm, k, model_.kv_heads);
    }
    const float* turns = turns_.data() + r * model_.rope_dims;
    rotate(q, model_.heads, turns);
    rotate(k, model_.kv_heads, turns);
    std::memcpy(rows[r].cache->key(layer, rows[r].position), k, kv_width * sizeof(float));
    std::memcpy(rows[r].cache->value(layer, rows[r].position), v_.data() + r * kv_width, kv_width * sizeof(float));
    work += (rows[r].position + 1) * q_width * 2;
  }
  const size_t items = rows.size() * model_.kv_heads;
  const size_t grain = work < kParallelWork ? items : 1;
  const size_t group = model_.heads / model_.kv_heads;
  pool_.run(items, grain, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; i++) {
      const size_t r = i / model_.kv_heads;
      const size_t kv_head = i % model_.kv_heads;
      const size_t at = r * q_width + kv_head * group * hs;
      attend(layer, rows[r], q_.data() + at, kv_head, o_.data() + at);
    }
  });
}

// The query heads that share one key-value head, over all positions up to the row's own.
void Runner::attend(size_t layer, const Row& row, const float* q, size_t kv_head, float* out) {
  const size_t hs = model_.head_size;
  const size_t group = model_.heads / model_.kv_heads;
  const size_t kv_width = model_.kv_heads * hs;
  const size_t count = size_t{row.position} + 1;
  const float scale = 1.0f / std::sqrt(static_cast<float>(hs));
  float* scores = scratch(count);
  for (size_t g = 0; g < group; g++, q += hs, out += hs) {
    for (size_t t = 0; t < count; t += Cache::kBlock) {
      const float* keys = row.cache->key(layer, t) + kv_head * hs;
      kernels_.scores(q, keys, kv_width, std::min(Cache::kBlock, count - t), hs, scale, scores + t);
    }
    float largest = -INFINITY;
    bool number = true;
    for (size_t t = 0; t < count; t++) {
      largest = scores[t] > largest ? scores[t] : largest;
      number &= scores[t] == scores[t];
    }
    // A score that is not a number must not be lost in the maximum: it is found behind the layer.
    kernels_.exp_shifted(scores, number ? largest : NAN, count);
    const float total = sum(scores, count);
    std::fill_n(out, hs, 0.0f);
    for (size_t t = 0; t < count; t += Cache::kBlock) {
      const float* values = row.cache->value(layer, t) + kv_head * hs;
      kernels_.mix(scores + t, values, kv_width, std::min(Cache::kBlock, count - t), hs, out);
    }
    for (size_t d = 0; d < hs; d++) out[d] /= total;
  }
}

void Runner::feed_forward(const Layer& l, size_t rows) {
  multiply(l.gate, kNoBias, h_.data(), rows, gate_.data());
  multiply(l.up, kNoBias, h_.data(), rows, up_.data());
  kernels_.silu_product(gate_.data(), up_.data(), rows * model_.feed);
  multiply(l.down, kNoBias, gate_.data(), rows, y_.data());
}

void Runner::mark_broken(std::vector<Row>& rows, uint32_t layer) const {
  for (size_t r = 0; r < rows.size(); r++) {
    if (rows[r].failed_layer == 0 && !all_finite(x_.data() + r * model_.width, model_.width)) rows[r].failed_layer = layer;
  }
}

void Runner::output(std::vector<Row>& rows) {
  size_t wanted = 0;
  for (size_t r = 0; r < rows.size(); r++) {
    if (!rows[r].wants_logits || rows[r].failed_layer != 0) continue;
    kernels_.rms_norm(x_.data() + r * model_.width, model_.output_norm.data(), model_.epsilon,
                      h_.data() + wanted * model_.width, model_.width);
    wanted++;
  }
  if (wanted == 0) return;
  const size_t vocabulary = model_.vocabulary;
  if (logits_.size() < wanted * vocabulary) logits_.resize(wanted * vocabulary);
  multiply(model_.output, kNoBias, h_.data(), wanted, logits_.data());
  const float* at = logits_.data();
  for (Row& row : rows) {
    if (!row.wants_logits || row.failed_layer != 0) continue;
    if (all_finite(at, vocabulary)) {
      row.logits = at;
    } else {
      row.failed_layer = static_cast<uint32_t>(model_.layers.size()) + 1;
    }
    at += vocabulary;
  }
}

}  // namespace zg::infer
