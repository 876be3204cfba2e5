#include "sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "det/rules.h"

namespace zg::infer {
namespace {

// ⌊p · 2³²⌋ for 0 ≤ p ≤ 1, exact.
uint64_t fixed_point(float p) { return static_cast<uint64_t>(static_cast<double>(p) * 4294967296.0); }

bool before(float a, uint32_t a_id, float b, uint32_t b_id) { return a > b || (a == b && a_id < b_id); }

}  // namespace

uint64_t philox(uint64_t seed, uint32_t position, uint32_t choice) noexcept {
  uint32_t c[4] = {position, choice, 0, 0};
  auto k0 = static_cast<uint32_t>(seed);
  auto k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; round++) {
    const uint64_t a = uint64_t{0xD2511F53u} * c[0];
    const uint64_t b = uint64_t{0xCD9E8D57u} * c[2];
    const uint32_t next[4] = {static_cast<uint32_t>(b >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(b),
                              static_cast<uint32_t>(a >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(a)};
    std::copy(next, next + 4, c);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return uint64_t{c[0]} << 32 | c[1];
}

Sampler::Sampler(SamplingOptions options) : options_(std::move(options)) {
  if (options_.grammar != nullptr) constraint_ = std::make_unique<Constraint>(options_.grammar, options_.end_ids, options_.budget);
}

void Sampler::saw(uint32_t token, bool output, bool before) {
  if (output && !before) {
    drawn_++;
    if (constraint_ != nullptr) constraint_->advance(token);
  }
  const bool repetition = options_.repetition_penalty != 1;
  const bool counted = options_.frequency_penalty != 0 || options_.presence_penalty != 0;
  if (!repetition && !(counted && output)) return;
  Seen& seen = seen_[token];
  if (output) seen.output++;
}

// Steps 1 to 3: what is not allowed, bias, then the penalties.
void Sampler::adjust(const float* logits, size_t count) {
  logits_.assign(logits, logits + count);
  if (constraint_ != nullptr) constraint_->apply(logits_.data(), count);
  if (drawn_ < options_.min_tokens) {
    for (const uint32_t id : options_.end_ids) {
      if (id < count) logits_[id] = -std::numeric_limits<float>::infinity();
    }
  }
  for (const auto& [id, bias] : options_.bias) {
    if (id < count) logits_[id] += bias;
  }
  for (const auto& [id, seen] : seen_) {
    if (id >= count) continue;
    float& l = logits_[id];
    if (options_.repetition_penalty != 1) {
      l = l > 0 ? l / options_.repetition_penalty : l * options_.repetition_penalty;
    }
    if (seen.output > 0) {
      l = l - options_.frequency_penalty * static_cast<float>(seen.output);
      l = l - options_.presence_penalty;
    }
  }
}

uint32_t Sampler::next(const float* logits, size_t count, uint64_t position) {
  adjust(logits, count);
  const uint32_t token = choose(count, position);
  return constraint_ == nullptr || constraint_->stuck() ? token : constraint_->settle(token);
}

uint32_t Sampler::choose(size_t count, uint64_t position) {
  const auto largest = static_cast<uint32_t>(std::max_element(logits_.begin(), logits_.end()) - logits_.begin());
  if (options_.temperature < 1e-5f) return largest;
  candidates_.clear();
  ordered_ = 0;
  const float most = logits_[largest] / options_.temperature;
  for (size_t i = 0; i < count; i++) {
    // Neither allowed nor ever drawn.
    if (logits_[i] == -std::numeric_limits<float>::infinity() && i != largest) continue;
    const float value = logits_[i] / options_.temperature;
    // At most 1, and the product with 2³² is exact. A logit so large that the division overflows gives no number: no weight.
    const float e = det::zexp(value - most);
    const uint64_t weight = e >= 0 ? static_cast<uint64_t>(static_cast<double>(e) * 4294967296.0) : 0;
    candidates_.push_back({value, static_cast<uint32_t>(i), weight});
  }
  return draw(position);
}

void Sampler::order(size_t wanted) {
  wanted = std::min(wanted, candidates_.size());
  if (wanted <= ordered_) return;
  const auto less = [](const Candidate& a, const Candidate& b) { return before(a.value, a.id, b.value, b.id); };
  const auto from = candidates_.begin() + static_cast<ptrdiff_t>(ordered_);
  const auto to = candidates_.begin() + static_cast<ptrdiff_t>(wanted);
  if (to != candidates_.end()) std::nth_element(from, to, candidates_.end(), less);
  std::sort(from, to, less);
  ordered_ = wanted;
}

uint64_t Sampler::total(size_t count) const {
  uint64_t sum = 0;
  for (size_t i = 0; i < count; i++) sum += candidates_[i].weight;
  return sum;
}

// Steps 5 to 9 over the candidates. At least one is always left.
uint32_t Sampler::draw(uint64_t position) {
  if (options_.top_k > 0 && options_.top_k < candidates_.size()) {
    order(options_.top_k);
    candidates_.resize(options_.top_k);
  }
  uint64_t sum = total(candidates_.size());
  const auto need = [this](size_t i) {
    if (i >= ordered_) order(std::max<size_t>(64, 8 * ordered_));
  };
  if (options_.top_p < 1) {
    const unsigned __int128 least = static_cast<unsigned __int128>(fixed_point(options_.top_p)) * sum;
    uint64_t running = 0;
    size_t kept = 0;
    while (kept < candidates_.size()) {
      need(kept);
      running += candidates_[kept++].weight;
      if (static_cast<unsigned __int128>(running) << 32 >= least) break;
    }
    candidates_.resize(kept);
    ordered_ = std::min(ordered_, kept);
    sum = running;
  }
  if (options_.min_p > 0) {
    const uint64_t least = fixed_point(options_.min_p);
    size_t kept = 0;
    uint64_t running = 0;
    while (kept < candidates_.size()) {
      need(kept);
      if (kept > 0 && candidates_[kept].weight < least) break;
      running += candidates_[kept++].weight;
    }
    candidates_.resize(kept);
    sum = running;
  }
  if (options_.typical_p < 1) keep_typical(&sum);
  const uint64_t x = philox(options_.seed, static_cast<uint32_t>(position), options_.choice);
  const auto r = static_cast<uint64_t>(static_cast<unsigned __int128>(x) * sum >> 64);
  uint64_t running = 0;
  for (size_t i = 0; i < candidates_.size(); i++) {
    need(i);
    running += candidates_[i].weight;
    if (running > r) return candidates_[i].id;
  }
  return candidates_.front().id;
}

// Locally typical sampling (Meister et al. 2023): tokens whose surprise lies nearest to the mean surprise, at least one, ties by id. All
// in one order, so that the sums have the same bits everywhere; the library's logarithm is not used.
void Sampler::keep_typical(uint64_t* sum) {
  if (*sum == 0) return;
  order(candidates_.size());
  const auto surprise = [sum](const Candidate& c) {
    return c.weight == 0 ? 1e30f : -det::zlog(static_cast<float>(static_cast<double>(c.weight) / static_cast<double>(*sum)));
  };
  double mean = 0;
  for (const Candidate& c : candidates_) {
    if (c.weight > 0) mean += static_cast<double>(c.weight) / static_cast<double>(*sum) * static_cast<double>(surprise(c));
  }
  std::vector<std::pair<double, Candidate>> by_shift;
  by_shift.reserve(candidates_.size());
  for (const Candidate& c : candidates_) by_shift.emplace_back(std::fabs(static_cast<double>(surprise(c)) - mean), c);
  std::sort(by_shift.begin(), by_shift.end(), [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first < b.first : a.second.id < b.second.id;
  });
  const unsigned __int128 least = static_cast<unsigned __int128>(fixed_point(options_.typical_p)) * *sum;
  uint64_t running = 0;
  size_t kept = 0;
  while (kept < by_shift.size()) {
    candidates_[kept] = by_shift[kept].second;
    running += candidates_[kept++].weight;
    if (static_cast<unsigned __int128>(running) << 32 >= least) break;
  }
  candidates_.resize(kept);
  ordered_ = 0;
  order(kept);
  *sum = running;
}

float Sampler::logprob_of(const float* logits, size_t count, uint32_t token, size_t alternatives, std::vector<Alternative>* best) {
  logits_.assign(logits, logits + count);
  return logprob(token, alternatives, best);
}

float Sampler::logprob(uint32_t token, size_t alternatives, std::vector<Alternative>* best) const {
  const float most = *std::max_element(logits_.begin(), logits_.end());
  double sum = 0;
  for (const float l : logits_) sum += static_cast<double>(det::zexp(l - most));
  const float log_sum = det::zlog(static_cast<float>(sum));
  const auto value = [&](uint32_t id) { return (logits_[id] - most) - log_sum; };
  if (alternatives > 0 && best != nullptr) {
    std::vector<uint32_t> ids;
    ids.reserve(logits_.size());
    for (size_t i = 0; i < logits_.size(); i++) {
      // Masked tokens are no alternatives.
      if (logits_[i] != -std::numeric_limits<float>::infinity()) ids.push_back(static_cast<uint32_t>(i));
    }
    const size_t kept = std::min(alternatives, ids.size());
    std::partial_sort(ids.begin(), ids.begin() + static_cast<ptrdiff_t>(kept), ids.end(),
                      [this](uint32_t a, uint32_t b) { return before(logits_[a], a, logits_[b], b); });
    for (size_t i = 0; i < kept; i++) best->push_back({ids[i], value(ids[i])});
  }
  return value(token);
}

}  // namespace zg::infer
