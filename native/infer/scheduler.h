// Runs requests: one thread owns the forward pass and shares each of its steps between all sequences (inference.md section 8). Every
// sequence that decodes gets one token a step; what is left of a step goes to prompts, first come first served.
#pragma once

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "cpu/engine.h"
#include "sampler.h"

namespace zg::infer {

struct Request {
  // At least one id, each below the vocabulary's size.
  std::vector<uint32_t> prompt;
  // At least one.
  uint32_t max_tokens = 1;
  SamplingOptions sampling;
  std::vector<uint32_t> end_ids;
  // The prompt from here on was drawn before: it counts as part of the answer.
  uint32_t output_from = UINT32_MAX;
  // An event for each token of the prompt but the first, with its log-probability, comes before those of the answer.
  bool prompt_logprobs = false;
  bool logprobs = false;
  uint32_t alternatives = 0;
};

enum class Finish : uint32_t {
  kNone = 0,
  // An end id was drawn.
  kStop = 1,
  kLength = 2,
  kCancelled = 3,
  // Values stopped being finite, or memory ran out.
  kFailed = 4,
};

// In place of a layer.
constexpr uint32_t kNoWay = UINT32_MAX;

struct Event {
  uint32_t request = 0;
  Finish finish = Finish::kNone;
  bool has_token = false;
  uint32_t token = 0;
  // With kFailed: see Row; 0 is lack of memory, kNoWay a grammar that cannot be followed.
  uint32_t failed_layer = 0;
  bool has_logprob = false;
  float logprob = 0;
  std::vector<Alternative> best{};
};

struct Limits {
  // Positions of a sequence, prompt and answer together.
  uint32_t context = 0;
  uint32_t waiting = 256;
  uint32_t running = 32;
};

enum class Submitted { kYes, kQueueFull, kTooLarge, kStopped };

class Scheduler {
 public:
  // The engine's pages bound what runs at once. notify is called on the scheduler's thread when take() has something after it had nothing.
  Scheduler(std::unique_ptr<cpu::Engine> engine, Limits limits, std::function<void()> notify);
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  // Starts the thread; false when the system refuses.
  bool start();
  // Queues a request. Its events carry the id, from 1 on.
  Submitted submit(Request request, uint32_t* id);
  // Ends a request between two steps; its last event says so. Unknown and finished ids are ignored.
  void cancel(uint32_t id);
  // Events since the last call, in order.
  std::vector<Event> take();
  // Ends the thread: running and waiting requests end without further events. Safe to call twice and from two threads.
  void stop();

  struct Stats {
    uint32_t running = 0;
    uint32_t waiting = 0;
    uint64_t cache_bytes = 0;
  };
  Stats stats();

 private:
  struct Sequence {
    uint32_t id = 0;
    Request request;
    std::unique_ptr<cpu::Sequence> cache;
    std::unique_ptr<Sampler> sampler;
    // Pages set aside.
    uint32_t reserved = 0;
    // Positions computed, and ids drawn of which the last is not computed yet.
    uint32_t done = 0;
    uint32_t drawn = 0;
    uint32_t last = 0;
    bool finished = false;
    std::atomic<bool> cancelled{false};
  };

  static void* enter(void* self);
  void work();
  bool admit();
  void step();
  void collect(std::vector<cpu::Row>* rows, std::vector<Sequence*>* owners);
  void sample(const cpu::Row& row, Sequence* sequence, std::vector<Event>* events);
  void finish_cancelled(std::vector<Event>* events);
  void remove_finished();
  void publish(std::vector<Event> events);

  // The thread's own.
  const std::unique_ptr<cpu::Engine> engine_;
  const Limits limits_;
  const std::function<void()> notify_;

  pthread_t thread_{};
  bool started_ = false;
  std::mutex join_mutex_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;
  // Ends the forward pass between two layers.
  std::atomic<bool> abort_{false};
  uint32_t next_id_ = 1;
  std::deque<std::unique_ptr<Sequence>> waiting_;
  // Changed by the thread alone, under the mutex.
  std::vector<std::unique_ptr<Sequence>> running_;
  uint32_t pages_in_use_ = 0;
  std::vector<Event> events_;
};

}  // namespace zg::infer
