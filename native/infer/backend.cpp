#include "backend.h"

namespace zg::infer {
namespace {

// Whole groups of products' tokens.
constexpr size_t kStepAlone = 256;
constexpr size_t kStepShared = 48;

class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(std::unique_ptr<cpu::Engine> engine) : engine_(std::move(engine)) {}

  bool run(std::vector<cpu::Row>* rows, const std::atomic<bool>* cancel) override { return engine_->run(rows, cancel); }
  const std::string& fault() const override { return none_; }
  cpu::Pages& pages() override { return engine_->pages(); }
  uint64_t page_bytes() const override { return engine_->pages().shape().bytes(); }
  const std::shared_ptr<const det::Model>& model() const override { return engine_->shared_model(); }
  const char* name() const override { return engine_->level().name; }
  size_t step_alone() const override { return kStepAlone; }
  size_t step_shared() const override { return kStepShared; }
  bool adapts() const override { return true; }
  void pin_caller() const override { engine_->pin_caller(); }
  cpu::Workers* workers() override { return &engine_->workers(); }

 private:
  const std::unique_ptr<cpu::Engine> engine_;
  const std::string none_;
};

}  // namespace

std::unique_ptr<Backend> cpu_backend(std::unique_ptr<cpu::Engine> engine) { return std::make_unique<CpuBackend>(std::move(engine)); }

}  // namespace zg::infer
