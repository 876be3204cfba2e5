// The CUDA engine: the forward pass of det/forward_det.h with the same face and the same bits, on a device (or its emulation).
// One thread at a time.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "../det/forward_det.h"

namespace zg::simt {

struct EngineOptions {
  // Pages are said later (make_cache).
  static constexpr uint32_t kNoPages = UINT32_MAX;
  uint32_t device = 0;
  // The model's layers that this engine has, as a stage of several: from, and to but without. The first stage embeds tokens, others take
  // states; the last one has the output.
  uint32_t first_layer = 0;
  uint32_t last_layer = UINT32_MAX;
  // Longest sequence, sequences at once, rows of a step, rows of a step that may want logits, pages of the cache (16 positions each; 0:
  // what is left of the device's memory, but for a tenth).
  uint32_t positions = 2048;
  uint32_t sequences = 64;
  uint32_t rows = 512;
  uint32_t logit_rows = 512;
  uint32_t pages = 4096;
  // Steps of decoding are recorded once and replayed.
  bool graphs = true;
  // Rows from which products go through the matrix units, and rows of one sequence from which attention does them together; tests set
  // them to reach every kernel.
  uint32_t matrix_rows = 5;
  uint32_t tile_rows = 4;
  // Bytes of a decoding block's weights that are brought to the second-level cache ahead, and its blocks a multiprocessor.
  uint32_t ahead = 96 * 1024;
  uint32_t vector_blocks = 1;
  unsigned load_threads = 2;
};

// One position of a step: as det::Row, with the sequence's pages from its beginning on. Rows of one sequence name the same list.
struct PagedRow {
  const std::vector<uint32_t>* pages = nullptr;
  uint32_t position = 0;
  uint32_t token = 0;
  bool wants_logits = false;
};

// What a step gave, until the next one: of the rows that want them logits, final-norm states and arg-max, one behind the other; of every
// row the layer (from 1) in which it stopped being finite, or 0.
struct StepResults {
  const float* logits = nullptr;
  const float* hidden = nullptr;
  const uint32_t* best = nullptr;
  const uint32_t* failed = nullptr;
};

class Engine;

// States of a step's rows as the stage before left them, one behind the other: in memory of the host that stays as it is until finish, or
// in the engine whose step of the same rows was started before.
struct StepInput {
  const float* host = nullptr;
  Engine* before = nullptr;
};

// Bytes of a device that an engine takes: of the layers one by one, embedding, output with its results, what every step works in, and a
// page of a layer. Attention's scratch memory of long sequences comes on top.
struct Need {
  std::vector<uint64_t> layers;
  uint64_t embedding = 0;
  uint64_t output = 0;
  uint64_t work = 0;
  uint64_t page_layer = 0;
};
Need need_of(const det::Model& model, const EngineOptions& options);

class Engine {
 public:
  // model outlives the engine (its norms are copied, its weights are not read again). nullptr with the reason in error.
  static std::unique_ptr<Engine> open(const det::Model& model, const EngineOptions& options, std::string* error);
  ~Engine();

  // Computes the rows; values: logits and states are copied to the host, too. False with error(): more rows, positions or pages than there
  // is room for, or a device error, which stays (lost()).
  bool run_paged(const std::vector<PagedRow>& rows, bool values, StepResults* out);
  // The same in two halves: what the device is to do is handed to it, and waited for. A stage is finished after those before it, and started
  // again after those behind it were finished.
  bool start(const std::vector<PagedRow>& rows, bool values, const StepInput& input);
  bool finish(StepResults* out);
  // Pages that what is left of the device has room for, but for a tenth; and the cache, once, where options.pages was kNoPages.
  uint32_t pages_left();
  bool make_cache(uint32_t pages);

  // The same for sequences whose pages the engine keeps itself, with copies of the results; logits and hidden may be nullptr.
  void cut(uint32_t sequence, uint32_t position);
  bool run(const std::vector<det::Row>& rows, std::vector<float>* logits, std::vector<float>* hidden, std::vector<uint32_t>* failed,
           std::vector<uint32_t>* best);
  const std::string& error() const;
  bool lost() const;

  uint64_t device_bytes() const;
  uint32_t pages() const;
  uint64_t page_bytes() const;
  // Bytes of weights that a decoded token reads.
  uint64_t weight_bytes() const;
  const std::string& device_name() const;
  // Milliseconds on the device of the last step.
  float step_ms() const;
  // Milliseconds of loading and bytes loaded.
  double load_ms() const;

  struct State;

 private:
  Engine() = default;
  std::unique_ptr<State> s_;
};

// Bytes a second that the device reads from memory (a kernel that adds up `bytes` of weights), median of several.
double read_bandwidth(Engine* engine, size_t bytes);
// Int8 operations a second of the matrix units from registers (two a multiply-add).
double matrix_peak(Engine* engine);

// Under emulation: threads of a block run ascending (0), descending, shuffled or warps interleaved (3), for launches from now on. A
// device has its own mind.
void choose_thread_order(uint32_t order);

}  // namespace zg::simt
