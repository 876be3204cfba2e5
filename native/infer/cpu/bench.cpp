#include "bench.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "../largest.h"
#include "../trace.h"
#include "engine.h"

namespace zg::cpu {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Tokens of an answer that is checked, and rows of a step of that, as the scheduler cuts it.
constexpr uint32_t kChecked = 256;
constexpr uint32_t kCheckedRows = 96;
// Steps of one way of sharing before the next one's turn.
constexpr uint32_t kTurn = 8;

// ---- what the machine gives ----

// Bytes a second that the threads read together, the best of a few passes.
double read_bandwidth(Workers* workers) {
  constexpr size_t kBytes = size_t{512} << 20;
  Memory memory;
  if (!memory.allocate(kBytes)) return 0;
  uint8_t* data = memory.data();
  workers->run(kBytes >> 20, 1, [&](size_t begin, size_t end) { std::memset(data + (begin << 20), 1, (end - begin) << 20); });
  double best = 0;
  std::atomic<uint64_t> sink{0};
  for (int i = 0; i < 5; i++) {
    const auto start = Clock::now();
    workers->run(kBytes >> 18, 1, [&](size_t begin, size_t end) {
      uint64_t sums[8] = {};
      const auto* p = reinterpret_cast<const uint64_t*>(data + (begin << 18));
      const size_t words = ((end - begin) << 18) / 8;
      for (size_t w = 0; w < words; w += 8) {
        __builtin_prefetch(p + w + 512);
        for (size_t j = 0; j < 8; j++) sums[j] += p[w + j];
      }
      for (const uint64_t v : sums) sink += v;
    });
    best = std::max(best, static_cast<double>(kBytes) / seconds_since(start));
  }
  return best;
}

#if defined(__x86_64__)
__attribute__((target("avx512f,avx512vnni"))) int multiply_bytes(uint64_t rounds) {
  __m512i acc[12];
  for (auto& a : acc) a = _mm512_setzero_si512();
  const __m512i x = _mm512_set1_epi8(3);
  for (uint64_t i = 0; i < rounds; i++) {
    for (auto& a : acc) a = _mm512_dpbusd_epi32(a, x, x);
  }
  __m512i sum = acc[0];
  for (int i = 1; i < 12; i++) sum = _mm512_add_epi32(sum, acc[i]);
  return _mm512_reduce_add_epi32(sum);
}
#endif

// Operations a second (two a multiply-add) on bytes from registers; 0 where there is no such instruction.
double byte_peak(Workers* workers) {
#if defined(__x86_64__)
  if (level_by_name("avx512") == nullptr) return 0;
  constexpr uint64_t kRounds = 400'000;
  constexpr size_t kChunks = 32;
  double best = 0;
  std::atomic<int> sink{0};
  for (int i = 0; i < 3; i++) {
    const auto start = Clock::now();
    workers->run(kChunks, 1, [&](size_t begin, size_t end) { sink += multiply_bytes(kRounds * (end - begin)); });
    best = std::max(best, static_cast<double>(kRounds) * kChunks * 12 * 128 / seconds_since(start));
  }
  return best;
#else
  (void)workers;
  return 0;
#endif
}

// ---- the engine ----

// As the scheduler's sampler finds it.
uint32_t likeliest(const Engine& engine, const Row& row) {
  return infer::Largest(engine.level(), row.logits, engine.model().vocabulary).first();
}

// Sequences side by side, each with the prompt behind it.
class Run {
 public:
  // room: positions behind the prompt.
  Run(Engine* engine, uint32_t count, uint32_t prompt, uint32_t room) : engine_(engine), at_(prompt), next_(count) {
    for (uint32_t s = 0; s < count; s++) {
      sequences_.push_back(std::make_unique<Sequence>(&engine->pages()));
      if (!sequences_.back()->reserve(prompt + room)) return;
      std::vector<Row> rows;
      for (uint32_t i = 0; i < prompt; i++) {
        rows.push_back({.sequence = sequences_[s].get(), .position = i, .token = 3 + (i * 37 + s) % 200, .wants_logits = i + 1 == prompt});
      }
      const auto start = Clock::now();
      if (!engine->run(&rows)) return;
      prefill_ = seconds_since(start);
      next_[s] = likeliest(*engine, rows.back());
    }
    good_ = true;
  }

  bool good() const { return good_; }
  double prefill() const { return prefill_; }
  uint32_t at() const { return at_; }
  uint32_t next() const { return next_[0]; }

  // Seconds of one token for each; with traced also what its digests took, the first sequence's.
  double step(double* traced = nullptr) {
    std::vector<Row> rows;
    for (size_t s = 0; s < sequences_.size(); s++) {
      rows.push_back({.sequence = sequences_[s].get(), .position = at_, .token = next_[s], .wants_logits = true});
    }
    const auto start = Clock::now();
    if (!engine_->run(&rows)) return 0;
    for (size_t s = 0; s < sequences_.size(); s++) next_[s] = likeliest(*engine_, rows[s]);
    if (traced != nullptr) {
      const auto from = Clock::now();
      trace(rows[0], next_[0]);
      *traced = seconds_since(from);
    }
    at_++;
    return seconds_since(start);
  }

  // Computes the tokens as one answer again, with states and hashes, as the scheduler does; how many would have been drawn otherwise.
  uint32_t check(const std::vector<uint32_t>& answer) {
    uint32_t wrong = 0;
    for (size_t first = 0; first + 1 < answer.size(); first += kCheckedRows) {
      std::vector<Row> rows;
      for (size_t i = first; i + 1 < answer.size() && rows.size() < kCheckedRows; i++) {
        rows.push_back({.sequence = sequences_[0].get(), .position = at_ + static_cast<uint32_t>(i), .token = answer[i], .wants_logits = true});
      }
      if (!engine_->run(&rows)) return UINT32_MAX;
      std::vector<infer::Digest> digests[2];
      for (auto& d : digests) d.resize(rows.size());
      engine_->workers().run(rows.size(), 1, [&](size_t begin, size_t end) {
        for (size_t i = begin; i < end; i++) {
          digests[0][i] = infer::hidden_digest(rows[i].hidden, engine_->model().width);
          digests[1][i] = infer::logits_digest(rows[i].logits, engine_->model().vocabulary);
        }
      });
      for (size_t i = 0; i < rows.size(); i++) {
        wrong += likeliest(*engine_, rows[i]) != answer[first + i + 1];
        last_[0] ^= digests[0][i][0];
        last_ = infer::next_hash(last_, answer[first + i + 1], digests[1][i]);
      }
    }
    return wrong;
  }

 private:
  void trace(const Row& row, uint32_t token) {
    last_[0] ^= infer::hidden_digest(row.hidden, engine_->model().width)[0];
    last_ = infer::next_hash(last_, token, infer::logits_digest(row.logits, engine_->model().vocabulary));
  }

  Engine* const engine_;
  std::vector<std::unique_ptr<Sequence>> sequences_;
  uint32_t at_;
  std::vector<uint32_t> next_;
  double prefill_ = 0;
  bool good_ = false;
  infer::Digest last_{};
};

struct Decoding {
  double measured = 0, alone = 0, shared = 0, trace = 0;
};

// Medians of seconds a step, the ways in turns; and of the digests' part of a step.
Decoding decode(Engine* engine, Run* run, uint32_t steps) {
  std::vector<double> times[3];
  std::vector<double> parts;
  const Sharing ways[3] = {Sharing::kMeasured, Sharing::kAlone, Sharing::kShared};
  const uint32_t kinds = engine->threads() == 1 ? 1 : 3;
  for (uint32_t i = 0; i < steps * kinds; i++) {
    const uint32_t way = i / kTurn % kinds;
    engine->set_sharing(ways[way]);
    double traced = 0;
    const double seconds = run->step(&traced);
    times[way].push_back(seconds - traced);
    parts.push_back(traced / (seconds - traced));
  }
  engine->set_sharing(Sharing::kMeasured);
  Decoding d = {median(times[0]), median(times[1]), median(times[2]), median(parts)};
  if (kinds == 1) d.alone = d.shared = d.measured;
  return d;
}

struct Ratios {
  double prefill = 0, decode = 0;
};

// Speeds over those of the same kernels without the order of inference.md 12, in turns; 0 where there are none for this level.
Ratios over_free(Engine* engine, uint32_t prompt, uint32_t steps) {
  if (zg_level_free.product == nullptr || std::strcmp(engine->level().name, "avx512") != 0) return {};
  Options options;
  options.threads = engine->threads();
  options.level = &zg_level_free;
  std::string why;
  const auto free = Engine::load(engine->shared_model(), options, &why);
  if (free == nullptr) return {};
  Engine* const both[2] = {engine, free.get()};
  std::vector<double> prefills[2], times[2];
  for (int i = 0; i < 10; i++) {
    const Run run(both[i % 2], 1, prompt, 1);
    // The first one makes the tables of RoPE.
    if (i > 1) prefills[i % 2].push_back(run.prefill());
  }
  Run runs[2] = {{both[0], 1, prompt, steps}, {both[1], 1, prompt, steps}};
  for (uint32_t i = 0; i < 2 * steps; i++) times[i / kTurn % 2].push_back(runs[i / kTurn % 2].step());
  return {median(prefills[1]) / median(prefills[0]), median(times[1]) / median(times[0])};
}

// An answer's making over its computing again; 0 where they differ or there is no room.
double check_speed(Engine* engine, uint32_t prompt) {
  Run making(engine, 1, prompt, kChecked + 1);
  if (!making.good()) return 0;
  std::vector<uint32_t> answer = {making.next()};
  const auto start = Clock::now();
  while (answer.size() <= kChecked) {
    double traced = 0;
    if (making.step(&traced) == 0) return 0;
    answer.push_back(making.next());
  }
  const double made = seconds_since(start);
  Run checking(engine, 1, prompt, kChecked + 1);
  if (!checking.good()) return 0;
  const auto from = Clock::now();
  if (checking.check(answer) != 0) return 0;
  return made / seconds_since(from);
}

}  // namespace

int bench(const char* path, unsigned threads, uint32_t prompt, uint32_t decoded, bool brief) {
  gguf::Error error;
  std::shared_ptr<const det::Model> model = det::Model::open(path, &error);
  const ZgLevel* level = level_by_name(getenv("ZG_CPU"));
  if (model == nullptr || level == nullptr) {
    fprintf(stderr, "%s: %s\n", path, model == nullptr ? error.message.c_str() : "no such level");
    return 1;
  }
  Options options;
  options.threads = threads;
  options.level = level;
  std::string why;
  const auto start = Clock::now();
  const auto engine = Engine::load(model, options, &why);
  const double load = seconds_since(start);
  if (engine == nullptr) {
    fprintf(stderr, "%s: %s\n", path, why.c_str());
    return 1;
  }
  // The first pass also computes the tables of RoPE.
  std::vector<double> prefills;
  for (int i = 0; i < 4; i++) {
    const Run run(engine.get(), 1, prompt, 1);
    if (i > 0) prefills.push_back(run.prefill());
  }
  Run one(engine.get(), 1, prompt, 3 * decoded);
  const Decoding d = decode(engine.get(), &one, decoded);
  double eight = 0;
  if (prompt < 2'000) {
    Run many(engine.get(), 8, 16, decoded);
    std::vector<double> times;
    for (uint32_t i = 0; i < decoded && many.good(); i++) times.push_back(many.step());
    eight = median(times);
  }
  const double checking = prompt < 2'000 && prompt + kChecked < model->context ? check_speed(engine.get(), prompt) : 0;
  const Ratios free = !brief && threads == 1 && prompt < 2'000 ? over_free(engine.get(), prompt, (decoded + kTurn - 1) / kTurn * kTurn) : Ratios{};
  Workers workers(threads);
  workers.run(threads, 1, [](size_t, size_t) {});
  const double bandwidth = read_bandwidth(&workers);
  const double peak = byte_peak(&workers);
  workers.set_alone(true);
  const double bandwidth_one = threads == 1 ? bandwidth : read_bandwidth(&workers);
  printf("{\"level\":\"%s\",\"threads\":%u,\"loadSeconds\":%.4f,\"packedBytes\":%llu,\"parameters\":%llu,\"prefill\":%.2f,\"decode\":%.2f,"
         "\"alone\":%.2f,\"shared\":%.2f,\"eight\":%.2f,\"tracePart\":%.5f,\"checking\":%.3f,\"freePrefill\":%.3f,\"freeDecode\":%.3f,\"bandwidth\":%.4g,\"bandwidthOne\":%.4g,\"bytePeak\":%.4g}\n",
         level->name, threads, load, static_cast<unsigned long long>(engine->packed_bytes()), static_cast<unsigned long long>(model->parameters),
         prompt / median(prefills), 1 / d.measured, 1 / d.alone, 1 / d.shared, eight > 0 ? 8 / eight : 0.0, d.trace, checking, free.prefill, free.decode, bandwidth,
         bandwidth_one, peak);
  return 0;
}

}  // namespace zg::cpu
