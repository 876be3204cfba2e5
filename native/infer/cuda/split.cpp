#include "split.h"

#include <algorithm>
#include <map>

namespace zg::simt {
namespace {

// "2 × NAME", with the CPU's level in front where it has layers.
std::string name_of(const infer::Backend* first, const std::vector<std::unique_ptr<Engine>>& stages) {
  std::map<std::string, size_t> count;
  for (const auto& s : stages) count[s->device_name()]++;
  std::string out;
  if (first != nullptr) out.append(first->name()).append(" + ");
  bool more = false;
  for (const auto& [name, n] : count) {
    if (more) out += " + ";
    if (n > 1) out += std::to_string(n).append(" × ");
    out += name;
    more = true;
  }
  return out;
}

class Split final : public infer::Backend {
 public:
  Split(std::shared_ptr<const det::Model> model, std::unique_ptr<infer::Backend> first, std::vector<std::unique_ptr<Engine>> stages,
        uint32_t pages, std::string placement)
      : model_(std::move(model)),
        first_(std::move(first)),
        stages_(std::move(stages)),
        // Without layers: the pages' memory is the devices'.
        counted_(cpu::PageShape{}, pages),
        name_(name_of(first_.get(), stages_)),
        placement_(std::move(placement)) {}

  bool run(std::vector<cpu::Row>* rows, const std::atomic<bool>* cancel) override {
    if (!fault_.empty()) return false;
    const size_t width = model_->width;
    const size_t vocabulary = model_->vocabulary;
    logits_.clear();
    hidden_.clear();
    for (size_t from = 0; from < rows->size();) {
      if (cancel != nullptr && cancel->load(std::memory_order_relaxed)) return false;
      size_t wants = 0;
      size_t to = from;
      for (; to < rows->size() && to - from < kStepRows; to++) {
        const bool one = (*rows)[to].wants_logits;
        if (one && wants == kLogitRows) break;
        wants += one;
      }
      if (!run_part(rows->data() + from, to - from, wants, from == 0 && to == rows->size(), cancel)) return false;
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
  cpu::Pages& pages() override { return first_ != nullptr ? first_->pages() : counted_; }
  uint64_t page_bytes() const override {
    uint64_t bytes = first_ != nullptr ? first_->page_bytes() : 0;
    for (const auto& s : stages_) bytes += s->page_bytes();
    return bytes;
  }
  const std::shared_ptr<const det::Model>& model() const override { return model_; }
  const char* name() const override { return name_.c_str(); }
  std::string placement() const override { return placement_; }
  size_t step_alone() const override { return first_ != nullptr ? first_->step_alone() : kStepRows; }
  size_t step_shared() const override { return first_ != nullptr ? first_->step_shared() : kStepShared; }
  bool adapts() const override { return false; }
  void pin_caller() const override {
    if (first_ != nullptr) first_->pin_caller();
  }

 private:
  // Rows that are one step of every stage.
  bool run_part(cpu::Row* rows, size_t n, size_t wants, bool only, const std::atomic<bool>* cancel) {
    part_.clear();
    for (size_t i = 0; i < n; i++) part_.push_back({&rows[i].sequence->pages(), rows[i].position, rows[i].token, rows[i].wants_logits});
    for (size_t i = 0; i < n; i++) rows[i].failed_layer = 0;
    StepInput input;
    if (first_ != nullptr && !run_first(rows, n, cancel, &input)) return false;
    for (auto& s : stages_) {
      if (!s->start(part_, wants > 0, input)) return lose(*s);
      input = {nullptr, s.get()};
    }
    StepResults results;
    for (auto& s : stages_) {
      if (!s->finish(&results)) return lose(*s);
      // Values that stop being finite in one stage are not so in the next ones either: the first counts.
      for (size_t i = 0; i < n; i++) {
        if (rows[i].failed_layer == 0) rows[i].failed_layer = results.failed[i];
      }
    }
    take(rows, n, wants, results, only);
    return true;
  }

  // The CPU's layers, whose states are laid one behind the other.
  bool run_first(const cpu::Row* rows, size_t n, const std::atomic<bool>* cancel, StepInput* input) {
    first_rows_.assign(rows, rows + n);
    if (!first_->run(&first_rows_, cancel)) {
      fault_ = first_->fault();
      return false;
    }
    const size_t width = model_->width;
    states_.resize(n * width);
    for (size_t i = 0; i < n; i++) std::copy_n(first_rows_[i].hidden, width, states_.data() + i * width);
    *input = {states_.data(), nullptr};
    return true;
  }

  bool lose(const Engine& stage) {
    fault_ = stage.error();
    return false;
  }

  // Results of one part of the rows; those of an only part stay where the last stage has them.
  void take(cpu::Row* rows, size_t n, size_t wants, const StepResults& results, bool only) {
    const size_t width = model_->width;
    const size_t vocabulary = model_->vocabulary;
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
      if (first_ != nullptr && first_rows_[i].failed_layer != 0) rows[i].failed_layer = first_rows_[i].failed_layer;
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
  const std::unique_ptr<infer::Backend> first_;
  const std::vector<std::unique_ptr<Engine>> stages_;
  cpu::Pages counted_;
  const std::string name_, placement_;
  std::string fault_;
  std::vector<PagedRow> part_;
  std::vector<cpu::Row> first_rows_;
  std::vector<float> states_;
  // Of steps in several parts.
  std::vector<float> logits_, hidden_;
};

}  // namespace

std::unique_ptr<infer::Backend> split_backend(std::shared_ptr<const det::Model> model, std::unique_ptr<infer::Backend> first,
                                              std::vector<std::unique_ptr<Engine>> stages, uint32_t pages, std::string placement) {
  return std::make_unique<Split>(std::move(model), std::move(first), std::move(stages), pages, std::move(placement));
}

}  // namespace zg::simt
