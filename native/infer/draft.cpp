#include "draft.h"

#include <algorithm>

namespace zg::infer {
namespace {

// Tokens looked back at.
constexpr size_t kLookBack = 16'384;
// Rows of a pass of the draft model.
constexpr size_t kRows = 256;

}  // namespace

std::vector<uint32_t> look_up(const std::vector<uint32_t>& tokens, uint32_t most) {
  const size_t n = tokens.size();
  for (const size_t length : {size_t{3}, size_t{2}}) {
    if (n < length + 1 || most == 0) continue;
    const uint32_t* last = tokens.data() + n - length;
    const size_t end = n > kLookBack ? n - kLookBack : 0;
    for (size_t at = n - length; at-- > end;) {
      if (tokens[at] != last[0] || !std::equal(last, last + length, tokens.begin() + static_cast<ptrdiff_t>(at))) continue;
      const size_t from = at + length;
      std::vector<uint32_t> out;
      // A match that reaches into the end goes on with what it drafts itself: a period.
      for (uint32_t i = 0; i < most; i++) out.push_back(from + i < n ? tokens[from + i] : out[from + i - n]);
      return out;
    }
  }
  return {};
}

void DraftLength::took(uint32_t proposed, uint32_t accepted) {
  const uint32_t slot = count_++ % kRemembered;
  proposed_[slot] = static_cast<uint8_t>(proposed);
  accepted_[slot] = static_cast<uint8_t>(accepted);
  if (accepted == proposed && proposed >= length_) length_ = std::min(kLong, 2 * length_ + 1);
  if (2 * accepted < proposed) length_ = std::max(kShort, length_ / 2);
  if (count_ < kRemembered) return;
  uint32_t all = 0;
  uint32_t right = 0;
  for (uint32_t i = 0; i < kRemembered; i++) {
    all += proposed_[i];
    right += accepted_[i];
  }
  off_ = 5 * right < all;
}

// Computes what is not fed yet of each job's tokens and draft; appends the next token. False: stop.
bool DraftModel::feed(std::vector<Job*>* jobs) {
  std::vector<cpu::Row> rows;
  std::vector<Job*> owners;
  std::erase_if(*jobs, [&](Job* job) {
    State& s = *job->state;
    const size_t want = job->tokens->size() + job->draft.size();
    if (job->draft.size() >= job->most || want >= model().context || !s.cache->reserve(static_cast<uint32_t>(want))) return true;
    for (size_t i = s.tokens.size(); i < want; i++) {
      const uint32_t token = i < job->tokens->size() ? (*job->tokens)[i] : job->draft[i - job->tokens->size()];
      rows.push_back({.sequence = s.cache.get(), .position = static_cast<uint32_t>(i), .token = token, .wants_logits = i + 1 == want});
      owners.push_back(job);
      s.tokens.push_back(token);
    }
    return false;
  });
  for (size_t from = 0; from < rows.size(); from += kRows) {
    std::vector<cpu::Row> part(rows.begin() + static_cast<ptrdiff_t>(from), rows.begin() + static_cast<ptrdiff_t>(std::min(from + kRows, rows.size())));
    if (!engine_->run(&part, nullptr)) return false;
    for (size_t i = 0; i < part.size(); i++) {
      Job* job = owners[from + i];
      if (!part[i].wants_logits) continue;
      if (part[i].logits == nullptr) {
        job->most = 0;
        continue;
      }
      // A guess need not keep to the grammar: what breaks it is not accepted.
      SamplingOptions sampling = *job->sampling;
      sampling.grammar = nullptr;
      Sampler sampler(std::move(sampling));
      job->draft.push_back(sampler.next(part[i].logits, model().vocabulary, part[i].position + 1));
    }
  }
  return !rows.empty();
}

void DraftModel::propose(std::vector<Job>* jobs) {
  std::vector<Job*> live;
  for (Job& job : *jobs) {
    State& s = *job.state;
    if (s.cache == nullptr) s.cache = std::make_unique<cpu::Sequence>(&engine_->pages());
    // The last draft may have been wrong, and the last token is always computed again.
    const auto [mine, theirs] = std::mismatch(s.tokens.begin(), s.tokens.end(), job.tokens->begin(), job.tokens->end() - 1);
    s.tokens.erase(mine, s.tokens.end());
    s.cache->cut(static_cast<uint32_t>(s.tokens.size()));
    live.push_back(&job);
  }
  while (!live.empty() && feed(&live)) {
  }
}

}  // namespace zg::infer
