// The scheduler over the CUDA back end against the scheduler over the CPU's: random requests to random models, alone and many at once, with
// shared beginnings, guesses and a cache too small for all. Tokens and running hashes must be equal.
#include "schedule_check.h"

#include <stdio.h>
#include <string.h>

#include <chrono>
#include <condition_variable>
#include <mutex>

#include "../scheduler.h"
#include "backend.h"

namespace zg::simt {
namespace {

using infer::Digest;

struct Answer {
  std::vector<uint32_t> tokens;
  std::vector<Digest> hashes;
  bool failed = false;
  bool over = false;
};

// Hands all requests in, and waits for all answers.
std::vector<Answer> answers(std::unique_ptr<infer::Backend> backend, const std::vector<infer::Request>& requests, uint32_t running,
                            unsigned threads, double* seconds) {
  std::mutex mutex;
  std::condition_variable wake;
  bool news = false;
  infer::Limits limits;
  limits.context = 512;
  limits.waiting = 1'000;
  limits.running = running;
  limits.threads = threads;
  // Vocabularies are small here: all that many sequences draw is shared.
  if (running > 8) limits.shared_values = 0;
  infer::Scheduler scheduler(std::move(backend), nullptr, limits, [&] {
    const std::lock_guard lock(mutex);
    news = true;
    wake.notify_one();
  });
  std::vector<Answer> out(requests.size());
  const auto began = std::chrono::steady_clock::now();
  if (!scheduler.start()) return out;
  std::vector<size_t> of{0};
  for (size_t i = 0; i < requests.size(); i++) {
    uint32_t id = 0;
    if (scheduler.submit(requests[i], &id) != infer::Submitted::kYes) return out;
    of.resize(id + 1);
    of[id] = i;
  }
  for (size_t open = requests.size(); open > 0;) {
    std::unique_lock lock(mutex);
    wake.wait(lock, [&] { return news; });
    news = false;
    lock.unlock();
    for (const infer::Event& e : scheduler.take()) {
      Answer& a = out[of[e.request]];
      if (e.has_token) a.tokens.push_back(e.token);
      if (e.has_trace) a.hashes.push_back(e.running);
      if (e.finish == infer::Finish::kFailed) a.failed = true;
      if (e.finish != infer::Finish::kNone) a.over = true, open--;
    }
  }
  *seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  return out;
}

std::vector<infer::Request> random_requests(uint32_t count, uint32_t vocabulary, uint32_t longest) {
  uint32_t seed = 77;
  const auto below = [&](uint32_t n) {
    seed = seed * 1664525u + 1013904223u;
    return seed / 65536u % n;
  };
  std::vector<infer::Request> out(count);
  for (uint32_t i = 0; i < count; i++) {
    infer::Request& r = out[i];
    const uint32_t length = 1 + below(longest);
    // Half begin alike, so that pages are shared.
    for (uint32_t t = 0; t < length; t++) r.prompt.push_back(i % 2 == 0 ? (t * 7 + 3) % vocabulary : below(vocabulary));
    r.max_tokens = 4 + below(longest / 2);
    r.sampling.temperature = i % 3 == 0 ? 0.0f : 0.8f;
    r.sampling.seed = i;
    r.salt = "x";
    r.account = i % 4 == 0 ? "a" : "b";
    r.trace.emplace();
  }
  return out;
}

}  // namespace

bool compare_schedules(const det::RandomShape& shape, uint32_t requests, uint32_t longest, unsigned threads) {
  const std::shared_ptr<const det::Model> model = det::random_model(shape, 11);
  const std::vector<infer::Request> list = random_requests(requests, shape.vocabulary, longest);
  std::string why;
  cpu::Options options;
  options.threads = threads;
  double cpu_seconds = 0;
  std::unique_ptr<cpu::Engine> engine = cpu::Engine::load(model, options, &why);
  if (engine == nullptr) return printf("schedule: %s\n", why.c_str()), false;
  const std::vector<Answer> want = answers(infer::cpu_backend(std::move(engine)), list, 8, 1, &cpu_seconds);
  bool ok = true;
  uint64_t compared = 0;
  for (const uint32_t running : {1u, 8u, 32u}) {
    infer::BackendOptions o;
    o.positions = 512;
    o.sequences = running;
    o.threads = threads;
    const uint64_t page = uint64_t{2} * model->layers.size() * uint32_t{ZG_PAGE} * model->kv_width() * 2;
    // The last one has to take pages back.
    o.cache_bytes = page * (running == 32 ? 2 * longest / uint32_t{ZG_PAGE} + 8 : 2'000);
    std::unique_ptr<infer::Backend> backend = open_backend(model, o, &why);
    if (backend == nullptr) return printf("schedule: %s\n", why.c_str()), false;
    double seconds = 0;
    const std::vector<Answer> got = answers(std::move(backend), list, running, threads, &seconds);
    uint64_t tokens = 0;
    for (size_t i = 0; i < list.size(); i++) {
      const bool same = got[i].over && !got[i].failed && got[i].tokens == want[i].tokens && got[i].hashes == want[i].hashes;
      if (!same) printf("schedule: request %zu of %u at once differs\n", i, running);
      ok = ok && same;
      tokens += got[i].tokens.size();
    }
    compared += tokens;
    printf("schedule: %u at once, %llu tokens in %.2f s\n", running, static_cast<unsigned long long>(tokens), seconds);
  }
  printf("schedule over the CPU and the device: %s, %llu tokens with hashes (CPU %.2f s)\n", ok ? "equal" : "DIFFERENT",
         static_cast<unsigned long long>(compared), cpu_seconds);
  return ok && compared > 0;
}

}  // namespace zg::simt
