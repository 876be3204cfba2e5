// What an engine has on its device; engine.cpp computes with it, engine_load.cpp makes it.
#pragma once

#include <utility>
#include <vector>

#include "../pool.h"
#include "attention_tile.h"
#include "device.h"
#include "engine.h"
#include "launch.h"

namespace zg::simt {

struct DeviceMatrix {
  Type type = Type::kF32;
  uint8_t* tiles = nullptr;
  uint32_t rows = 0;
  uint32_t columns = 0;
  uint32_t segments = 0;
  uint64_t expert_bytes = 0;
  uint64_t bytes = 0;
};

struct DeviceLayer {
  float *attention_norm, *feed_norm, *q_norm, *k_norm, *post_attention_norm, *post_feed_norm;
  float *q_bias, *k_bias, *v_bias, *o_bias;
  DeviceMatrix q, k, v, o, gate, up, down, router;
};

// Where a product's activations come from and where its results go.
struct Flow {
  Source source = Source::kQuants;
  const float* floats = nullptr;
  const float* norm = nullptr;
  Sink sink = Sink::kStore;
  uint32_t layer = 0;
  const uint32_t* experts = nullptr;
  uint32_t share = 1;
};

struct Engine::State {
  const det::Model* model = nullptr;
  EngineOptions options;
  Device device;
  // The model's layers from `first` on.
  uint32_t first = 0;
  std::vector<DeviceLayer> layers;
  DeviceMatrix embedding, output;
  float* output_norm = nullptr;
  std::vector<float*> tables;
  uint16_t* cache = nullptr;
  uint64_t page_stride = 0;
  // Activations.
  float *x, *h, *q, *k, *v, *o, *gate, *up, *y, *logits, *hidden, *expert_out, *route_weights, *router_out;
  Quants quants{};
  uint32_t *chosen, *page_table, *done;
  // What a step is told, in one piece that one copy brings: rows, then their failures (UINT32_MAX: none), which row each row of logits is,
  // rows for attention one by one, tiles of rows for attention together. Behind it, best. The host has the same.
  uint32_t *block = nullptr, *host_block = nullptr;
  struct Places {
    uint32_t failed, row_of, list, tiles, words, best;
  };
  StepRow* rows = nullptr;
  uint32_t *failed = nullptr, *row_of = nullptr, *list = nullptr, *best = nullptr;
  AttentionTile* tiles = nullptr;
  float* scratch = nullptr;
  size_t scratch_floats = 0;
  uint32_t logit_rows = 0;
  // Pinned: states that come from elsewhere. nullptr in the first stage.
  float* host_states = nullptr;
  // Host side of the cache: the table that the device has, in places of one sequence each, and who has a place since which step.
  uint32_t pages_per_sequence = 0;
  uint32_t* host_table = nullptr;
  struct Place {
    const std::vector<uint32_t>* owner = nullptr;
    uint64_t used = 0;
    uint32_t count = 0;
  };
  std::vector<Place> table_places;
  uint64_t steps = 0;
  // Pinned results, as large as was wanted so far.
  float *host_logits = nullptr, *host_hidden = nullptr;
  size_t host_logits_floats = 0, host_hidden_floats = 0;
  // Sequences of callers that keep no pages themselves.
  std::vector<uint32_t> free_pages;
  std::vector<std::vector<uint32_t>> sequences;
  // How a step's attention is done.
  struct Shape {
    uint32_t n = 0, wants = 0, blocks = 1, singles = 0, tile_count = 0;
    bool fused = false;
    // Every row wants logits, though another stage may compute them.
    bool decodes = false;
    bool values = false;
  } shape;
  // Recorded steps by rows and bucket of blocks.
  std::vector<std::pair<uint64_t, int>> graphs;
  std::string error;
  uint64_t weight_bytes = 0;
  double load_ms = 0;
  float step_ms = 0;

  bool begins() const { return first == 0; }
  bool ends() const { return first + layers.size() == model->layers.size(); }
  bool load(std::string* why);
  bool make_cache(uint32_t pages);
  bool upload(const det::Matrix& m, uint32_t experts, infer::Pool* pool, DeviceMatrix* out);
  float* upload(const std::vector<float>& v);
  void multiply(const std::vector<std::pair<const DeviceMatrix*, std::pair<const float*, float*>>>& w, uint32_t n, const Flow& flow);
  void normalize_rows(const float* x, const float* weight, uint32_t columns, uint32_t n, float* floats, bool quants, uint32_t layer,
                      const uint32_t* list = nullptr);
  void attention(size_t layer, uint32_t n);
  void feed_forward(size_t layer, uint32_t n);
  void experts(size_t layer, uint32_t n);
  void step();
  bool describe(const std::vector<PagedRow>& rows);
  bool receive(const StepInput& input);
  bool place(const std::vector<uint32_t>* pages, uint32_t positions, uint32_t* at);
  float* host_floats(float** memory, size_t* has, size_t wanted);
  uint32_t* host_failed() { return host_block + 4 * size_t{shape.n}; }
  uint32_t* host_best() { return host_block + 10 * size_t{options.rows} - shape.n; }
  bool fail(std::string message) {
    error = std::move(message);
    return false;
  }
};

}  // namespace zg::simt
