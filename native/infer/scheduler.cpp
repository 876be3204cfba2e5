#include "scheduler.h"

#include <algorithm>

#include "queue.h"

namespace zg::infer {
namespace {

using std::chrono::steady_clock;

// Rows of a step whose logits are wanted for an answer that exists: a vocabulary's floats each.
constexpr size_t kForcedRows = 96;
// Rows up to which drafts pay: from there on a step is arithmetic, not reading.
constexpr size_t kDraftRows = 8;

bool contains(const std::vector<uint32_t>& ids, uint32_t id) { return std::find(ids.begin(), ids.end(), id) != ids.end(); }

}  // namespace

Scheduler::Scheduler(std::unique_ptr<Backend> engine, std::unique_ptr<Backend> draft, Limits limits, std::function<void()> notify)
    : engine_(std::move(engine)),
      draft_(draft == nullptr ? nullptr : std::make_unique<DraftModel>(std::move(draft))),
      limits_(limits),
      notify_(std::move(notify)),
      prefixes_(std::make_unique<PrefixCache>(&engine_->pages())),
      queue_(std::make_unique<Queue>()) {
  stats_.pages = engine_->pages().limit();
  stats_.page_bytes = engine_->page_bytes();
  if (engine_->workers() == nullptr && limits_.threads > 1) own_workers_ = std::make_unique<cpu::Workers>(limits_.threads);
}

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
  auto task = std::make_unique<Task>();
  const uint64_t positions = std::min<uint64_t>(request.prompt.size() + request.max_tokens, limits_.context);
  // It must be able to end when it is alone.
  if ((positions + ZG_PAGE - 1) / ZG_PAGE > engine_->pages().limit()) return Submitted::kTooLarge;
  task->tokens = request.prompt;
  task->tokens.insert(task->tokens.end(), request.forced.begin(), request.forced.end());
  if (request.trace) task->running_hash = *request.trace;
  task->request = std::move(request);
  task->since = steady_clock::now();
  {
    const std::lock_guard lock(mutex_);
    if (stop_) return Submitted::kStopped;
    if (!fault_.empty()) return Submitted::kDeviceLost;
    if (queue_->count >= limits_.waiting) return Submitted::kQueueFull;
    task->id = *id = next_id_++;
    queue_->push(std::move(task));
  }
  // Whoever wakes finds the mutex free.
  wake_.notify_one();
  return Submitted::kYes;
}

void Scheduler::cancel(uint32_t id) {
  const std::lock_guard lock(mutex_);
  for (auto& task : running_) {
    if (task->id != id) continue;
    task->cancelled = true;
    // Others of the same step keep their work.
    if (running_.size() == 1) abort_ = true;
  }
  for (auto& [name, account] : queue_->accounts) {
    for (auto& task : account->waiting) {
      if (task->id == id) task->cancelled = true;
    }
  }
  wake_.notify_one();
}

std::vector<Event> Scheduler::take() {
  const std::lock_guard lock(mutex_);
  return std::exchange(events_, {});
}

Stats Scheduler::stats() {
  const std::lock_guard lock(mutex_);
  Stats s = stats_;
  s.running = static_cast<uint32_t>(running_.size());
  s.waiting = queue_->count;
  s.accounts = static_cast<uint32_t>(queue_->accounts.size());
  return s;
}

std::string Scheduler::fault() {
  const std::lock_guard lock(mutex_);
  return fault_;
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
  engine_->pin_caller();
  // Loading was refused where this is.
  std::string why;
  place(limits_.placement, &why);
  while (admit()) step();
  const std::lock_guard lock(mutex_);
  for (auto& task : running_) release(task.get());
  running_.clear();
  for (auto& [name, account] : queue_->accounts) account->waiting.clear();
  queue_->accounts.clear();
  queue_->count = 0;
}

// Moves waiting requests into the running ones as far as there is room; sleeps while there is nothing to do. False: stop.
bool Scheduler::admit() {
  {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [this] { return stop_ || !running_.empty() || queue_->count > 0; });
    if (stop_) return false;
    abort_ = false;
    // Those that are cancelled or have waited too long need no room.
    const auto now = steady_clock::now();
    std::vector<Account*> left;
    for (auto& [name, account] : queue_->accounts) {
      const size_t before = account->waiting.size();
      std::erase_if(account->waiting, [&](const auto& task) {
        const bool expired = !task->began && limits_.patience_ms > 0 && now - task->since > std::chrono::milliseconds(limits_.patience_ms);
        if (!task->cancelled && !expired) return false;
        (task->cancelled ? stats_.cancelled : stats_.expired)++;
        fresh_.push_back({.request = task->id, .finish = task->cancelled ? Finish::kCancelled : Finish::kExpired});
        return true;
      });
      queue_->count -= static_cast<uint32_t>(before - account->waiting.size());
      if (before != account->waiting.size()) left.push_back(account.get());
    }
    for (Account* account : left) queue_->leave(account);
    if (running_.size() >= limits_.running) yield_to_poorer();
    while (running_.size() < limits_.running) {
      Account* account = queue_->next();
      if (account == nullptr) break;
      if (!begin(account->waiting.front().get())) {
        if (!running_.empty()) break;
        // Alone, and still the system has no memory for it.
        fresh_.push_back({.request = queue_->pop(account)->id, .finish = Finish::kFailed});
        queue_->leave(account);
        continue;
      }
      account->running++;
      running_.push_back(queue_->pop(account));
    }
  }
  publish();
  return true;
}

// All places are taken, and somebody waits who has none or few: the youngest request of whoever has most steps back. What it computed stays
// in the cache while there is room.
void Scheduler::yield_to_poorer() {
  const Account* poor = queue_->next();
  if (poor == nullptr) return;
  Task* youngest = nullptr;
  for (auto& task : running_) {
    const Account& a = *task->account;
    if (a.running < poor->running + 2 || a.served <= poor->served) continue;
    if (youngest == nullptr || a.running >= youngest->account->running) youngest = task.get();
  }
  if (youngest != nullptr) preempt(youngest);
}

// Takes the pages of what is known of the sequence and one token more. False: there are not enough.
bool Scheduler::begin(Task* task) {
  cpu::Pages& pages = engine_->pages();
  task->cache = std::make_unique<cpu::Sequence>(&pages);
  task->root = task->node = task->request.salt ? prefixes_->enter(*task->request.salt) : nullptr;
  share_known(task);
  // Every running sequence will want a page more before long.
  const size_t wanted = (task->tokens.size() + ZG_PAGE) / ZG_PAGE - task->known;
  const bool fits = running_.empty() || wanted + running_.size() <= size_t{pages.free()} + pages.idle();
  if (!fits || !make_room(task, std::min<size_t>(task->tokens.size() + 1, limits_.context))) {
    release(task);
    return false;
  }
  if (task->sampler == nullptr) {
    task->sampler = std::make_unique<Sampler>(task->request.sampling);
    const Request& r = task->request;
    for (size_t i = 0; i < r.prompt.size(); i++) task->sampler->saw(r.prompt[i], i >= r.output_from, true);
  }
  if (!task->began) {
    task->began = true;
    task->cached = task->done;
    stats_.cached_tokens += task->done;
  }
  return true;
}

// Room for so many positions of the task; beginnings that only are remembered make way.
bool Scheduler::make_room(Task* task, size_t positions) {
  cpu::Pages& pages = engine_->pages();
  const size_t wanted = (positions + ZG_PAGE - 1) / ZG_PAGE;
  const size_t has = task->cache->pages().size();
  if (wanted > has && wanted - has > pages.free()) prefixes_->evict(static_cast<uint32_t>(wanted - has - pages.free()));
  return task->cache->reserve(static_cast<uint32_t>(positions));
}

// Takes over pages that others computed of the same beginning. At least one position is left to compute. True when there were any.
bool Scheduler::share_known(Task* task) {
  if (task->root == nullptr) return false;
  const size_t most = (task->request.forced.empty() ? task->tokens.size() : task->request.prompt.size()) - 1;
  bool any = false;
  while (task->done % ZG_PAGE == 0 && task->known * ZG_PAGE == task->done && task->done + ZG_PAGE <= most) {
    PrefixCache::Node* node = prefixes_->find(task->node, task->tokens.data() + task->done);
    if (node == nullptr) break;
    if (task->cache->pages().size() == task->known) {
      task->cache->append(node->page);
    } else {
      task->cache->replace(task->known, node->page);
    }
    task->node = node;
    task->known++;
    task->done += ZG_PAGE;
    any = true;
  }
  return any;
}

// Full pages become known to those that begin alike.
void Scheduler::remember(Task* task) {
  if (task->root == nullptr) return;
  for (; (task->known + 1) * ZG_PAGE <= task->done; task->known++) {
    const uint32_t page = task->cache->pages()[task->known];
    task->node = prefixes_->insert(task->node, task->tokens.data() + size_t{task->known} * ZG_PAGE, page);
    // Somebody was faster: his page holds the same.
    task->cache->replace(task->known, task->node->page);
  }
}

void Scheduler::release(Task* task) {
  task->cache.reset();
  if (task->root != nullptr) prefixes_->leave(task->root);
  task->root = task->node = nullptr;
  task->known = task->done = 0;
  task->draft_state = {};
}

// Back to the front of its account's queue, under the mutex.
void Scheduler::preempt(Task* task) {
  release(task);
  stats_.preempted++;
  const auto at = std::find_if(running_.begin(), running_.end(), [&](const auto& t) { return t.get() == task; });
  task->account->running--;
  queue_->push_front(std::move(*at));
  running_.erase(at);
}

void Scheduler::step() {
  const auto start = steady_clock::now();
  for (auto& task : running_) {
    if (task->cancelled) finish(task.get(), {.finish = Finish::kCancelled});
  }
  remove_finished();
  std::vector<cpu::Row> rows;
  std::vector<Span> spans;
  collect(&rows, &spans);
  if (!rows.empty() && engine_->run(&rows, &abort_)) {
    use(spans, rows);
    const std::lock_guard lock(mutex_);
    stats_.steps++;
    stats_.rows += rows.size();
  }
  if (!engine_->fault().empty()) lose_device();
  remove_finished();
  {
    const cpu::Pages& pages = engine_->pages();
    const std::lock_guard lock(mutex_);
    stats_.pages_used = pages.in_use() - pages.idle();
    stats_.pages_idle = pages.idle();
    stats_.busy_ns += static_cast<uint64_t>(std::chrono::nanoseconds(steady_clock::now() - start).count());
  }
  publish();
}

// What this step computes: the sequences that decode, then prompts in the order they started.
void Scheduler::collect(std::vector<cpu::Row>* rows, std::vector<Span>* spans) {
  collect_decoding(rows, spans);
  collect_prompts(rows, spans);
}

void Scheduler::collect_decoding(std::vector<cpu::Row>* rows, std::vector<Span>* spans) {
  // Room first: the oldest keeps its place, the youngest makes way.
  for (size_t i = 0; i < running_.size(); i++) {
    Task* task = running_[i].get();
    if (!task->decoding()) continue;
    while (!make_room(task, task->done + 1)) {
      Task* youngest = running_.back().get();
      if (running_.size() == 1) {
        finish(task, {.finish = Finish::kFailed});
        break;
      }
      const std::lock_guard lock(mutex_);
      preempt(youngest);
      if (youngest == task) break;
    }
  }
  std::vector<Task*> decoding;
  for (auto& task : running_) {
    if (task->decoding() && !task->finished) decoding.push_back(task.get());
  }
  const std::vector<std::vector<uint32_t>> guesses = drafts(decoding);
  for (size_t i = 0; i < decoding.size(); i++) {
    Task* task = decoding[i];
    const std::vector<uint32_t>& draft = guesses[i];
    spans->push_back({task, rows->size(), 1 + draft.size()});
    for (uint32_t j = 0; j <= draft.size(); j++) {
      rows->push_back({.sequence = task->cache.get(),
                       .position = task->done + j,
                       .token = j == 0 ? task->tokens.back() : draft[j - 1],
                       .wants_logits = true,
                       .adapters = task->request.adapters.get()});
    }
  }
}

// A draft for each, empty where none is worth it.
std::vector<std::vector<uint32_t>> Scheduler::drafts(const std::vector<Task*>& decoding) {
  std::vector<std::vector<uint32_t>> out(decoding.size());
  if (decoding.empty() || 2 * decoding.size() > kDraftRows) return out;
  const auto share = static_cast<uint32_t>(kDraftRows / decoding.size() - 1);
  std::vector<DraftModel::Job> jobs;
  std::vector<size_t> of;
  for (size_t i = 0; i < decoding.size(); i++) {
    Task* task = decoding[i];
    const auto left = static_cast<uint32_t>(std::min<uint64_t>(task->request.max_tokens - task->drawn, limits_.context - task->tokens.size()));
    const uint32_t most = std::min({task->draft_length.next(), share, left > 0 ? left - 1 : 0});
    if (most == 0) continue;
    if (task->request.look_up) out[i] = look_up(task->tokens, most);
    if (out[i].empty() && draft_ != nullptr) {
      jobs.push_back({&task->draft_state, &task->tokens, &task->request.sampling, most});
      of.push_back(i);
    }
  }
  if (!jobs.empty()) draft_->propose(&jobs);
  for (size_t j = 0; j < jobs.size(); j++) out[of[j]] = std::move(jobs[j].draft);
  for (size_t i = 0; i < decoding.size(); i++) {
    if (!out[i].empty() && !make_room(decoding[i], decoding[i]->done + 1 + out[i].size())) out[i].clear();
  }
  return out;
}

void Scheduler::collect_prompts(std::vector<cpu::Row>* rows, std::vector<Span>* spans) {
  const size_t room = rows->empty() ? engine_->step_alone() : std::min(engine_->step_alone(), rows->size() + engine_->step_shared());
  size_t forced = 0;
  // Pages that this step computes: whoever needs the same waits for it.
  std::vector<std::pair<PrefixCache::Node*, const uint32_t*>> coming;
  for (auto& held : running_) {
    Task* task = held.get();
    if (task->finished || task->decoding() || rows->size() >= room) continue;
    share_known(task);
    const uint32_t* page = task->tokens.data() + task->done;
    const bool whole = task->root != nullptr && task->known * ZG_PAGE == task->done && task->done + ZG_PAGE < task->tokens.size();
    if (whole) {
      const auto same = [&](const auto& c) { return c.first == task->node && std::equal(page, page + ZG_PAGE, c.second); };
      if (std::any_of(coming.begin(), coming.end(), same)) continue;
      coming.emplace_back(task->node, page);
    }
    const size_t first = rows->size();
    const size_t prompt = task->request.prompt.size();
    // Nothing follows the last of an answer that exists.
    const size_t end = task->tokens.size() - (task->request.forced.empty() ? 0 : 1);
    for (size_t i = task->done; i < end && rows->size() < room; i++) {
      const bool pooled = task->request.pooling == Request::Pooling::kMean;
      const bool told = pooled || (task->request.prompt_logprobs && i + 1 < prompt && i >= task->told);
      const bool wants = told || (task->request.forced.empty() ? i + 1 == end : i + 1 >= prompt);
      if (wants && (told || !task->request.forced.empty()) && ++forced > kForcedRows) break;
      rows->push_back({.sequence = task->cache.get(),
                       .position = static_cast<uint32_t>(i),
                       .token = task->tokens[i],
                       .wants_logits = wants,
                       .adapters = task->request.adapters.get()});
    }
    if (rows->size() > first) spans->push_back({task, first, rows->size() - first});
  }
}

// body(0 … count − 1), by several threads when so many values are worth it. Bodies touch nothing in common.
void Scheduler::each(size_t count, size_t values, const std::function<void(size_t)>& body) {
  cpu::Workers* workers = engine_->workers() != nullptr ? engine_->workers() : own_workers_.get();
  const auto some = [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; i++) body(i);
  };
  if (count < 2 || values < limits_.shared_values || workers == nullptr) return some(0, count);
  workers->run(count, 1, some);
}

// Takes over what a step computed.
void Scheduler::use(const std::vector<Span>& spans, const std::vector<cpu::Row>& rows) {
  const size_t vocabulary = engine_->model()->vocabulary;
  const size_t width = engine_->model()->width;
  std::vector<size_t> traced;
  size_t values = 0;
  for (const Span& span : spans) {
    for (size_t i = span.first; i < span.first + span.count; i++) {
      if (rows[i].logits == nullptr) continue;
      values += vocabulary;
      if (span.task->request.trace) traced.push_back(i);
    }
  }
  if (!traced.empty()) traced_.resize(rows.size());
  // Hashing takes a byte as long as the search for the largest takes a few logits.
  each(traced.size(), traced.size() * (vocabulary + 16 * width), [&](size_t i) {
    const cpu::Row& row = rows[traced[i]];
    traced_[traced[i]] = {hidden_digest(row.hidden, width), logits_digest(row.logits, vocabulary)};
  });
  std::vector<Span> own = spans;
  each(own.size(), values, [&](size_t i) { draw(&own[i], rows); });
  for (const Span& span : own) {
    Task* task = span.task;
    if (!task->lost) remember(task);
    const bool drafted = span.drafted;
    const std::lock_guard lock(mutex_);
    task->account->served += span.count;
    stats_.prompt_tokens += span.prompt;
    stats_.tokens += span.tokens;
    if (!drafted) continue;
    stats_.drafted += span.count - 1;
    stats_.accepted += span.used - 1;
  }
}

// Of one task, as far as drafts were right.
void Scheduler::draw(Span* span, const std::vector<cpu::Row>& rows) const {
  Task* task = span->task;
  span->drafted = task->decoding() && span->count > 1;
  const uint32_t before = task->drawn;
  for (size_t i = span->first; i < span->first + span->count && !task->finished; i++) {
    const cpu::Row& row = rows[i];
    if (row.position >= task->tokens.size() || task->tokens[row.position] != row.token) break;
    task->done = row.position + 1;
    span->prompt += !row.wants_logits;
    span->used++;
    if (row.failed_layer != 0) {
      finish(task, {.finish = Finish::kFailed, .failed_layer = row.failed_layer});
      task->lost = true;
      break;
    }
    if (row.logits != nullptr && !sample(row, i < traced_.size() ? traced_[i] : Traced{}, task)) break;
  }
  span->tokens = task->drawn - before;
  if (span->drafted) task->draft_length.took(static_cast<uint32_t>(span->count - 1), static_cast<uint32_t>(span->used - 1));
}

// The token that follows a row. False: the answer ends.
bool Scheduler::sample(const cpu::Row& row, const Traced& traced, Task* task) const {
  const Request& request = task->request;
  const size_t vocabulary = engine_->model()->vocabulary;
  const bool forced = !request.forced.empty();
  if (request.pooling != Request::Pooling::kNone) return pool(row, task);
  if (task->done < request.prompt.size()) {
    // A token of the prompt, once: after a preemption it was told already.
    Event e{.has_token = true, .token = request.prompt[task->done], .has_logprob = true};
    e.logprob = task->sampler->logprob_of(row.logits, vocabulary, e.token, request.alternatives, &e.best);
    task->told = task->done;
    finish(task, std::move(e));
    return true;
  }
  Event e{.has_token = true, .cached = task->cached};
  e.token = task->sampler->next(row.logits, vocabulary, task->done);
  const uint32_t follows = forced ? task->tokens[task->done] : e.token;
  if (request.logprobs) {
    e.has_logprob = true;
    e.logprob = task->sampler->logprob(follows, request.alternatives, &e.best);
  }
  if (request.trace) {
    e.has_trace = true;
    e.hidden = traced.hidden;
    e.running = task->running_hash = next_hash(task->running_hash, follows, traced.logits);
  }
  if (!task->sampler->stuck()) task->sampler->saw(follows, true);
  if (task->sampler->stuck()) {
    finish(task, {.finish = Finish::kFailed, .failed_layer = kNoWay});
    return false;
  }
  if (!forced) task->tokens.push_back(follows);
  task->drawn++;
  if (forced) {
    if (task->done + 1 == task->tokens.size()) e.finish = Finish::kLength;
  } else if (contains(request.end_ids, follows) || task->sampler->complete()) {
    e.finish = Finish::kStop;
  } else if (task->drawn >= request.max_tokens || task->done + 1 > limits_.context) {
    e.finish = Finish::kLength;
  }
  const bool over = e.finish != Finish::kNone;
  finish(task, std::move(e));
  return !over;
}

// Takes a state of a prompt that is pooled. False: it was the last.
bool Scheduler::pool(const cpu::Row& row, Task* task) const {
  const size_t width = engine_->model()->width;
  const bool mean = task->request.pooling == Request::Pooling::kMean;
  if (row.position == 0 || !mean) task->pooled.assign(width, 0);
  for (size_t i = 0; i < width; i++) task->pooled[i] += static_cast<double>(row.hidden[i]);
  if (task->done < task->request.prompt.size()) return true;
  Event e{.finish = Finish::kStop, .cached = task->cached};
  const double count = mean ? static_cast<double>(task->done) : 1;
  for (uint32_t i = 0; i < width; i++) e.best.push_back({i, static_cast<float>(task->pooled[i] / count)});
  finish(task, std::move(e));
  return false;
}

// Tells an event of the task, which may be its last.
void Scheduler::finish(Task* task, Event event) {
  if (task->finished) return;
  event.request = task->id;
  task->finished = event.finish != Finish::kNone;
  task->events.push_back(std::move(event));
}

// What running tasks have to tell.
void Scheduler::gather() {
  for (auto& task : running_) {
    std::move(task->events.begin(), task->events.end(), std::back_inserter(fresh_));
    task->events.clear();
  }
}

// Nothing can be computed any more: everybody is told, and whoever comes is refused.
void Scheduler::lose_device() {
  for (auto& task : running_) finish(task.get(), {.finish = Finish::kFailed, .failed_layer = kDeviceLost});
  const std::lock_guard lock(mutex_);
  fault_ = engine_->fault();
  std::vector<Account*> all;
  for (auto& [name, account] : queue_->accounts) {
    all.push_back(account.get());
    for (auto& task : account->waiting) fresh_.push_back({.request = task->id, .finish = Finish::kFailed, .failed_layer = kDeviceLost});
    queue_->count -= static_cast<uint32_t>(account->waiting.size());
    account->waiting.clear();
  }
  for (Account* account : all) queue_->leave(account);
}

void Scheduler::remove_finished() {
  gather();
  if (std::none_of(running_.begin(), running_.end(), [](const auto& t) { return t->finished; })) return;
  const std::lock_guard lock(mutex_);
  std::erase_if(running_, [this](const auto& task) {
    if (!task->finished) return false;
    stats_.cancelled += task->cancelled;
    release(task.get());
    task->account->running--;
    queue_->leave(task->account);
    return true;
  });
}

void Scheduler::publish() {
  if (fresh_.empty()) return;
  bool first = false;
  {
    const std::lock_guard lock(mutex_);
    first = events_.empty();
    std::move(fresh_.begin(), fresh_.end(), std::back_inserter(events_));
  }
  fresh_.clear();
  if (first) notify_();
}

}  // namespace zg::infer
