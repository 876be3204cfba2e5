// Runs requests: one thread owns the forward pass and shares each of its steps between all sequences (inference.md 8). Every sequence that
// decodes gets one token a step, or several with a draft; what is left of a step goes to prompts in chunks.
//
// Who comes next is the account that was served least. A request starts when its prompt fits into the cache; when the cache runs out later,
// the youngest one gives its pages back and is computed again, with the same result.
#pragma once

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "backend.h"
#include "draft.h"
#include "placement.h"
#include "prefix.h"
#include "sampler.h"
#include "trace.h"

namespace zg::infer {

struct Request {
  // At least one id, each below the vocabulary's size.
  std::vector<uint32_t> prompt;
  // Tokens of an answer that exists: each is followed whatever would be drawn, and events tell what would have been.
  std::vector<uint32_t> forced;
  // At least one; as many as forced ones.
  uint32_t max_tokens = 1;
  SamplingOptions sampling;
  std::vector<uint32_t> end_ids;
  // The prompt from here on was drawn before: it counts as part of the answer.
  uint32_t output_from = UINT32_MAX;
  // An event for each token of the prompt but the first, with its log-probability, comes before those of the answer.
  bool prompt_logprobs = false;
  // Not an answer but the prompt's states behind the final norm: their mean, or the last one.
  enum class Pooling : uint8_t { kNone, kMean, kLast };
  Pooling pooling = Pooling::kNone;
  bool logprobs = false;
  uint32_t alternatives = 0;
  // Whose request it is, for the order of service.
  std::string account;
  // Requests of equal salt share pages of equal beginnings; absent: with nobody.
  std::optional<std::string> salt;
  // Guess tokens by looking them up.
  bool look_up = true;
  // Where the running hash starts; absent: no digests.
  std::optional<Digest> trace;
  // Changes to the weights; nullptr: none. Its salt must differ from that of requests with others.
  std::shared_ptr<const cpu::AdapterSet> adapters;
};

enum class Finish : uint32_t {
  kNone = 0,
  // An end id was drawn.
  kStop = 1,
  kLength = 2,
  kCancelled = 3,
  // Values stopped being finite, or memory ran out.
  kFailed = 4,
  // Waited longer than allowed.
  kExpired = 5,
};

// In place of a layer: a grammar that cannot be followed, a device that failed.
constexpr uint32_t kNoWay = UINT32_MAX;
constexpr uint32_t kDeviceLost = UINT32_MAX - 1;

struct Event {
  uint32_t request = 0;
  Finish finish = Finish::kNone;
  bool has_token = false;
  // The one drawn.
  uint32_t token = 0;
  // With kFailed: see Row; 0 is lack of memory; kNoWay, kDeviceLost.
  uint32_t failed_layer = 0;
  bool has_logprob = false;
  // Of the token that follows: the drawn one, or the forced one.
  float logprob = 0;
  // Or, at the end of a pooled prompt, the pooled state: index and value.
  std::vector<Alternative> best{};
  // Tokens of the prompt whose keys and values were there already.
  uint32_t cached = 0;
  bool has_trace = false;
  // Of the final state that predicts the token; the running hash with the token that follows.
  Digest hidden{}, running{};
};

struct Limits {
  // Positions of a sequence, prompt and answer together.
  uint32_t context = 0;
  uint32_t waiting = 256;
  uint32_t running = 64;
  // Longest wait for a start; 0: any.
  uint32_t patience_ms = 0;
  // Of keys and values, which the scheduler's thread takes.
  Placement placement{};
  // That draw tokens, when the engine has no threads of its own; logits of a step from which on several draw: some tens of microseconds' work.
  unsigned threads = 1;
  size_t shared_values = 200'000;
};

enum class Submitted { kYes, kQueueFull, kTooLarge, kStopped, kDeviceLost };

// Counts since the start, and what is now.
struct Stats {
  uint32_t running = 0;
  uint32_t waiting = 0;
  uint32_t accounts = 0;
  // Pages that sequences hold, that only remember a beginning, and all there may be; bytes of one.
  uint32_t pages_used = 0;
  uint32_t pages_idle = 0;
  uint32_t pages = 0;
  uint64_t page_bytes = 0;
  uint64_t steps = 0;
  uint64_t rows = 0;
  uint64_t prompt_tokens = 0;
  uint64_t cached_tokens = 0;
  uint64_t tokens = 0;
  uint64_t drafted = 0;
  uint64_t accepted = 0;
  uint64_t preempted = 0;
  uint64_t cancelled = 0;
  uint64_t expired = 0;
  uint64_t busy_ns = 0;
};

class Scheduler {
 public:
  // The engine's pages bound what runs at once. notify is called on the scheduler's thread when take() has something after it had nothing.
  // draft: a smaller model of the same vocabulary, or nullptr.
  Scheduler(std::unique_ptr<Backend> engine, std::unique_ptr<Backend> draft, Limits limits, std::function<void()> notify);
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
  Stats stats();
  // Why the device is of no use any more, or empty.
  std::string fault();

 private:
  struct Account;
  struct Task;
  struct Queue;
  struct Span {
    Task* task;
    size_t first;
    size_t count;
    // What came of it: rows that stand, those of them in a prompt, tokens.
    size_t used = 0;
    uint32_t prompt = 0;
    uint32_t tokens = 0;
    bool drafted = false;
  };
  // Of a row whose request wants them.
  struct Traced {
    Digest hidden, logits;
  };

  static void* enter(void* self);
  void work();
  bool admit();
  bool begin(Task* task);
  void yield_to_poorer();
  void step();
  void collect(std::vector<cpu::Row>* rows, std::vector<Span>* spans);
  void collect_decoding(std::vector<cpu::Row>* rows, std::vector<Span>* spans);
  void collect_prompts(std::vector<cpu::Row>* rows, std::vector<Span>* spans);
  std::vector<std::vector<uint32_t>> drafts(const std::vector<Task*>& decoding);
  bool make_room(Task* task, size_t positions);
  bool share_known(Task* task);
  void remember(Task* task);
  void preempt(Task* task);
  void release(Task* task);
  void use(const std::vector<Span>& spans, const std::vector<cpu::Row>& rows);
  void draw(Span* span, const std::vector<cpu::Row>& rows) const;
  bool sample(const cpu::Row& row, const Traced& traced, Task* task) const;
  bool pool(const cpu::Row& row, Task* task) const;
  static void finish(Task* task, Event event);
  void each(size_t count, size_t values, const std::function<void(size_t)>& body);
  void gather();
  void lose_device();
  void remove_finished();
  void publish();

  // The thread's own.
  const std::unique_ptr<Backend> engine_;
  std::unique_ptr<DraftModel> draft_;
  const Limits limits_;
  const std::function<void()> notify_;
  std::unique_ptr<PrefixCache> prefixes_;
  std::vector<Event> fresh_;
  // By row of a step; empty when none is traced.
  std::vector<Traced> traced_;
  std::unique_ptr<cpu::Workers> own_workers_;

  pthread_t thread_{};
  bool started_ = false;
  std::mutex join_mutex_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;
  // Under the mutex.
  std::string fault_;
  // Ends the forward pass between two layers.
  std::atomic<bool> abort_{false};
  uint32_t next_id_ = 1;
  // Under the mutex; tasks of it are the thread's alone but for their mark of cancellation.
  const std::unique_ptr<Queue> queue_;
  // Oldest first. Changed by the thread alone, under the mutex.
  std::vector<std::unique_ptr<Task>> running_;
  Stats stats_;
  std::vector<Event> events_;
};

}  // namespace zg::infer
