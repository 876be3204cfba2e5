// One answer under a grammar: which tokens may come next, and how to come to an end within the tokens that are left.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "grammar.h"

namespace zg::infer {

class Constraint {
 public:
  // end_ids: tokens that end an answer; they are allowed where a text of the grammar may end. budget: tokens of the answer, end included.
  Constraint(std::shared_ptr<Grammar> grammar, std::vector<uint32_t> end_ids, uint32_t budget);

  // Gives −∞ to all logits of tokens that must not come next. False: stuck.
  bool apply(float* logits, size_t count);
  // The token to take instead of one that was drawn: itself, unless the answer could not be ended in time after it.
  uint32_t settle(uint32_t token);
  // A token was taken.
  void advance(uint32_t token);
  // The answer is a whole text of the grammar, and either nothing can follow or there is no room for more.
  bool complete() const { return complete_; }
  // No token of the vocabulary goes on, or a bound of the grammar was met.
  bool stuck() const { return stuck_; }

 private:
  bool is_end(uint32_t token) const;
  Grammar::State current();
  bool plan(Grammar::State from, uint32_t most, std::vector<uint32_t>* tokens);

  const std::shared_ptr<Grammar> grammar_;
  const std::vector<uint32_t> end_ids_;
  uint32_t left_;
  // All bytes so far: the state is found again by them when the grammar dropped its states.
  std::string bytes_;
  Grammar::State state_ = Grammar::kDead;
  uint32_t generation_ = 0;
  // The shortest end, once there is no room for anything else.
  std::deque<uint32_t> forced_;
  bool guaranteed_ = false;
  bool complete_ = false;
  bool stuck_ = false;
};

}  // namespace zg::infer
