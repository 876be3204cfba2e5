#include "backend.h"

#include <algorithm>

#include "engine.h"

namespace zg::simt {
namespace {

// Positions of one step, and those of prompts beside sequences that decode: enough to fill the matrix units, few enough that nobody
// waits long for a token.
constexpr uint32_t kStepRows = 1'024;
constexpr size_t kStepShared = 256;
// Rows of a step whose logits are computed at once.
constexpr uint32_t kLogitRows = 256;

class CudaBackend final : public infer::Backend {
 public:
  CudaBackend(std::shared_ptr<const det::Model> model, std::unique_ptr<Engine> engine)
      // Without layers: the pages' memory is the device's.
      : model_(std::move(model)), engine_(std::move(engine)), pages_(cpu::PageShape{}, engine_->pages()) {}

  bool run(std::vector<cpu::Row>* rows, const std::atomic<bool>* cancel) override {
    if (!fault_.empty()) return false;
    const size_t width = model_->width;
    const size_t vocabulary = model_->vocabulary;
    logits_.clear();
    hidden_.clear();
    std::vector<PagedRow> part;
    for (size_t from = 0; from < rows->size();) {
      if (cancel != nullptr && cancel->load(std::memory_order_relaxed)) return false;
      part.clear();
      size_t wants = 0;
      size_t to = from;
      for (; to < rows->size() && part.size() < kStepRows; to++) {
        const cpu::Row& r = (*rows)[to];
        if (r.wants_logits && wants == kLogitRows) break;
        wants += r.wants_logits;
        part.push_back({&r.sequence->pages(), r.position, r.token, r.wants_logits});
      }
      StepResults results;
      if (!engine_->run_paged(part, wants > 0, &results)) {
        fault_ = engine_->error();
        return false;
      }
      const bool only = from == 0 && to == rows->size();
      take(rows->data() + from, to - from, wants, results, only);
      from = to;
    }
    if (logits_.empty()) return true;
    size_t at = 0;
    for (cpu::Row& r : *rows) {
      if (!r.wants_logits) continue;
      r.logits = r.failed_layer != 0 ? nullptr : logits_.data() + at * vocabulary;
      r.hidden = r.failed_layer != 0 ? nullptr : hidden_.data() + at * width;
      at++;
    }
    return true;
  }

  const std::string& fault() const override { return fault_; }
  cpu::Pages& pages() override { return pages_; }
  uint64_t page_bytes() const override { return engine_->page_bytes(); }
  const std::shared_ptr<const det::Model>& model() const override { return model_; }
  const char* name() const override { return engine_->device_name().c_str(); }
  size_t step_alone() const override { return kStepRows; }
  size_t step_shared() const override { return kStepShared; }
  bool adapts() const override { return false; }

 private:
  // Results of one part of the rows; those of an only part stay where the engine has them.
  void take(cpu::Row* rows, size_t n, size_t wants, const StepResults& results, bool only) {
    const size_t width = model_->width;
    const size_t vocabulary = model_->vocabulary;
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
      rows[i].failed_layer = results.failed[i];
      rows[i].logits = rows[i].hidden = nullptr;
      if (!rows[i].wants_logits) continue;
      if (only && rows[i].failed_layer == 0) {
        rows[i].logits = results.logits + at * vocabulary;
        rows[i].hidden = results.hidden + at * width;
      }
      at++;
    }
    if (only || wants == 0) return;
    logits_.insert(logits_.end(), results.logits, results.logits + wants * vocabulary);
    hidden_.insert(hidden_.end(), results.hidden, results.hidden + wants * width);
  }

  const std::shared_ptr<const det::Model> model_;
  const std::unique_ptr<Engine> engine_;
  cpu::Pages pages_;
  std::string fault_;
  // Of steps in several parts.
  std::vector<float> logits_, hidden_;
};

}  // namespace

std::unique_ptr<infer::Backend> open_backend(std::shared_ptr<const det::Model> model, const infer::BackendOptions& options, std::string* error) {
  EngineOptions o;
  o.device = options.device;
  o.positions = std::min(options.positions, model->context);
  o.sequences = options.sequences;
  o.rows = std::max(kStepRows, options.sequences);
  o.logit_rows = kLogitRows;
  o.load_threads = options.threads;
  const uint64_t page_bytes = uint64_t{2} * model->layers.size() * det::kPage * model->kv_width() * sizeof(uint16_t);
  o.pages = static_cast<uint32_t>(std::min<uint64_t>(options.cache_bytes / page_bytes, UINT32_MAX));
  if (options.cache_bytes != 0 && o.pages == 0) {
    *error = "a cache of " + std::to_string(options.cache_bytes) + " bytes holds no page of " + std::to_string(page_bytes);
    return nullptr;
  }
  std::unique_ptr<Engine> engine = Engine::open(*model, o, error);
  if (engine == nullptr) return nullptr;
  return std::make_unique<CudaBackend>(std::move(model), std::move(engine));
}

}  // namespace zg::simt
