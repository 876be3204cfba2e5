#include "scheduler.h"

#include <algorithm>

namespace zg::infer {
namespace {

// Positions of one step while nobody else waits for a token, and while somebody does.
constexpr size_t kStepAlone = 256;
constexpr size_t kStepShared = 32;

bool contains(const std::vector<uint32_t>& ids, uint32_t id) { return std::find(ids.begin(), ids.end(), id) != ids.end(); }

}  // namespace

Scheduler::Scheduler(std::unique_ptr<cpu::Engine> engine, Limits limits, std::function<void()> notify)
    : engine_(std::move(engine)), limits_(limits), notify_(std::move(notify)) {}

Scheduler::~Scheduler() { stop(); }

bool Scheduler::start() {
  started_ = pthread_create(&thread_, nullptr, enter, this) == 0;
  return started_;
}

void* Scheduler::enter(void* self) {
  static_cast<Scheduler*>(self)->work();
  return nullptr;
}

Submitted Scheduler::submit(Request request, uint32_t* id) {
  auto sequence = std::make_unique<Sequence>();
  const uint64_t positions = request.prompt.size() + request.max_tokens;
  sequence->reserved = static_cast<uint32_t>((std::min<uint64_t>(positions, limits_.context) + ZG_PAGE - 1) / ZG_PAGE);
  sequence->request = std::move(request);
  if (sequence->reserved > engine_->pages().limit()) return Submitted::kTooLarge;
  const std::lock_guard lock(mutex_);
  if (stop_) return Submitted::kStopped;
  if (waiting_.size() >= limits_.waiting) return Submitted::kQueueFull;
  sequence->id = *id = next_id_++;
  waiting_.push_back(std::move(sequence));
  wake_.notify_one();
  return Submitted::kYes;
}

void Scheduler::cancel(uint32_t id) {
  const std::lock_guard lock(mutex_);
  for (auto& s : running_) {
    if (s->id != id) continue;
    s->cancelled = true;
    // Others of the same step keep their work.
    if (running_.size() == 1) abort_ = true;
  }
  for (auto& s : waiting_) {
    if (s->id == id) s->cancelled = true;
  }
  wake_.notify_one();
}

std::vector<Event> Scheduler::take() {
  const std::lock_guard lock(mutex_);
  return std::exchange(events_, {});
}

Scheduler::Stats Scheduler::stats() {
  const std::lock_guard lock(mutex_);
  return {static_cast<uint32_t>(running_.size()), static_cast<uint32_t>(waiting_.size()),
          pages_in_use_ * uint64_t{engine_->pages().shape().bytes()}};
}

void Scheduler::stop() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    abort_ = true;
  }
  wake_.notify_one();
  const std::lock_guard join(join_mutex_);
  if (started_) pthread_join(thread_, nullptr);
  started_ = false;
}

void Scheduler::work() {
  while (admit()) step();
  const std::lock_guard lock(mutex_);
  running_.clear();
  waiting_.clear();
  pages_in_use_ = 0;
}

// Moves waiting requests into the running ones as far as there is room; sleeps while there is nothing to do. False: stop.
bool Scheduler::admit() {
  std::vector<Event> events;
  {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [this] { return stop_ || !running_.empty() || !waiting_.empty(); });
    if (stop_) return false;
    abort_ = false;
    // The cancelled ones need no room.
    for (auto& s : waiting_) {
      if (!s->cancelled) continue;
      events.push_back({.request = s->id, .finish = Finish::kCancelled});
      s->finished = true;
    }
    std::erase_if(waiting_, [](const auto& s) { return s->finished; });
    while (!waiting_.empty() && running_.size() < limits_.running) {
      Sequence& s = *waiting_.front();
      if (s.reserved > engine_->pages().limit() - pages_in_use_) break;
      pages_in_use_ += s.reserved;
      s.cache = std::make_unique<cpu::Sequence>(&engine_->pages());
      s.sampler = std::make_unique<Sampler>(s.request.sampling);
      for (size_t i = 0; i < s.request.prompt.size(); i++) s.sampler->saw(s.request.prompt[i], i >= s.request.output_from, true);
      running_.push_back(std::move(waiting_.front()));
      waiting_.pop_front();
    }
  }
  publish(std::move(events));
  return true;
}

void Scheduler::step() {
  std::vector<Event> events;
  finish_cancelled(&events);
  std::vector<cpu::Row> rows;
  std::vector<Sequence*> owners;
  collect(&rows, &owners);
  for (size_t i = 0; i < rows.size();) {
    Sequence& s = *owners[i];
    if (s.cache->reserve(rows[i].position + 1)) {
      i++;
      continue;
    }
    events.push_back({.request = s.id, .finish = Finish::kFailed});
    s.finished = true;
    // Rows of a sequence lie together.
    size_t end = i;
    while (end < rows.size() && owners[end] == &s) end++;
    rows.erase(rows.begin() + static_cast<ptrdiff_t>(i), rows.begin() + static_cast<ptrdiff_t>(end));
    owners.erase(owners.begin() + static_cast<ptrdiff_t>(i), owners.begin() + static_cast<ptrdiff_t>(end));
  }
  if (!rows.empty() && engine_->run(&rows, &abort_)) {
    for (size_t i = 0; i < rows.size(); i++) sample(rows[i], owners[i], &events);
  }
  remove_finished();
  publish(std::move(events));
}

void Scheduler::finish_cancelled(std::vector<Event>* events) {
  for (auto& s : running_) {
    if (!s->cancelled) continue;
    events->push_back({.request = s->id, .finish = Finish::kCancelled});
    s->finished = true;
  }
  remove_finished();
}

// What this step computes: a token for each sequence that decodes, then prompts in the order they came.
void Scheduler::collect(std::vector<cpu::Row>* rows, std::vector<Sequence*>* owners) {
  const auto add = [&](Sequence& s, uint32_t position, uint32_t token, bool wants) {
    rows->push_back({.sequence = s.cache.get(), .position = position, .token = token, .wants_logits = wants});
    owners->push_back(&s);
  };
  for (auto& s : running_) {
    if (s->drawn > 0) add(*s, s->done, s->last, true);
  }
  const size_t room = running_.size() == 1 ? kStepAlone : rows->size() + kStepShared;
  for (auto& s : running_) {
    if (s->drawn > 0) continue;
    const std::vector<uint32_t>& prompt = s->request.prompt;
    for (uint32_t i = s->done; i < prompt.size() && rows->size() < room; i++) {
      add(*s, i, prompt[i], s->request.prompt_logprobs || i + 1 == prompt.size());
    }
  }
}

void Scheduler::sample(const cpu::Row& row, Sequence* s, std::vector<Event>* events) {
  if (s->finished) return;
  s->done = row.position + 1;
  if (row.failed_layer != 0) {
    events->push_back({.request = s->id, .finish = Finish::kFailed, .failed_layer = row.failed_layer});
    s->finished = true;
    return;
  }
  if (row.logits == nullptr) return;
  Event e{.request = s->id, .has_token = true};
  if (s->done < s->request.prompt.size()) {
    e.token = s->request.prompt[s->done];
    e.has_logprob = true;
    e.logprob = s->sampler->logprob_of(row.logits, engine_->model().vocabulary, e.token, s->request.alternatives, &e.best);
    events->push_back(std::move(e));
    return;
  }
  e.token = s->sampler->next(row.logits, engine_->model().vocabulary, s->done);
  if (s->request.logprobs) {
    e.has_logprob = true;
    e.logprob = s->sampler->logprob(e.token, s->request.alternatives, &e.best);
  }
  if (!s->sampler->stuck()) s->sampler->saw(e.token, true);
  if (s->sampler->stuck()) {
    events->push_back({.request = s->id, .finish = Finish::kFailed, .failed_layer = kNoWay});
    s->finished = true;
    return;
  }
  s->last = e.token;
  s->drawn++;
  if (contains(s->request.end_ids, e.token) || s->sampler->complete()) {
    e.finish = Finish::kStop;
  } else if (s->drawn >= s->request.max_tokens || s->done + 1 > limits_.context) {
    e.finish = Finish::kLength;
  }
  s->finished = e.finish != Finish::kNone;
  events->push_back(std::move(e));
}

void Scheduler::remove_finished() {
  const std::lock_guard lock(mutex_);
  std::erase_if(running_, [this](const auto& s) {
    if (s->finished) pages_in_use_ -= s->reserved;
    return s->finished;
  });
}

void Scheduler::publish(std::vector<Event> events) {
  if (events.empty()) return;
  bool first = false;
  {
    const std::lock_guard lock(mutex_);
    first = events_.empty();
    std::move(events.begin(), events.end(), std::back_inserter(events_));
  }
  if (first) notify_();
}

}  // namespace zg::infer
