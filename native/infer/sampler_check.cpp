#include "sampler_check.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <limits>
#include <random>

#include "cpu/engine.h"
#include "det/rules.h"
#include "sampler.h"

namespace zg::infer {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();
using Random = std::mt19937_64;

// ---- inference.md 7.1, steps 4 to 9, word by word: everything is sorted ----

struct Candidate {
  float value;
  uint32_t id;
  uint64_t weight;
};

uint64_t fixed_point(float p) { return static_cast<uint64_t>(static_cast<double>(p) * 4294967296.0); }

uint32_t plain(const SamplingOptions& o, const std::vector<float>& logits, uint64_t position) {
  const size_t best = static_cast<size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  if (o.temperature < 1e-5f) return static_cast<uint32_t>(best);
  const float most = logits[best] / o.temperature;
  std::vector<Candidate> all;
  for (size_t i = 0; i < logits.size(); i++) {
    if (logits[i] == kNever) continue;
    const float value = logits[i] / o.temperature;
    const float e = det::zexp(value - most);
    all.push_back({value, static_cast<uint32_t>(i), e >= 0 ? static_cast<uint64_t>(static_cast<double>(e) * 4294967296.0) : 0});
  }
  if (all.empty()) return static_cast<uint32_t>(best);
  std::sort(all.begin(), all.end(), [](const Candidate& a, const Candidate& b) { return a.value > b.value || (a.value == b.value && a.id < b.id); });
  const auto sum = [&] {
    uint64_t z = 0;
    for (const Candidate& c : all) z += c.weight;
    return z;
  };
  if (o.top_k > 0 && o.top_k < all.size()) all.resize(o.top_k);
  if (o.top_p < 1) {
    const unsigned __int128 enough = static_cast<unsigned __int128>(fixed_point(o.top_p)) * sum();
    uint64_t running = 0;
    size_t kept = 0;
    do running += all[kept++].weight;
    while (kept < all.size() && static_cast<unsigned __int128>(running) << 32 < enough);
    all.resize(kept);
  }
  if (o.min_p > 0) {
    size_t kept = 1;
    while (kept < all.size() && all[kept].weight >= fixed_point(o.min_p)) kept++;
    all.resize(kept);
  }
  const auto r = static_cast<uint64_t>(static_cast<unsigned __int128>(philox(o.seed, static_cast<uint32_t>(position), o.choice)) * sum() >> 64);
  uint64_t running = 0;
  for (const Candidate& c : all) {
    running += c.weight;
    if (running > r) return c.id;
  }
  return all.front().id;
}

float plain_logprob(const std::vector<float>& logits, uint32_t id) {
  const float most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float l : logits) sum += static_cast<double>(det::zexp(l - most));
  return (logits[id] - most) - det::zlog(static_cast<float>(sum));
}

// ---- cases ----

template <typename T>
T one_of(Random* random, std::initializer_list<T> from) {
  return from.begin()[(*random)() % from.size()];
}

std::vector<float> some_logits(Random* random) {
  const size_t n = one_of<size_t>(random, {1, 2, 15, 16, 17, 31, 33, 97, 500, 2'047, 4'096, 32'000, 65'537, 151'936});
  std::normal_distribution<float> normal(0, one_of(random, {0.01f, 1.0f, 3.0f, 20.0f}));
  std::vector<float> out(n);
  for (float& x : out) x = normal(*random);
  switch ((*random)() % 6) {
    // Many equal ones.
    case 0:
      for (float& x : out) x = std::rint(x);
      break;
    // Neighbours, which division may round to one value.
    case 1:
      for (float& x : out) x = std::bit_cast<float>(0x41200000u + static_cast<uint32_t>((*random)() % 40));
      break;
    // Most are masked, or all.
    case 2:
      for (float& x : out) x = (*random)() % 50 == 0 ? x : kNever;
      break;
    case 3:
      if ((*random)() % 4 == 0) std::fill(out.begin(), out.end(), kNever);
      break;
    // So large that division by the temperature overflows; so small that it gives zero.
    case 4:
      for (float& x : out) x *= one_of(random, {1e37f, 1e-42f});
      break;
    default: break;
  }
  return out;
}

SamplingOptions some_options(Random* random) {
  SamplingOptions o;
  o.temperature = one_of(random, {0.0f, 1e-5f, 0.1f, 0.7f, 1.0f, 1.3f, 1.999f, 2.0f});
  o.top_k = one_of(random, {0u, 0u, 1u, 5u, 40u, 63u, 64u, 65u, 3'000u, 200'000u});
  o.top_p = one_of(random, {1.0f, 1.0f, 0.0f, 0.1f, 0.9f, 0.95f, 0.99999f});
  o.min_p = one_of(random, {0.0f, 0.0f, 1e-12f, 1e-6f, 0.05f, 0.5f, 1.0f});
  o.seed = (*random)();
  o.choice = static_cast<uint32_t>((*random)() % 3);
  return o;
}

}  // namespace

int check_choices(uint64_t count, uint64_t seed) {
  Random random(seed);
  uint64_t draws = 0, likeliest = 0, wrong = 0;
  for (uint64_t i = 0; i < count; i++) {
    const std::vector<float> logits = some_logits(&random);
    const SamplingOptions o = some_options(&random);
    const uint64_t position = random() % 100'000;
    const uint32_t want = plain(o, logits, position);
    const bool any = *std::max_element(logits.begin(), logits.end()) != kNever;
    const float want_logprob = plain_logprob(logits, want);
    for (const ZgLevel* const* level = cpu::available_levels(); *level != nullptr; level++) {
      Sampler sampler(o, **level);
      const uint32_t got = sampler.next(logits.data(), logits.size(), position);
      std::vector<Alternative> best;
      const float logprob = sampler.logprob(want, 20, &best);
      bool same = got == want && (!any || std::bit_cast<uint32_t>(logprob) == std::bit_cast<uint32_t>(want_logprob));
      // The best alternatives are the first of a greedy order.
      for (size_t a = 1; a < best.size(); a++) {
        const float before = logits[best[a - 1].id], after = logits[best[a].id];
        same = same && (before > after || (before == after && best[a - 1].id < best[a].id));
      }
      if (any) {
        const auto better = std::count_if(logits.begin(), logits.end(), [&](float l) { return l > logits[best.back().id]; });
        const auto allowed = std::count_if(logits.begin(), logits.end(), [](float l) { return l != kNever; });
        same = same && best.size() == std::min<size_t>(20, static_cast<size_t>(allowed)) && static_cast<size_t>(better) < best.size();
      }
      draws++;
      if (!same) {
        wrong++;
        printf("%s: case %llu of seed %llu: %u instead of %u\n", (*level)->name, static_cast<unsigned long long>(i), static_cast<unsigned long long>(seed), got, want);
      }
    }
    likeliest += logits[want] == *std::max_element(logits.begin(), logits.end());
  }
  printf("choices: %llu draws, %llu cases of %llu gave the likeliest, %llu different\n", static_cast<unsigned long long>(draws),
         static_cast<unsigned long long>(likeliest), static_cast<unsigned long long>(count), static_cast<unsigned long long>(wrong));
  return wrong == 0 && likeliest < count ? 0 : 1;
}

int time_choices(uint32_t vocabulary) {
  Random random(1);
  std::normal_distribution<float> normal(0, 3);
  std::vector<std::vector<float>> rows(8, std::vector<float>(vocabulary));
  for (std::vector<float>& row : rows) {
    for (float& x : row) x = normal(random);
  }
  const struct {
    const char* name;
    float temperature, top_p;
    uint32_t top_k;
    float repetition;
    bool logprobs;
  } ways[] = {{"greedy", 0, 1, 0, 1, false},      {"temperature", 0.7f, 1, 0, 1, false},  {"topP", 0.7f, 0.9f, 0, 1, false},
              {"topK", 1, 0.95f, 40, 1, false}, {"penalty", 0.7f, 0.9f, 0, 1.1f, false}, {"logprobs", 0.7f, 1, 0, 1, true}};
  printf("{\"vocabulary\":%u", vocabulary);
  for (const auto& way : ways) {
    SamplingOptions o;
    o.temperature = way.temperature;
    o.top_p = way.top_p;
    o.top_k = way.top_k;
    o.repetition_penalty = way.repetition;
    Sampler sampler(o);
    std::vector<double> times;
    for (uint64_t i = 0; i < 100; i++) {
      const auto start = std::chrono::steady_clock::now();
      const uint32_t token = sampler.next(rows[i % 8].data(), vocabulary, i);
      std::vector<Alternative> best;
      if (way.logprobs) sampler.logprob(token, 5, &best);
      sampler.saw(token, true);
      times.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    std::sort(times.begin(), times.end());
    printf(",\"%s\":%.1f", way.name, times[times.size() / 2] * 1e6);
  }
  printf("}\n");
  return 0;
}

}  // namespace zg::infer
