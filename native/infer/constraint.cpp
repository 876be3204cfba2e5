#include "constraint.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

namespace zg::infer {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

// −∞ where the bit is 0, by what is fewer: bits that are 0, or those that are kept.
void hide(float* logits, size_t width, uint64_t set) {
  if (width == 64 && std::popcount(set) < 32) {
    float kept[64];
    if (set != 0) std::memcpy(kept, logits, sizeof kept);
    for (size_t i = 0; i < 64; i++) logits[i] = kNever;
    for (; set != 0; set &= set - 1) logits[std::countr_zero(set)] = kept[std::countr_zero(set)];
    return;
  }
  for (uint64_t off = ~set; off != 0; off &= off - 1) {
    const auto bit = static_cast<size_t>(std::countr_zero(off));
    if (bit < width) logits[bit] = kNever;
  }
}

}  // namespace

Constraint::Constraint(std::shared_ptr<Grammar> grammar, std::vector<uint32_t> end_ids, uint32_t budget)
    : grammar_(std::move(grammar)), end_ids_(std::move(end_ids)), left_(budget) {
  const std::lock_guard lock(grammar_->mutex());
  const Grammar::State start = current();
  std::vector<uint32_t> tokens;
  stuck_ = start == Grammar::kDead;
  guaranteed_ = !stuck_ && plan(start, left_, &tokens);
}

bool Constraint::is_end(uint32_t token) const { return std::find(end_ids_.begin(), end_ids_.end(), token) != end_ids_.end(); }

Grammar::State Constraint::current() {
  grammar_->trim();
  if (generation_ != grammar_->generation()) {
    generation_ = grammar_->generation();
    state_ = grammar_->start();
    if (state_ != Grammar::kDead) state_ = grammar_->step(state_, bytes_);
  }
  return state_;
}

// Tokens of a shortest way to the end; false when they are more than `most` or a byte has no token.
bool Constraint::plan(Grammar::State from, uint32_t most, std::vector<uint32_t>* tokens) {
  std::string way;
  tokens->clear();
  return grammar_->shortest(from, &way) && grammar_->trie().split(way, tokens) && tokens->size() <= most;
}

bool Constraint::apply(float* logits, size_t count) {
  const std::lock_guard lock(grammar_->mutex());
  const Grammar::State state = current();
  const std::vector<uint64_t>* bits = state == Grammar::kDead ? nullptr : grammar_->mask(state);
  if (bits == nullptr) {
    stuck_ = true;
    return false;
  }
  const bool may_end = grammar_->accepts(state);
  std::vector<float> ends;
  for (const uint32_t id : end_ids_) ends.push_back(may_end && id < count ? logits[id] : kNever);
  bool any = false;
  for (size_t word = 0; word * 64 < count; word++) {
    const uint64_t set = word < bits->size() ? (*bits)[word] : 0;
    any = any || set != 0;
    if (set == ~uint64_t{0}) continue;
    hide(logits + word * 64, std::min<size_t>(count - word * 64, 64), set);
  }
  for (size_t i = 0; i < end_ids_.size(); i++) {
    if (end_ids_[i] < count) logits[end_ids_[i]] = ends[i];
  }
  stuck_ = !any && !(may_end && !end_ids_.empty());
  return !stuck_;
}

uint32_t Constraint::settle(uint32_t token) {
  if (!forced_.empty()) return forced_.front();
  if (!guaranteed_ || is_end(token) || left_ == 0) return token;
  const std::lock_guard lock(grammar_->mutex());
  const Grammar::State state = current();
  const Grammar::State next = state == Grammar::kDead ? state : grammar_->step(state, grammar_->trie().piece(token));
  if (next == Grammar::kDead) return token;
  std::vector<uint32_t> tokens;
  // Far from the end the bytes decide: none takes more than a token.
  if (grammar_->trie().every_byte() && grammar_->distance(next) < left_) return token;
  if (plan(next, left_ - 1, &tokens)) return token;
  if (!plan(state, left_, &tokens)) return token;
  // It is whole as it stands, and nothing that fits makes it longer.
  if (tokens.empty()) return end_ids_.empty() ? token : end_ids_.front();
  forced_.assign(tokens.begin(), tokens.end());
  return forced_.front();
}

void Constraint::advance(uint32_t token) {
  if (left_ > 0) left_--;
  if (complete_ || is_end(token)) {
    complete_ = true;
    return;
  }
  const std::lock_guard lock(grammar_->mutex());
  Grammar::State state = current();
  const std::string_view piece = grammar_->trie().piece(token);
  if (!forced_.empty()) {
    if (forced_.front() == token) {
      forced_.pop_front();
    } else {
      forced_.clear();
    }
  }
  bytes_ += piece;
  if (state != Grammar::kDead) state = grammar_->step(state, piece);
  state_ = state;
  if (state == Grammar::kDead) {
    stuck_ = true;
    return;
  }
  complete_ = grammar_->accepts(state) && (grammar_->ends(state) || left_ == 0);
}

}  // namespace zg::infer
