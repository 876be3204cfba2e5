#include "trainer.h"

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
  bool norm;
};

std::vector<Chunk> chunks_of(const Layout& layout) {
  constexpr long kChunk = 16384;
  std::vector<Chunk> chunks;
  for (const Tensor& t : layout.tensors) {
    const long count = t.rows * t.columns;
    for (long at = 0; at < count; at += kChunk) chunks.push_back({t.offset + at, std::min(kChunk, count - at), t.norm});
  }
  return chunks;
}

double rate_at(const TrainOptions& o, uint64_t step) {
  if (step <= o.warmup) return o.rate * static_cast<double>(step) / static_cast<double>(o.warmup);
  const double part = static_cast<double>(step - o.warmup) / static_cast<double>(std::max<uint64_t>(1, o.steps - o.warmup));
  const double cosine = 0.5 * (1 + std::cos(3.14159265358979323846 * std::min(1.0, part)));
  return o.rate * (o.final_rate + (1 - o.final_rate) * cosine);
}

}  // namespace

std::vector<SetLoss> validate(const Model<float>& model, const float* parameters, const Corpus& corpus, long windows,
                              Pool& pool, std::vector<Workspace<float>>& spaces) {
  const long length = model.config().context;
  std::vector<HeldOutWindow> all = held_out_windows(corpus, length);
  if (windows > 0 && static_cast<size_t>(windows) < all.size()) {
    std::vector<HeldOutWindow> some;
    for (size_t i = 0; i < static_cast<size_t>(windows); i++) some.push_back(all[i * all.size() / static_cast<size_t>(windows)]);
    all = std::move(some);
  }
  std::vector<double> losses(all.size());
  pool.run(static_cast<long>(all.size()), [&](long i, long thread) {
    std::vector<int32_t> tokens(static_cast<size_t>(length)), targets(static_cast<size_t>(length));
    const HeldOutWindow& window = all[static_cast<size_t>(i)];
    fill_held_out(corpus, window, tokens.data(), targets.data());
    losses[static_cast<size_t>(i)] = model.loss(parameters, tokens.data(), targets.data(), window.length,
                                                spaces[static_cast<size_t>(thread)], nullptr, 1);
  });
  std::vector<SetLoss> result;
  for (size_t s = 0; s < corpus.sets.size(); s++) {
    const TextSet& set = corpus.sets[s];
    SetLoss one;
    one.name = set.name;
    double sum = 0;
    for (size_t i = 0; i < all.size(); i++) {
      if (all[i].set != s) continue;
      sum += losses[i];
      one.tokens += static_cast<uint64_t>(all[i].length);
    }
    if (one.tokens == 0) continue;
    one.nats = sum / static_cast<double>(one.tokens);
    // Bytes of the tokens looked at: by the whole held-out text's mean when only a part was.
    one.bits = one.nats / std::log(2.0) * static_cast<double>(set.held_out.size()) / static_cast<double>(set.held_out_bytes);
    result.push_back(one);
  }
  return result;
}

std::string json_of(const std::vector<SetLoss>& losses) {
  std::string text = "[";
  for (const SetLoss& one : losses) {
    char line[256];
    std::snprintf(line, sizeof line, "%s{\"set\":\"%s\",\"nats_per_token\":%.4f,\"bits_per_byte\":%.4f,\"tokens\":%llu}",
                  text.size() > 1 ? "," : "", one.name.c_str(), one.nats, one.bits,
                  static_cast<unsigned long long>(one.tokens));
    text += line;
  }
  return text + "]";
}

std::string train(RunState& state, const Corpus& corpus, const TrainOptions& o, const Kernels<float>& kernels, Pool& pool,
                  const std::function<void(const std::string&)>& print) {
  const Model<float> model(state.config, kernels);
  const long count = model.layout().count, length = state.config.context;
  if (corpus.vocab != state.config.vocab) return "the token file has another vocabulary size than the model";
  const std::vector<Chunk> chunks = chunks_of(model.layout());
  std::vector<Workspace<float>> spaces(static_cast<size_t>(pool.threads()), Workspace<float>(state.config));
  std::vector<std::vector<float>> gradients(static_cast<size_t>(o.batch), std::vector<float>(static_cast<size_t>(count)));
  std::vector<double> losses(static_cast<size_t>(o.batch)), squares(chunks.size());
  float* parameters = state.parameters.data();
  float* first = state.moments.data();
  float* second = first + count;
  const auto start = Clock::now();
  auto saved = start;
  const uint64_t begin = state.step, end = o.stop_after > 0 ? std::min(o.stop_after, o.steps) : o.steps;
  const double scale = 1.0 / (static_cast<double>(o.batch) * static_cast<double>(length));
  char line[512];

  while (state.step < end) {
    const uint64_t step = state.step + 1;
    pool.run(o.batch, [&](long lane, long thread) {
      std::vector<int32_t> tokens(static_cast<size_t>(length)), targets(static_cast<size_t>(length));
      draw_window(corpus, state.seed, state.step * static_cast<uint64_t>(o.batch) + static_cast<uint64_t>(lane), length,
                  tokens.data(), targets.data());
      std::vector<float>& gradient = gradients[static_cast<size_t>(lane)];
      std::fill(gradient.begin(), gradient.end(), 0.0f);
      losses[static_cast<size_t>(lane)] = model.loss(parameters, tokens.data(), targets.data(), length,
                                                     spaces[static_cast<size_t>(thread)], gradient.data(), scale);
    });
    pool.run(static_cast<long>(chunks.size()), [&](long i, long) {
      const Chunk& c = chunks[static_cast<size_t>(i)];
      float* sum = gradients[0].data() + c.offset;
      for (size_t lane = 1; lane < gradients.size(); lane++) {
        kernels.add_to(sum, gradients[lane].data() + c.offset, c.count);
      }
      squares[static_cast<size_t>(i)] = static_cast<double>(kernels.dot(sum, sum, c.count));
    });
    double loss = 0, square = 0;
    for (const double one : losses) loss += one;
    for (const double one : squares) square += one;
    loss *= scale;
    const double norm = std::sqrt(square);
    if (!std::isfinite(loss) || !std::isfinite(norm)) return "the loss is not finite any more: lower --rate";
    AdamStep update{};
    update.rate = rate_at(o, step);
    update.beta1 = o.beta1;
    update.beta2 = o.beta2;
    update.correct1 = 1 / (1 - std::pow(o.beta1, static_cast<double>(step)));
    update.correct2 = 1 / (1 - std::pow(o.beta2, static_cast<double>(step)));
    update.epsilon = 1e-8;
    update.grad_scale = norm > o.clip ? o.clip / norm : 1;
    pool.run(static_cast<long>(chunks.size()), [&](long i, long) {
      const Chunk& c = chunks[static_cast<size_t>(i)];
      AdamStep mine = update;
      mine.decay = c.norm ? 0 : o.decay;
      kernels.adam(parameters + c.offset, first + c.offset, second + c.offset, gradients[0].data() + c.offset, c.count, mine);
    });
    state.step = step;

    const double seconds = seconds_since(start);
    const double tokens = static_cast<double>(step - begin) * static_cast<double>(o.batch * length);
    if (step % o.log_every == 0 || step == end) {
      std::snprintf(line, sizeof line,
                    "{\"event\":\"step\",\"step\":%llu,\"loss\":%.6f,\"norm\":%.4f,\"rate\":%.6f,\"tokens\":%.0f,"
                    "\"seconds\":%.2f,\"tokens_per_second\":%.0f}",
                    static_cast<unsigned long long>(step), loss, norm, update.rate, tokens, seconds, tokens / seconds);
      print(line);
    }
    if (step % o.check_every == 0 || step == end) {
      const auto losses_now = validate(model, parameters, corpus, step == end ? 0 : o.check_windows, pool, spaces);
      print("{\"event\":\"validation\",\"step\":" + std::to_string(step) + ",\"sets\":" + json_of(losses_now) + "}");
    }
    if (!o.out.empty() && (step == end || seconds_since(saved) >= o.save_seconds)) {
      const std::string fault = write_checkpoint(o.out, state);
      if (!fault.empty()) return fault;
      saved = Clock::now();
      print("{\"event\":\"saved\",\"step\":" + std::to_string(step) + "}");
    }
  }
  return "";
}

}  // namespace zg::train
