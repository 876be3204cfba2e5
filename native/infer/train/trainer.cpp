#include "trainer.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>

namespace zg::train {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// A piece of one tensor, small enough to spread the update evenly.
struct Chunk {
  long offset;
  long count;
  bool decays;
};

std::vector<Chunk> chunks_of(const std::vector<Tensor>& tensors) {
  constexpr long kChunk = 16384;
  std::vector<Chunk> chunks;
  for (const Tensor& t : tensors) {
    for (long at = 0; at < t.count(); at += kChunk) {
      chunks.push_back({t.offset + at, std::min(kChunk, t.count() - at), t.kind == Kind::kMatrix});
    }
  }
  return chunks;
}

double processor_seconds() {
  rusage use{};
  getrusage(RUSAGE_SELF, &use);
  const auto seconds = [](const timeval& t) { return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec); };
  return seconds(use.ru_utime) + seconds(use.ru_stime);
}

double rate_at(const TrainOptions& o, uint64_t step) {
  if (step <= o.warmup) return o.rate * static_cast<double>(step) / static_cast<double>(o.warmup);
  const double part = static_cast<double>(step - o.warmup) / static_cast<double>(std::max<uint64_t>(1, o.steps - o.warmup));
  const double cosine = 0.5 * (1 + std::cos(3.14159265358979323846 * std::min(1.0, part)));
  return o.rate * (o.final_rate + (1 - o.final_rate) * cosine);
}

}  // namespace

long lanes_of(long values, long batch) {
  constexpr long kMaxBytes = 1l << 30;
  return std::max(1l, std::min({batch, 16l, kMaxBytes / (4 * std::max(values, 1l))}));
}

uint64_t bytes_needed(const Config& config, const AdapterConfig& adapter, long batch, long threads, uint64_t corpus_bytes) {
  const auto base = static_cast<uint64_t>(layout_of(config).count);
  const uint64_t trained = adapter.rank > 0 ? static_cast<uint64_t>(adapter_layout_of(config, adapter).count) : base;
  const uint64_t frozen = adapter.rank > 0 ? base : 0;
  const auto lanes = static_cast<uint64_t>(lanes_of(static_cast<long>(trained), batch));
  return 4 * (frozen + trained * (3 + lanes)) + static_cast<uint64_t>(threads) * Workspace<float>::bytes(config, adapter.rank) + 2 * corpus_bytes +
         (32u << 20);
}

std::vector<SetLoss> validate(const Model<float>& model, const Weights<float>& weights, const Corpus& corpus,
                              const std::vector<HeldOutWindow>& windows, Pool& pool, std::vector<Workspace<float>>& spaces) {
  std::vector<double> losses(windows.size());
  pool.run(static_cast<long>(windows.size()), [&](long i, long thread) {
    losses[static_cast<size_t>(i)] =
        model.loss(weights, windows[static_cast<size_t>(i)].window, spaces[static_cast<size_t>(thread)], {nullptr, nullptr}, 1);
  });
  std::vector<SetLoss> result;
  for (size_t s = 0; s < corpus.sets.size(); s++) {
    const TextSet& set = corpus.sets[s];
    SetLoss one;
    one.name = set.name;
    double sum = 0;
    for (size_t i = 0; i < windows.size(); i++) {
      if (windows[i].set != s) continue;
      sum += losses[i];
      one.tokens += windows[i].counted;
    }
    if (one.tokens == 0) continue;
    one.nats = sum / static_cast<double>(one.tokens);
    // Bytes of the tokens looked at: by the whole held-out text's mean when only a part was.
    if (set.held_out_bytes > 0) {
      one.bits = one.nats / std::log(2.0) * static_cast<double>(set.held_out.counted) / static_cast<double>(set.held_out_bytes);
    }
    result.push_back(one);
  }
  return result;
}

std::string json_of(const std::vector<SetLoss>& losses) {
  std::string text = "[";
  for (const SetLoss& one : losses) {
    char line[512];
    std::snprintf(line, sizeof line, "%s{\"set\":\"%s\",\"nats_per_token\":%.4f,\"bits_per_byte\":%.4f,\"tokens\":%llu}",
                  text.size() > 1 ? "," : "", one.name.c_str(), one.nats, one.bits,
                  static_cast<unsigned long long>(one.tokens));
    text += line;
  }
  return text + "]";
}

std::string train(const Setup& setup, RunState& state, const Corpus& corpus, const TrainOptions& o, const Kernels<float>& kernels,
                  Pool& pool, const std::function<bool(const std::string&)>& print, const volatile std::sig_atomic_t* stop) {
  const bool adapts = setup.adapter.rank > 0;
  const Model<float> model(setup.config, setup.adapter, kernels);
  const std::vector<Tensor>& tensors = adapts ? model.adapter_layout().tensors : model.layout().tensors;
  const long count = adapts ? model.adapter_layout().count : model.layout().count, length = setup.config.context;
  if (corpus.vocab != setup.config.vocab) return "the token file has another vocabulary size than the model";
  Windows windows(corpus, length, state.seed);
  if (const std::string fault = windows.fault(); !fault.empty()) return fault;
  const std::vector<HeldOutWindow> few = held_out_windows(corpus, length, static_cast<size_t>(o.check_windows));
  const std::vector<Chunk> chunks = chunks_of(tensors);
  const auto lanes = static_cast<size_t>(lanes_of(count, o.batch));
  std::vector<Workspace<float>> spaces(static_cast<size_t>(pool.threads()), Workspace<float>(setup.config, setup.adapter.rank));
  std::vector<std::vector<float>> gradients(lanes, std::vector<float>(static_cast<size_t>(count)));
  std::vector<double> losses(static_cast<size_t>(o.batch)), squares(chunks.size());
  float* trained = state.trained.data();
  float* first = state.moments.data();
  float* second = first + count;
  const Weights<float> weights = adapts ? Weights<float>{setup.base.data(), trained} : Weights<float>{trained, nullptr};
  const auto start = Clock::now();
  auto saved = start, told = start;
  const double processor = processor_seconds();
  const uint64_t end = o.stop_after > 0 ? std::min(o.stop_after, o.steps) : o.steps;
  uint64_t tokens = 0, counted_since = 0;
  double loss_since = 0;
  bool heard = true;
  char line[640];

  while (state.step < end) {
    const uint64_t step = state.step + 1;
    std::vector<Window> batch;
    uint64_t counted = 0;
    for (long i = 0; i < o.batch; i++) {
      batch.push_back(windows.window(state.step * static_cast<uint64_t>(o.batch) + static_cast<uint64_t>(i)));
      counted += static_cast<uint64_t>(std::count_if(batch.back().targets.begin(), batch.back().targets.end(), [](int32_t t) { return t >= 0; }));
      tokens += static_cast<uint64_t>(batch.back().size());
    }
    const double scale = 1.0 / static_cast<double>(std::max<uint64_t>(counted, 1));
    pool.run(static_cast<long>(lanes), [&](long lane, long thread) {
      std::vector<float>& gradient = gradients[static_cast<size_t>(lane)];
      std::fill(gradient.begin(), gradient.end(), 0.0f);
      const Gradient<float> to = adapts ? Gradient<float>{nullptr, gradient.data()} : Gradient<float>{gradient.data(), nullptr};
      for (size_t i = static_cast<size_t>(lane); i < batch.size(); i += lanes) {
        losses[i] = model.loss(weights, batch[i], spaces[static_cast<size_t>(thread)], to, scale);
      }
    });
    pool.run(static_cast<long>(chunks.size()), [&](long i, long) {
      const Chunk& c = chunks[static_cast<size_t>(i)];
      float* sum = gradients[0].data() + c.offset;
      for (size_t lane = 1; lane < lanes; lane++) kernels.add_to(sum, gradients[lane].data() + c.offset, c.count);
      squares[static_cast<size_t>(i)] = static_cast<double>(kernels.dot(sum, sum, c.count));
    });
    double loss = 0, square = 0;
    for (const double one : losses) loss += one;
    for (const double one : squares) square += one;
    loss_since += loss;
    counted_since += counted;
    const double norm = std::sqrt(square);
    if (!std::isfinite(loss) || !std::isfinite(norm)) return "the loss is not finite any more: lower the rate";
    AdamStep update{};
    update.rate = rate_at(o, step);
    update.beta1 = o.beta1;
    update.beta2 = o.beta2;
    update.correct1 = 1 / (1 - std::pow(o.beta1, static_cast<double>(step)));
    update.correct2 = 1 / (1 - std::pow(o.beta2, static_cast<double>(step)));
    update.epsilon = 1e-8;
    update.grad_scale = o.clip > 0 && norm > o.clip ? o.clip / norm : 1;
    pool.run(static_cast<long>(chunks.size()), [&](long i, long) {
      const Chunk& c = chunks[static_cast<size_t>(i)];
      AdamStep mine = update;
      mine.decay = c.decays ? o.decay : 0;
      kernels.adam(trained + c.offset, first + c.offset, second + c.offset, gradients[0].data() + c.offset, c.count, mine);
    });
    state.step = step;
    heard = heard && (o.parent == 0 || o.parent == static_cast<long>(getppid()));

    const bool last = step == end || *stop != 0 || !heard;
    if (last || (step % o.log_every == 0 && seconds_since(told) >= o.log_seconds)) {
      const double seconds = seconds_since(start), busy = processor_seconds() - processor;
      told = Clock::now();
      // The mean over the steps since the last line.
      const double mean = loss_since / static_cast<double>(std::max<uint64_t>(counted_since, 1));
      loss_since = 0;
      counted_since = 0;
      std::snprintf(line, sizeof line,
                    "{\"event\":\"step\",\"step\":%llu,\"loss\":%.6f,\"norm\":%.4f,\"rate\":%.8f,\"tokens\":%llu,"
                    "\"seconds\":%.2f,\"tokens_per_second\":%.0f,\"tokens_per_cpu_second\":%.0f}",
                    static_cast<unsigned long long>(step), mean, norm, update.rate, static_cast<unsigned long long>(tokens), seconds,
                    static_cast<double>(tokens) / seconds, static_cast<double>(tokens) / busy);
      heard = print(line) && heard;
    }
    const bool leaves = step == end || *stop != 0 || !heard;
    if (!few.empty() && (step % o.check_every == 0 || step == o.steps) && !(leaves && step != end)) {
      const auto now = step == o.steps ? validate(model, weights, corpus, held_out_windows(corpus, length, 0), pool, spaces)
                                       : validate(model, weights, corpus, few, pool, spaces);
      print("{\"event\":\"validation\",\"step\":" + std::to_string(step) + ",\"whole\":" + (step == o.steps ? "true" : "false") +
            ",\"sets\":" + json_of(now) + "}");
    }
    if (leaves || seconds_since(saved) >= o.save_seconds) {
      const std::string fault = write_checkpoint(o.out, state);
      if (!fault.empty()) return fault;
      saved = Clock::now();
      print("{\"event\":\"saved\",\"step\":" + std::to_string(step) + "}");
    }
    if (leaves) break;
  }
  if (state.step < o.steps && o.stop_after == 0) print("{\"event\":\"stopped\",\"step\":" + std::to_string(state.step) + "}");
  return "";
}

}  // namespace zg::train
