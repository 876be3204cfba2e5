// Loading: the weights of a stage's layers are laid out and brought to the device, and room for a step's activations is made.
#include <algorithm>
#include <chrono>

#include "state.h"

namespace zg::simt {
namespace {

uint64_t quotient64(uint64_t a, uint64_t b) { return (a + b - 1) / b; }

}  // namespace

float* Engine::State::upload(const std::vector<float>& v) {
  if (v.empty()) return nullptr;
  auto* p = device.allocate_of<float>(v.size());
  if (p != nullptr) device.copy_in(p, v.data(), v.size() * sizeof(float));
  device.wait();
  return p;
}

// Lays a matrix out in pinned pieces while the piece before is on its way.
bool Engine::State::upload(const det::Matrix& m, uint32_t experts, infer::Pool* pool, DeviceMatrix* out) {
  const auto rows = static_cast<uint32_t>(m.rows / experts);
  out->type = m.type;
  out->rows = rows;
  out->columns = static_cast<uint32_t>(m.columns);
  out->segments = quotient(out->columns, kSegment);
  out->expert_bytes = tiled_bytes(m.type, rows, m.columns);
  out->bytes = out->expert_bytes * experts;
  out->tiles = device.allocate_of<uint8_t>(out->bytes);
  if (out->tiles == nullptr) return false;
  const uint64_t tile_bytes = out->expert_bytes / quotient(rows, kRows);
  const uint64_t per_piece = std::max<uint64_t>(1, Device::kStaging / tile_bytes);
  if (tile_bytes > Device::kStaging) return fail("a row of weights is too long for the device's buffers");
  unsigned buffer = 0;
  for (uint32_t e = 0; e < experts; e++) {
    const uint32_t tiles = quotient(rows, kRows);
    for (uint64_t first = 0; first < tiles; first += per_piece) {
      const uint64_t count = std::min<uint64_t>(per_piece, tiles - first);
      uint8_t* to = device.staging(buffer);
      if (to == nullptr) return false;
      pool->run(count, 1, [&](size_t begin, size_t end) {
        for (size_t t = begin; t < end; t++) {
          const size_t row = (first + t) * kRows;
          lay_tiles(m.type, m.row(size_t{e} * rows + row), std::min<size_t>(kRows, rows - row), m.columns, m.row_bytes, to + t * tile_bytes);
        }
      });
      device.copy_staged(out->tiles + e * out->expert_bytes + first * tile_bytes, buffer, count * tile_bytes);
      buffer ^= 1u;
    }
  }
  return device.ok();
}

bool Engine::State::load(std::string* why) {
  const auto started = std::chrono::steady_clock::now();
  const det::Model& m = *model;
  infer::Pool pool(options.load_threads);
  const uint32_t experts = std::max(m.experts, 1u);
  const size_t end = std::min<size_t>(options.last_layer, m.layers.size());
  const bool last_stage = end == m.layers.size();
  first = options.first_layer;
  bool ok = first < end || fail("a stage without layers");
  if (begins()) ok = ok && upload(m.embedding, 1, &pool, &embedding);
  if (last_stage && begins() && m.output.data == m.embedding.data) {
    output = embedding;
  } else if (last_stage) {
    ok = ok && upload(m.output, 1, &pool, &output);
  }
  weight_bytes = output.bytes;
  for (size_t i = first; i < end && ok; i++) {
    const det::Layer& l = m.layers[i];
    DeviceLayer d{};
    d.attention_norm = upload(l.attention_norm);
    d.feed_norm = upload(l.feed_norm);
    d.q_norm = upload(l.q_norm);
    d.k_norm = upload(l.k_norm);
    d.post_attention_norm = upload(l.post_attention_norm);
    d.post_feed_norm = upload(l.post_feed_norm);
    d.q_bias = upload(l.q_bias);
    d.k_bias = upload(l.k_bias);
    d.v_bias = upload(l.v_bias);
    d.o_bias = upload(l.o_bias);
    ok = upload(l.q, 1, &pool, &d.q) && upload(l.k, 1, &pool, &d.k) && upload(l.v, 1, &pool, &d.v) && upload(l.o, 1, &pool, &d.o) &&
         upload(l.gate, experts, &pool, &d.gate) && upload(l.up, experts, &pool, &d.up) && upload(l.down, experts, &pool, &d.down) &&
         (m.experts == 0 || upload(l.router, 1, &pool, &d.router));
    for (const DeviceMatrix* w : {&d.q, &d.k, &d.v, &d.o, &d.router}) weight_bytes += w->bytes;
    for (const DeviceMatrix* w : {&d.gate, &d.up, &d.down}) {
      weight_bytes += m.experts == 0 ? w->bytes : w->expert_bytes * m.experts_used;
    }
    layers.push_back(d);
  }
  if (last_stage) output_norm = upload(m.output_norm);
  for (const det::RopeParameters& p : m.rope) tables.push_back(upload(det::rope_table(p, options.positions)));

  const uint64_t n = options.rows;
  const uint64_t pairs = n * std::max(m.experts_used, 1u);
  pages_per_sequence = quotient(options.positions, det::kPage);
  const uint64_t plane = uint64_t{det::kPage} * m.kv_width();
  page_stride = plane * 2 * layers.size();
  const uint64_t widest = quotient64(std::max<uint64_t>({m.width, m.feed, m.q_width()}), kSegment) * kSegment;
  x = device.allocate_of<float>(n * m.width);
  h = device.allocate_of<float>(n * m.width);
  y = device.allocate_of<float>(n * m.width);
  q = device.allocate_of<float>(n * m.q_width());
  o = device.allocate_of<float>(n * m.q_width());
  k = device.allocate_of<float>(n * m.kv_width());
  v = device.allocate_of<float>(n * m.kv_width());
  gate = device.allocate_of<float>(pairs * m.feed);
  up = device.allocate_of<float>(pairs * m.feed);
  quants.q = device.allocate_of<int8_t>(pairs * widest);
  quants.d = device.allocate_of<float>(pairs * widest / 32);
  quants.sums = device.allocate_of<uint32_t>(pairs * widest / 32);
  // Logits of at most this many rows of a step.
  logit_rows = last_stage ? std::min(options.rows, options.logit_rows) : 0;
  logits = last_stage ? device.allocate_of<float>(uint64_t{logit_rows} * m.vocabulary) : nullptr;
  hidden = last_stage ? device.allocate_of<float>(uint64_t{logit_rows} * m.width) : nullptr;
  if (!begins()) host_states = static_cast<float*>(device.pinned(n * m.width * sizeof(float)));
  expert_out = device.allocate_of<float>(m.experts == 0 ? 1 : pairs * m.width);
  route_weights = device.allocate_of<float>(pairs);
  router_out = device.allocate_of<float>(n * experts);
  chosen = device.allocate_of<uint32_t>(pairs);
  done = device.allocate_of<uint32_t>(n * m.kv_heads);
  device.fill(done, 0, n * m.kv_heads * sizeof(uint32_t));
  // Rows, failures, rows of logits, list, tiles, best.
  block = device.allocate_of<uint32_t>(n * 10);
  host_block = static_cast<uint32_t*>(device.pinned(n * 10 * sizeof(uint32_t)));
  const uint64_t table = uint64_t{options.sequences} * pages_per_sequence;
  page_table = device.allocate_of<uint32_t>(table);
  host_table = static_cast<uint32_t*>(device.pinned(table * sizeof(uint32_t)));
  table_places.resize(options.sequences);
  sequences.resize(options.sequences);
  device.wait();
  load_ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - started).count();
  if (!device.ok()) *why = device.error();
  if (!error.empty()) *why = error;
  return device.ok() && error.empty() && ok;
}

bool Engine::State::make_cache(uint32_t pages) {
  if (cache != nullptr) return fail("the cache is there already");
  options.pages = pages;
  cache = device.allocate_of<uint16_t>(page_stride * pages);
  for (uint32_t i = pages; i > 0; i--) free_pages.push_back(i - 1);
  return device.ok() || fail(device.error());
}

std::unique_ptr<Engine> Engine::open(const det::Model& model, const EngineOptions& options, std::string* error) {
  std::unique_ptr<Engine> e(new Engine());
  e->s_ = std::make_unique<State>();
  e->s_->model = &model;
  e->s_->options = options;
  if (!e->s_->device.open(options.device)) {
    *error = e->s_->device.error();
    return nullptr;
  }
  if (!e->s_->load(error)) return nullptr;
  if (options.pages == EngineOptions::kNoPages) return e;
  uint32_t pages = options.pages;
  if (pages == 0) pages = e->pages_left();
  if (pages == 0) {
    *error = "no memory of the device is left for keys and values";
    return nullptr;
  }
  if (!e->make_cache(pages)) {
    *error = e->error();
    return nullptr;
  }
  return e;
}

uint32_t Engine::pages_left() {
  s_->device.use();
  const uint64_t left = s_->device.free_bytes();
  return static_cast<uint32_t>(std::min<uint64_t>(left / 10 * 9 / page_bytes(), UINT32_MAX));
}

bool Engine::make_cache(uint32_t pages) {
  s_->device.use();
  return s_->make_cache(pages);
}

Need need_of(const det::Model& m, const EngineOptions& options) {
  const size_t end = std::min<size_t>(options.last_layer, m.layers.size());
  const uint64_t n = options.rows;
  const uint64_t pairs = n * std::max(m.experts_used, 1u);
  const auto floats = [](uint64_t count) { return count * sizeof(float); };
  const auto of = [](const det::Matrix& w, uint64_t experts) { return experts * tiled_bytes(w.type, w.rows / experts, w.columns); };
  Need out;
  if (options.first_layer == 0) out.embedding = of(m.embedding, 1);
  if (end == m.layers.size()) {
    const bool shared = options.first_layer == 0 && m.output.data == m.embedding.data;
    const uint64_t wanted = std::min(options.rows, options.logit_rows);
    out.output = (shared ? 0 : of(m.output, 1)) + floats(m.output_norm.size()) + floats(wanted * (m.vocabulary + m.width));
  }
  const uint64_t experts = std::max(m.experts, 1u);
  for (size_t i = options.first_layer; i < end; i++) {
    const det::Layer& l = m.layers[i];
    uint64_t bytes = of(l.q, 1) + of(l.k, 1) + of(l.v, 1) + of(l.o, 1) + of(l.gate, experts) + of(l.up, experts) + of(l.down, experts);
    if (m.experts > 0) bytes += of(l.router, 1);
    for (const std::vector<float>* v : {&l.attention_norm, &l.feed_norm, &l.q_norm, &l.k_norm, &l.post_attention_norm, &l.post_feed_norm, &l.q_bias,
                                        &l.k_bias, &l.v_bias, &l.o_bias}) {
      bytes += floats(v->size());
    }
    out.layers.push_back(bytes);
  }
  const uint64_t widest = quotient64(std::max<uint64_t>({m.width, m.feed, m.q_width()}), kSegment) * kSegment;
  for (const det::RopeParameters& p : m.rope) out.work += floats(uint64_t{options.positions} * p.dims);
  out.work += floats(n * (3 * uint64_t{m.width} + 2 * m.q_width() + 2 * m.kv_width()) + pairs * 2 * m.feed);
  out.work += pairs * widest + 2 * floats(pairs * widest / 32);
  out.work += floats((m.experts == 0 ? 1 : pairs * m.width) + pairs + n * experts + pairs + n * m.kv_heads + n * 10);
  out.work += floats(uint64_t{options.sequences} * quotient(options.positions, det::kPage));
  out.page_layer = uint64_t{2} * det::kPage * m.kv_width() * sizeof(uint16_t);
  return out;
}

}  // namespace zg::simt
