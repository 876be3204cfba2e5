// Compiled twice: as C++ with the emulated device, and by nvcc through engine_cuda.cu.
#include "engine.h"

#include <algorithm>
#include <chrono>

#include "bench_kernels.h"
#include "state.h"

namespace zg::simt {
namespace {

// Recorded steps that are kept: a few hundred nodes each.
constexpr size_t kGraphs = 96;

}  // namespace

// One launch for each run of matrices of one type. n: rows of activations (pairs of rows and experts, where there are experts).
void Engine::State::multiply(const std::vector<std::pair<const DeviceMatrix*, std::pair<const float*, float*>>>& w, uint32_t n,
                             const Flow& flow) {
  for (size_t i = 0; i < w.size();) {
    ProductArgs a;
    const DeviceMatrix& first = *w[i].first;
    a.columns = first.columns;
    a.segments = first.segments;
    a.source = flow.source;
    a.sink = flow.sink;
    a.x = quants;
    a.floats = flow.floats;
    a.norm = flow.norm;
    a.epsilon = model->epsilon;
    a.experts = flow.experts;
    a.share = flow.share;
    a.failed = failed;
    a.layer = flow.layer;
    a.ahead = options.ahead;
    uint32_t tiles = 0;
    for (; i < w.size() && w[i].first->type == first.type; i++) {
      a.w[a.count++] = {w[i].first->tiles, w[i].second.first, w[i].second.second, w[i].first->rows, w[i].first->expert_bytes};
      tiles += quotient(w[i].first->rows, kRows);
    }
    with_type(first.type, [&]<Type T>() { launch_product<T>(device, &a, tiles, n, options.matrix_rows, options.vector_blocks); });
  }
}

void Engine::State::normalize_rows(const float* from, const float* weight, uint32_t columns, uint32_t n, float* floats, bool quantized,
                                   uint32_t layer, const uint32_t* list) {
  const NormArgs a{from, weight, model->epsilon, columns, floats, quantized ? quants : Quants{}, layer != 0 ? failed : nullptr, layer, list};
  device.launch(normalize, n, 1, 512, quotient(columns, 4) * 16 + 256, a);
}

void Engine::State::attention(size_t index, uint32_t n) {
  const det::Model& m = *model;
  const DeviceLayer& l = layers[index];
  const bool matrix = n >= options.matrix_rows;
  Flow flow;
  bool floats = false;
  bool quantized = false;
  for (const DeviceMatrix* w : {&l.q, &l.k, &l.v}) (det::is_float_type(w->type) ? floats : quantized) = true;
  if (!matrix && !floats) {
    flow = {Source::kNormed, x, l.attention_norm};
  } else {
    normalize_rows(x, l.attention_norm, m.width, n, floats ? h : nullptr, quantized, 0);
    flow = {Source::kQuants, h, nullptr};
  }
  multiply({{&l.q, {l.q_bias, q}}, {&l.k, {l.k_bias, k}}, {&l.v, {l.v_bias, v}}}, n, flow);
  const uint64_t plane = uint64_t{det::kPage} * m.kv_width();
  const RopeArgs rope{q,
                      k,
                      v,
                      l.q_norm,
                      l.k_norm,
                      m.epsilon,
                      tables[m.layers[first + index].rope],
                      rows,
                      page_table,
                      cache,
                      page_stride,
                      plane * 2 * index,
                      m.heads,
                      m.kv_heads,
                      m.head_size,
                      m.rope_dims,
                      m.architecture.half_split};
  if (!shape.fused) device.launch(rope_and_append, n, m.heads + m.kv_heads, 64, (m.head_size + 64) * sizeof(float), rope);
  AttentionArgs a{};
  a.q = q;
  a.out = o;
  a.rows = rows;
  a.page_table = page_table;
  a.cache = cache;
  a.page_stride = page_stride;
  a.layer_offset = plane * 2 * index;
  a.heads = m.heads;
  a.kv_heads = m.kv_heads;
  a.head_size = m.head_size;
  a.window = m.layers[first + index].window;
  a.scale = m.score_scale;
  a.cap = m.score_cap;
  a.scratch = scratch;
  a.max_blocks = shape.blocks;
  a.done = done;
  a.list = shape.singles == n ? nullptr : list;
  a.fused = shape.fused;
  a.rope = rope;
  if (shape.singles > 0) {
    device.launch(attend, shape.singles * m.kv_heads, shape.blocks, attention_threads(m.heads, m.kv_heads),
                  attention_shared(m.heads, m.kv_heads, m.head_size, shape.blocks), a);
  }
  if (shape.tile_count == 0) return;
  const TileArgs t{a, tiles, shape.tile_count};
  const uint32_t grid = shape.tile_count * m.kv_heads;
  const size_t bytes = tile_shared(m.head_size).total;
  if (m.head_size <= 64) {
    device.launch(attend_tile<16, 1>, grid, 1, kTileThreads, bytes, t);
  } else if (m.head_size <= 128) {
    device.launch(attend_tile<32, 1>, grid, 1, kTileThreads, bytes, t);
  } else {
    device.launch(attend_tile<32, 2>, grid, 1, kTileThreads, bytes, t);
  }
}

// x += w · from, through the post-norm where there is one; layer: for the finite test, 0: none.
void Engine::State::feed_forward(size_t index, uint32_t n) {
  const det::Model& m = *model;
  const DeviceLayer& l = layers[index];
  const bool matrix = n >= options.matrix_rows;
  const uint32_t last = first + static_cast<uint32_t>(index) + 1;
  const uint32_t parts = quotient(m.width, 256);
  // Adds a branch to the residual.
  const auto finish = [&](const float* post, uint32_t layer) {
    if (post != nullptr) normalize_rows(y, post, m.width, n, y, false, 0);
    device.launch(add_rows, n, parts, 256, 0, PairArgs{x, y, x, m.width, failed, layer, false});
  };
  const auto branch = [&](const DeviceMatrix& w, const float* bias, const float* from, const float* post, uint32_t layer) {
    const bool floats = det::is_float_type(w.type);
    if (!matrix && !floats) {
      const bool direct = post == nullptr;
      multiply({{&w, {bias, direct ? x : y}}}, n, {Source::kFloats, from, nullptr, direct ? Sink::kAdd : Sink::kStore, layer});
      if (direct) return;
    } else {
      if (!floats) normalize_rows(from, nullptr, w.columns, n, nullptr, true, 0);
      multiply({{&w, {bias, y}}}, n, {Source::kQuants, from, nullptr});
    }
    finish(post, layer);
  };
  branch(l.o, l.o_bias, o, l.post_attention_norm, 0);
  if (m.experts > 0) {
    experts(index, n);
    finish(l.post_feed_norm, last);
    return;
  }
  const bool gate_floats = det::is_float_type(l.gate.type);
  const bool up_floats = det::is_float_type(l.up.type);
  if (!matrix && l.gate.type == l.up.type && !gate_floats) {
    const Sink sink = m.architecture.gemma ? Sink::kGatedGelu : Sink::kGatedSilu;
    multiply({{&l.gate, {nullptr, gate}}, {&l.up, {nullptr, gate}}}, n, {Source::kNormed, x, l.feed_norm, sink});
  } else {
    normalize_rows(x, l.feed_norm, m.width, n, h, !gate_floats || !up_floats, 0);
    multiply({{&l.gate, {nullptr, gate}}, {&l.up, {nullptr, up}}}, n, {Source::kQuants, h, nullptr});
    device.launch(zg::simt::gate, n, quotient(m.feed, 256), 256, 0, PairArgs{gate, up, gate, m.feed, nullptr, 0, m.architecture.gemma});
  }
  branch(l.down, nullptr, gate, l.post_feed_norm, last);
}

void Engine::State::experts(size_t index, uint32_t n) {
  const det::Model& m = *model;
  const DeviceLayer& l = layers[index];
  const uint32_t used = m.experts_used;
  const uint32_t pairs = n * used;
  normalize_rows(x, l.feed_norm, m.width, n, h, true, 0);
  multiply({{&l.router, {nullptr, router_out}}}, n, {Source::kQuants, h, nullptr});
  device.launch(route, n, 1, 32, m.experts * sizeof(float), RouteArgs{router_out, m.experts, used, chosen, route_weights});
  multiply({{&l.gate, {nullptr, gate}}, {&l.up, {nullptr, up}}}, pairs, {Source::kQuants, h, nullptr, Sink::kStore, 0, chosen, used});
  device.launch(zg::simt::gate, pairs, quotient(m.feed, 256), 256, 0,
                PairArgs{gate, up, gate, m.feed, nullptr, 0, m.architecture.gemma});
  if (!det::is_float_type(l.down.type)) normalize_rows(gate, nullptr, m.feed, pairs, nullptr, true, 0);
  multiply({{&l.down, {nullptr, expert_out}}}, pairs, {Source::kQuants, gate, nullptr, Sink::kStore, 0, chosen, 1});
  device.launch(combine, n, quotient(m.width, 256), 256, 0, CombineArgs{expert_out, route_weights, y, used, m.width});
}

void Engine::State::step() {
  const det::Model& m = *model;
  const uint32_t n = shape.n;
  const uint32_t wants = shape.wants;
  if (begins()) {
    with_type(embedding.type, [&]<Type T>() {
      launch_embed<T>(device, n, {embedding.tiles, rows, x, m.width, embedding.segments, m.embedding_scale, m.architecture.gemma});
    });
  }
  for (size_t i = 0; i < layers.size(); i++) {
    attention(i, n);
    feed_forward(i, n);
  }
  if (wants == 0) return;
  const auto last = static_cast<uint32_t>(m.layers.size()) + 1;
  normalize_rows(x, output_norm, m.width, wants, hidden, !det::is_float_type(output.type), last, row_of);
  multiply({{&output, {nullptr, logits}}}, wants, {Source::kQuants, hidden, nullptr});
  device.launch(finish_logits, wants, 1, 1024, 8192, LogitArgs{logits, m.vocabulary, m.logit_cap, failed, row_of, last, best});
}

// The place of a sequence in the table, whose entries up to so many positions are what the list says.
bool Engine::State::place(const std::vector<uint32_t>* pages, uint32_t positions, uint32_t* at) {
  uint32_t best_place = UINT32_MAX;
  for (uint32_t i = 0; i < table_places.size(); i++) {
    if (table_places[i].owner == pages) {
      best_place = i;
      break;
    }
    // Else the one that was not used for longest.
    if (table_places[i].used != steps && (best_place == UINT32_MAX || table_places[i].used < table_places[best_place].used)) best_place = i;
  }
  if (best_place == UINT32_MAX) return fail("more sequences in a step than there is room for");
  Place& p = table_places[best_place];
  if (p.owner != pages) p = {pages, 0, 0};
  p.used = steps;
  *at = best_place * pages_per_sequence;
  const uint32_t count = quotient(positions, det::kPage);
  if (pages->size() < count) return fail("a row has no page");
  uint32_t same = 0;
  while (same < std::min(p.count, count) && host_table[*at + same] == (*pages)[same]) same++;
  if (same < count) {
    for (uint32_t i = same; i < count; i++) {
      if ((*pages)[i] >= options.pages) return fail("a page is beyond the cache");
      host_table[*at + i] = (*pages)[i];
    }
    device.copy_in(page_table + *at + same, host_table + *at + same, (count - same) * sizeof(uint32_t));
    p.count = count;
  }
  return true;
}

// Checks the rows and tells the device of them.
bool Engine::State::describe(const std::vector<PagedRow>& list_of_rows) {
  const auto n = static_cast<uint32_t>(list_of_rows.size());
  if (n > options.rows) return fail("a step of " + std::to_string(n) + " rows, " + std::to_string(options.rows) + " fit");
  steps++;
  shape = {};
  shape.n = n;
  const bool tiled = tile_fits(model->heads, model->kv_heads, model->head_size);
  const uint32_t tile_rows = tiled ? kTileQueries / (model->heads / model->kv_heads) : 0;
  std::vector<uint32_t> wanted, singles;
  std::vector<AttentionTile> parts;
  auto* to = reinterpret_cast<StepRow*>(host_block);
  bool alone = true;
  for (uint32_t i = 0; i < n;) {
    // Rows of one sequence that follow one another.
    uint32_t end = i;
    while (end < n && list_of_rows[end].pages == list_of_rows[i].pages && list_of_rows[end].position == list_of_rows[i].position + (end - i)) end++;
    uint32_t at = 0;
    const uint32_t last = list_of_rows[end - 1].position;
    if (last >= options.positions) return fail("position " + std::to_string(last) + " is beyond the engine's context");
    for (uint32_t j = 0; j < i; j++) alone = alone && list_of_rows[j].pages != list_of_rows[i].pages;
    if (!place(list_of_rows[i].pages, last + 1, &at)) return false;
    const bool together = tiled && end - i >= options.tile_rows;
    for (uint32_t r = i; r < end; r++) {
      const PagedRow& row = list_of_rows[r];
      if (row.token >= model->vocabulary) return fail("token " + std::to_string(row.token) + " is not in the vocabulary");
      to[r] = {row.token, row.position, at, 0};
      if (row.wants_logits) wanted.push_back(r);
      if (together) continue;
      singles.push_back(r);
      while (shape.blocks * kKeys <= row.position) shape.blocks *= 2;
    }
    for (uint32_t r = i; together && r < end; r += tile_rows) parts.push_back({r, std::min(tile_rows, end - r)});
    alone = alone && end == i + 1;
    i = end;
  }
  shape.decodes = wanted.size() == n;
  if (!ends()) wanted.clear();
  shape.wants = static_cast<uint32_t>(wanted.size());
  shape.singles = static_cast<uint32_t>(singles.size());
  shape.tile_count = static_cast<uint32_t>(parts.size());
  shape.fused = alone && shape.singles == n;
  if (shape.wants > logit_rows) {
    return fail("logits of " + std::to_string(shape.wants) + " rows wanted, " + std::to_string(logit_rows) + " fit");
  }
  // Where things lie depends on the numbers of rows alone, so recorded steps find them.
  Places p{};
  p.failed = 4 * n;
  p.row_of = p.failed + n;
  p.list = p.row_of + shape.wants;
  p.tiles = p.list + shape.singles;
  p.words = p.tiles + 2 * shape.tile_count;
  p.best = 10 * options.rows - n;
  std::fill_n(host_block + p.failed, n, UINT32_MAX);
  std::copy(wanted.begin(), wanted.end(), host_block + p.row_of);
  std::copy(singles.begin(), singles.end(), host_block + p.list);
  if (!parts.empty()) memcpy(host_block + p.tiles, parts.data(), parts.size() * sizeof(AttentionTile));
  rows = reinterpret_cast<StepRow*>(block);
  failed = block + p.failed;
  row_of = block + p.row_of;
  list = block + p.list;
  tiles = reinterpret_cast<AttentionTile*>(block + p.tiles);
  best = block + p.best;
  device.copy_in(block, host_block, p.words * sizeof(uint32_t));
  return device.ok() || fail(device.error());
}

float* Engine::State::host_floats(float** memory, size_t* has, size_t wanted) {
  if (wanted > *has) {
    // Pinned memory is not given back before the end: it grows by doubling.
    const size_t size = std::max(wanted, 2 * *has);
    *memory = static_cast<float*>(device.pinned(size * sizeof(float)));
    *has = *memory == nullptr ? 0 : size;
  }
  return *memory;
}

Engine::~Engine() = default;

void Engine::cut(uint32_t sequence, uint32_t position) {
  if (sequence >= s_->sequences.size()) return;
  std::vector<uint32_t>& own = s_->sequences[sequence];
  const size_t keep = (position + det::kPage - 1) / det::kPage;
  while (own.size() > keep) {
    s_->free_pages.push_back(own.back());
    own.pop_back();
  }
}

// States of the stage before into x.
bool Engine::State::receive(const StepInput& input) {
  const size_t bytes = size_t{shape.n} * model->width * sizeof(float);
  if (begins()) return input.before == nullptr && input.host == nullptr ? true : fail("a first stage takes no states");
  if (input.before == nullptr && input.host == nullptr) return fail("a stage behind the first wants states");
  if (input.before == nullptr) {
    device.copy_in(x, input.host, bytes);
    return device.ok() || fail(device.error());
  }
  State& b = *input.before->s_;
  if (b.shape.n != shape.n || b.first + b.layers.size() != first) return fail("states of another step, or of other layers");
  if (device.reaches(b.device)) {
    device.copy_from_device(x, &b.device, b.x, bytes);
  } else {
    b.device.use();
    b.device.copy_out(host_states, b.x, bytes);
    device.use();
    device.wait_for(&b.device);
    device.copy_in(x, host_states, bytes);
  }
  return device.ok() || fail(device.error());
}

bool Engine::start(const std::vector<PagedRow>& list, bool values, const StepInput& input) {
  State& s = *s_;
  const det::Model& m = *s.model;
  s.error.clear();
  if (!s.device.ok()) return s.fail(s.device.error());
  if (s.cache == nullptr) return s.fail("the engine has no cache yet");
  s.shape = {};
  if (list.empty()) return true;
  s.device.use();
  if (!s.describe(list)) return false;
  s.shape.values = values;
  const uint32_t n = s.shape.n;
  const uint32_t wants = s.shape.wants;
  const size_t scratch = size_t{s.shape.singles} * m.heads * s.shape.blocks * (m.head_size + 2);
  if (scratch > s.scratch_floats) {
    s.device.drop_graphs();
    s.graphs.clear();
    s.device.release(s.scratch);
    s.scratch = s.device.allocate_of<float>(scratch);
    s.scratch_floats = s.scratch == nullptr ? 0 : scratch;
    if (s.scratch == nullptr) return s.fail(s.device.error());
  }
  // A step of decoding is recorded: all rows want logits, and what changes lies in device memory.
  int graph = -1;
  const bool recordable = s.options.graphs && s.device.info().capability != 0 && s.shape.decodes && s.shape.singles == n && n <= 64;
  if (recordable) {
    const uint64_t key = uint64_t{s.shape.blocks} << 32 | n << 1 | (s.shape.fused ? 1 : 0);
    for (const auto& g : s.graphs) {
      if (g.first == key) graph = g.second;
    }
    if (graph < 0) {
      if (s.graphs.size() >= kGraphs) {
        s.device.drop_graphs();
        s.graphs.clear();
      }
      s.device.begin_graph();
      s.step();
      graph = s.device.end_graph();
      if (graph >= 0) s.graphs.emplace_back(key, graph);
    }
  }
  if (!s.receive(input)) return false;
  s.device.mark(0);
  if (graph >= 0) {
    s.device.replay(graph);
  } else {
    s.step();
  }
  s.device.mark(1);
  s.device.copy_out(s.host_failed(), s.failed, n * sizeof(uint32_t));
  s.device.copy_out(s.host_best(), s.best, wants * sizeof(uint32_t));
  if (values && wants > 0) {
    float* logits = s.host_floats(&s.host_logits, &s.host_logits_floats, size_t{wants} * m.vocabulary);
    float* hidden = s.host_floats(&s.host_hidden, &s.host_hidden_floats, size_t{wants} * m.width);
    if (logits == nullptr || hidden == nullptr) return s.fail(s.device.error());
    s.device.copy_out(logits, s.logits, size_t{wants} * m.vocabulary * sizeof(float));
    s.device.copy_out(hidden, s.hidden, size_t{wants} * m.width * sizeof(float));
  }
  return s.device.ok() || s.fail(s.device.error());
}

bool Engine::finish(StepResults* out) {
  State& s = *s_;
  *out = {};
  if (s.shape.n == 0) return s.error.empty();
  s.device.use();
  s.step_ms = s.device.between(0, 1);
  s.device.wait();
  if (!s.device.ok()) return s.fail(s.device.error());
  uint32_t* failed = s.host_failed();
  for (uint32_t i = 0; i < s.shape.n; i++) failed[i] = failed[i] == UINT32_MAX ? 0 : failed[i];
  if (s.shape.values && s.shape.wants > 0) {
    out->logits = s.host_logits;
    out->hidden = s.host_hidden;
  }
  out->failed = failed;
  out->best = s.host_best();
  return true;
}

bool Engine::run_paged(const std::vector<PagedRow>& list, bool values, StepResults* out) {
  *out = {};
  return start(list, values, {}) && finish(out);
}

bool Engine::run(const std::vector<det::Row>& list, std::vector<float>* logits, std::vector<float>* hidden, std::vector<uint32_t>* failed,
                 std::vector<uint32_t>* best) {
  State& s = *s_;
  s.error.clear();
  std::vector<PagedRow> rows;
  size_t wants = 0;
  for (const det::Row& r : list) {
    if (r.sequence >= s.sequences.size()) return s.fail("sequence " + std::to_string(r.sequence) + " is beyond the engine's sequences");
    std::vector<uint32_t>& own = s.sequences[r.sequence];
    while (own.size() * det::kPage <= r.position) {
      if (s.free_pages.empty()) return s.fail("the cache has no free page");
      own.push_back(s.free_pages.back());
      s.free_pages.pop_back();
    }
    rows.push_back({&own, r.position, r.token, r.wants_logits});
    wants += r.wants_logits;
  }
  StepResults results;
  if (!run_paged(rows, logits != nullptr || hidden != nullptr, &results)) return false;
  failed->assign(results.failed, results.failed + rows.size());
  best->assign(results.best, results.best + wants);
  if (logits != nullptr) logits->assign(results.logits, results.logits + wants * s.model->vocabulary);
  if (hidden != nullptr) hidden->assign(results.hidden, results.hidden + wants * s.model->width);
  return true;
}

const std::string& Engine::error() const { return s_->error; }
uint64_t Engine::device_bytes() const { return s_->device.allocated_bytes(); }
uint64_t Engine::weight_bytes() const { return s_->weight_bytes; }
const std::string& Engine::device_name() const { return s_->device.info().name; }
bool Engine::lost() const { return !s_->device.ok(); }
uint32_t Engine::pages() const { return s_->options.pages; }
uint64_t Engine::page_bytes() const { return s_->page_stride * sizeof(uint16_t); }
float Engine::step_ms() const { return s_->step_ms; }
double Engine::load_ms() const { return s_->load_ms; }

double read_bandwidth(Engine*, size_t bytes) {
  Device d;
  if (!d.open(0) || d.info().capability == 0) return 0;
  auto* from = d.allocate_of<uint8_t>(bytes);
  auto* out = d.allocate_of<uint32_t>(1024);
  d.fill(from, 1, bytes);
  std::vector<double> rates;
  for (int i = 0; i < 7 && d.ok(); i++) {
    d.mark(0);
    d.launch(read_all, d.info().multiprocessors * 8, 1, 256, 0, ReadArgs{from, bytes / 16, out});
    d.mark(1);
    rates.push_back(static_cast<double>(bytes) / (static_cast<double>(d.between(0, 1)) * 1e-3));
  }
  if (!d.ok() || rates.empty()) return 0;
  std::sort(rates.begin(), rates.end());
  return rates[rates.size() / 2];
}

double matrix_peak(Engine*) {
  Device d;
  if (!d.open(0) || d.info().capability == 0) return 0;
  auto* out = d.allocate_of<int32_t>(1024);
  double best = 0;
  const PeakArgs a{out, 4096};
  for (int i = 0; i < 4 && d.ok(); i++) {
    const uint32_t blocks = d.info().multiprocessors * 4;
    d.mark(0);
    d.launch(matrix_rate, blocks, 1, 256, 0, a);
    d.mark(1);
    const double ms = static_cast<double>(d.between(0, 1));
    best = std::max(best, 2.0 * 4096 * 8 * a.rounds * blocks * 8 / (ms * 1e-3));
  }
  return d.ok() ? best : 0;
}

void choose_thread_order([[maybe_unused]] uint32_t order) {
#ifndef __CUDACC__
  set_order(static_cast<Order>(order % 4));
#endif
}

}  // namespace zg::simt
