// Guesses of the tokens that come next (inference.md 8): by looking the last ones up in what was said, or by a smaller model. A step then
// computes several positions at once, and those are kept that the sampler would have drawn anyway: draws depend on seed and position
// alone, so the answer is the same with and without.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "backend.h"
#include "sampler.h"

namespace zg::infer {

// Tokens that followed the last three (else the last two) when they last occurred before, at most `most`.
std::vector<uint32_t> look_up(const std::vector<uint32_t>& tokens, uint32_t most);

// How long one sequence's drafts are: longer while they are right, none any more when they are mostly wrong.
class DraftLength {
 public:
  // 0: not worth it.
  uint32_t next() const { return off_ ? 0 : length_; }
  void took(uint32_t proposed, uint32_t accepted);

 private:
  static constexpr uint32_t kRemembered = 32;
  // One token and its draft fill a group of tokens that products have a kernel for.
  static constexpr uint32_t kShort = 1, kLong = 7;
  uint32_t length_ = 3;
  bool off_ = false;
  uint32_t count_ = 0;
  std::array<uint8_t, kRemembered> proposed_{}, accepted_{};
};

// A smaller model of the same vocabulary. One thread at a time.
class DraftModel {
 public:
  explicit DraftModel(std::unique_ptr<Backend> engine) : engine_(std::move(engine)) {}

  // What it knows of one sequence.
  struct State {
    std::unique_ptr<cpu::Sequence> cache;
    // Fed so far.
    std::vector<uint32_t> tokens;
  };
  struct Job {
    State* state;
    const std::vector<uint32_t>* tokens;
    const SamplingOptions* sampling;
    uint32_t most;
    std::vector<uint32_t> draft{};
  };
  // Fills draft of all jobs side by side; those without room get none.
  void propose(std::vector<Job>* jobs);
  const det::Model& model() const { return *engine_->model(); }

 private:
  bool feed(std::vector<Job*>* jobs);

  const std::unique_ptr<Backend> engine_;
};

}  // namespace zg::infer
