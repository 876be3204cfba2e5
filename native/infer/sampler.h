// From logits to a token (inference.md 7.1 and 7.2). Temperature, top-k, top-p, min-p and the draw work on integers, so the result
// depends on the logits' bits and the request alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "constraint.h"
#include "largest.h"

namespace zg::infer {

struct SamplingOptions {
  // Below 1e-5: the largest logit, lowest id on ties.
  float temperature = 1;
  float top_p = 1;
  float min_p = 0;
  // 0: all.
  uint32_t top_k = 0;
  float repetition_penalty = 1;
  float frequency_penalty = 0;
  float presence_penalty = 0;
  // Added to the logits of these ids.
  std::vector<std::pair<uint32_t, float>> bias;
  uint64_t seed = 0;
  // Which of several answers to one prompt this is: their draws differ.
  uint32_t choice = 0;
  // Of what min-p leaves, the most typical tokens of so much probability; 1: all.
  float typical_p = 1;
  // Tokens that end an answer are not drawn before so many others.
  uint32_t min_tokens = 0;
  std::vector<uint32_t> end_ids{};
  // The answer is a text of it; nullptr: any.
  std::shared_ptr<Grammar> grammar{};
  // Tokens of the answer, within which it is brought to an end.
  uint32_t budget = 0;
};

struct Alternative {
  uint32_t id = 0;
  float logprob = 0;
};

class Sampler {
 public:
  explicit Sampler(SamplingOptions options, const ZgLevel& level = default_level());

  // Counts a token of the prompt or of the answer for the penalties; before: it was drawn by an earlier request whose answer goes on here.
  void saw(uint32_t token, bool output, bool before = false);

  // Chooses among count logits. position: index the token will have in the whole sequence, prompt included.
  uint32_t next(const float* logits, size_t count, uint64_t position);

  // Log-probability after bias and penalties, at temperature 1, of the token that next() chose last, and the best so many, best first. The logits that
  // next() got must still be there.
  float logprob(uint32_t token, size_t alternatives, std::vector<Alternative>* best);
  // The same for other logits as they are, without bias, penalties and grammar: for tokens of the prompt.
  float logprob_of(const float* logits, size_t count, uint32_t token, size_t alternatives, std::vector<Alternative>* best);

  // The answer is whole under its grammar: nothing more is to be drawn.
  bool complete() const { return constraint_ != nullptr && constraint_->complete(); }
  // The grammar cannot be followed any further with this vocabulary.
  bool stuck() const { return constraint_ != nullptr && constraint_->stuck(); }

 private:
  struct Seen {
    uint32_t output = 0;
  };
  // Steps 1 to 3: sets values_ to the logits as they were changed.
  void adjust(const float* logits, size_t count);

  SamplingOptions options_;
  const ZgLevel& level_;
  std::unordered_map<uint32_t, Seen> seen_;
  // What was last chosen among: the caller's logits where nothing changes them, else a copy.
  const float* values_ = nullptr;
  size_t count_ = 0;
  std::vector<float> changed_;
  std::vector<float> exponentials_;
  std::unique_ptr<Constraint> constraint_;
  uint32_t drawn_ = 0;
};

// Philox4x32-10: the first two words of the block for this key and counter, the first one high.
uint64_t philox(uint64_t seed, uint32_t position, uint32_t choice) noexcept;

}  // namespace zg::infer
