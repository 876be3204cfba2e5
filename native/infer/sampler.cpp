#include "sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "det/rules.h"

namespace zg::infer {
namespace {

// ⌊p · 2³²⌋ for 0 ≤ p ≤ 1, exact.
uint64_t fixed_point(float p) { return static_cast<uint64_t>(static_cast<double>(p) * 4294967296.0); }

struct Candidate {
  // Logit over temperature.
  float value;
  uint32_t id;
  uint64_t weight;
};

bool before(const Candidate& a, const Candidate& b) { return a.value > b.value || (a.value == b.value && a.id < b.id); }

constexpr float kNever = -std::numeric_limits<float>::infinity();

// Steps 4 to 9 over n logits. Only as many candidates as a draw looks at are brought into order.
class Draw {
 public:
  Draw(const SamplingOptions& options, const ZgLevel& level, const Largest& largest, const float* x, size_t n)
      : options_(options), level_(level), largest_(largest), x_(x), n_(n), most_(largest.top() / options.temperature) {}

  // The token; nothing when none may be drawn.
  std::optional<uint32_t> token(uint64_t position) {
    uint64_t sum = keep_first();
    if (options_.top_p < 1) keep_sum(&sum);
    if (options_.min_p > 0) keep_likely(&sum);
    if (options_.typical_p < 1) keep_typical(&sum);
    const uint64_t x = philox(options_.seed, static_cast<uint32_t>(position), options_.choice);
    const auto r = static_cast<uint64_t>(static_cast<unsigned __int128>(x) * sum >> 64);
    uint64_t running = 0;
    for (size_t i = 0; has(i); i++) {
      running += candidates_[i].weight;
      if (running > r) return candidates_[i].id;
    }
    return candidates_.empty() ? std::nullopt : std::optional(candidates_.front().id);
  }

 private:
  static constexpr size_t kFirst = 64;
  static constexpr size_t kGrowth = 8;

  // Candidate number i of the order, if there is one and it was kept.
  bool has(size_t i) {
    while (i >= candidates_.size() && !all_) grow(std::max(kFirst, kGrowth * candidates_.size()));
    return i < candidates_.size();
  }

  void keep(size_t count) {
    candidates_.resize(count);
    all_ = true;
  }

  // At least the first k candidates, if there are so many.
  void grow(size_t k) {
    float bound = largest_.bound(k);
    if (bound != kNever) {
      // Division may round several logits to one value, and of these the order takes the lower id: they belong together.
      constexpr int kMost = 64;
      const float value = bound / options_.temperature;
      int steps = 0;
      for (; steps < kMost && bound / options_.temperature >= value; steps++) bound = std::nextafter(bound, kNever);
      if (steps == kMost) bound = kNever;
    }
    all_ = bound == kNever;
    candidates_.clear();
    largest_.each(bound, [&](uint32_t i) {
      // Neither allowed nor ever drawn.
      if (x_[i] == kNever) return;
      const float value = x_[i] / options_.temperature;
      // At most 1, and the product with 2³² is exact. A logit so large that the division overflows gives no number: no weight.
      const float e = det::zexp(value - most_);
      candidates_.push_back({value, i, e >= 0 ? static_cast<uint64_t>(static_cast<double>(e) * 4294967296.0) : 0});
    });
    std::sort(candidates_.begin(), candidates_.end(), before);
  }

  // Top-k; the sum of what is left.
  uint64_t keep_first() {
    if (options_.top_k == 0 || options_.top_k >= n_) return level_.weigh(x_, n_, options_.temperature, most_, nullptr);
    grow(options_.top_k);
    keep(std::min<size_t>(options_.top_k, candidates_.size()));
    uint64_t sum = 0;
    for (const Candidate& c : candidates_) sum += c.weight;
    return sum;
  }

  void keep_sum(uint64_t* sum) {
    const unsigned __int128 least = static_cast<unsigned __int128>(fixed_point(options_.top_p)) * *sum;
    uint64_t running = 0;
    size_t kept = 0;
    while (has(kept)) {
      running += candidates_[kept++].weight;
      if (static_cast<unsigned __int128>(running) << 32 >= least) break;
    }
    keep(kept);
    *sum = running;
  }

  void keep_likely(uint64_t* sum) {
    const uint64_t least = fixed_point(options_.min_p);
    if (least == 0) return;
    uint64_t running = 0;
    size_t kept = 0;
    while (has(kept) && (kept == 0 || candidates_[kept].weight >= least)) running += candidates_[kept++].weight;
    keep(kept);
    *sum = running;
  }

  // Locally typical sampling (Meister et al. 2023): tokens whose surprise lies nearest to the mean surprise, at least one, ties by id. All
  // in one order, so that the sums have the same bits everywhere; the library's logarithm is not used.
  void keep_typical(uint64_t* sum) {
    if (*sum == 0) return;
    if (!all_) grow(n_);
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
    std::sort(by_shift.begin(), by_shift.end(),
              [](const auto& a, const auto& b) { return a.first != b.first ? a.first < b.first : a.second.id < b.second.id; });
    const unsigned __int128 least = static_cast<unsigned __int128>(fixed_point(options_.typical_p)) * *sum;
    uint64_t running = 0;
    size_t kept = 0;
    while (kept < by_shift.size()) {
      candidates_[kept] = by_shift[kept].second;
      running += candidates_[kept++].weight;
      if (static_cast<unsigned __int128>(running) << 32 >= least) break;
    }
    keep(kept);
    std::sort(candidates_.begin(), candidates_.end(), before);
    *sum = running;
  }

  const SamplingOptions& options_;
  const ZgLevel& level_;
  const Largest& largest_;
  const float* x_;
  size_t n_;
  float most_;
  // The first of the order; all_: there are no others, or they were cut off.
  std::vector<Candidate> candidates_;
  bool all_ = false;
};

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

Sampler::Sampler(SamplingOptions options, const ZgLevel& level) : options_(std::move(options)), level_(level) {
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

// What is not allowed, bias, then the penalties.
void Sampler::adjust(const float* logits, size_t count) {
  values_ = logits;
  count_ = count;
  const bool early = drawn_ < options_.min_tokens;
  if (constraint_ == nullptr && !early && options_.bias.empty() && seen_.empty()) return;
  changed_.assign(logits, logits + count);
  values_ = changed_.data();
  if (constraint_ != nullptr) constraint_->apply(changed_.data(), count);
  if (early) {
    for (const uint32_t id : options_.end_ids) {
      if (id < count) changed_[id] = kNever;
    }
  }
  for (const auto& [id, bias] : options_.bias) {
    if (id < count) changed_[id] += bias;
  }
  for (const auto& [id, seen] : seen_) {
    if (id >= count) continue;
    float& l = changed_[id];
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
  const Largest largest(level_, values_, count);
  uint32_t token = 0;
  if (options_.temperature < 1e-5f) {
    token = largest.first();
  } else {
    const std::optional<uint32_t> drawn = Draw(options_, level_, largest, values_, count).token(position);
    token = drawn ? *drawn : largest.first();
  }
  return constraint_ == nullptr || constraint_->stuck() ? token : constraint_->settle(token);
}

float Sampler::logprob_of(const float* logits, size_t count, uint32_t token, size_t alternatives, std::vector<Alternative>* best) {
  values_ = logits;
  count_ = count;
  return logprob(token, alternatives, best);
}

float Sampler::logprob(uint32_t token, size_t alternatives, std::vector<Alternative>* best) {
  const Largest largest(level_, values_, count_);
  const float most = largest.top();
  exponentials_.resize(count_);
  level_.weigh(values_, count_, 1, most, exponentials_.data());
  double sum = 0;
  for (const float e : exponentials_) sum += static_cast<double>(e);
  const float log_sum = det::zlog(static_cast<float>(sum));
  const auto value = [&](uint32_t id) { return (values_[id] - most) - log_sum; };
  if (alternatives > 0 && best != nullptr) {
    std::vector<Candidate> first;
    largest.each(largest.bound(alternatives), [&](uint32_t id) {
      // Masked tokens are no alternatives.
      if (values_[id] != kNever) first.push_back({values_[id], id, 0});
    });
    const size_t kept = std::min(alternatives, first.size());
    std::partial_sort(first.begin(), first.begin() + static_cast<ptrdiff_t>(kept), first.end(), before);
    for (size_t i = 0; i < kept; i++) best->push_back({first[i].id, value(first[i].id)});
  }
  return value(token);
}

}  // namespace zg::infer
