// Requests that wait, by account (inference.md 8). The account that was served least comes next, its requests in the order they came; an
// account that was away starts level with those that are there, so nobody saves up. The scheduler's own: used under its mutex.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>

#include "scheduler.h"

namespace zg::infer {

struct Scheduler::Account {
  std::string name;
  // Rows computed for it.
  uint64_t served = 0;
  uint32_t running = 0;
  std::deque<std::unique_ptr<Task>> waiting;
};

// A request on its way.
struct Scheduler::Task {
  uint32_t id = 0;
  Request request;
  Account* account = nullptr;
  std::chrono::steady_clock::time_point since;
  std::atomic<bool> cancelled{false};

  // Prompt, then the answer as far as it is known.
  std::vector<uint32_t> tokens;
  // Positions computed, of the tokens that stand.
  uint32_t done = 0;
  uint32_t drawn = 0;
  // Tokens of the prompt that were told.
  uint32_t told = 0;
  // Sum of the prompt's states, in the order of positions.
  std::vector<double> pooled{};
  uint32_t cached = 0;
  bool began = false;
  bool finished = false;
  // A row of it failed: nothing of the step may be remembered.
  bool lost = false;
  std::unique_ptr<cpu::Sequence> cache;
  std::unique_ptr<Sampler> sampler;
  // In the tree of beginnings: where it starts, the last page that is known there, and how many pages that makes.
  PrefixCache::Node* root = nullptr;
  PrefixCache::Node* node = nullptr;
  uint32_t known = 0;
  DraftLength draft_length;
  DraftModel::State draft_state;
  Digest running_hash{};
  // To be told after the step.
  std::vector<Event> events{};

  bool decoding() const { return drawn > 0 && done + 1 == tokens.size() && request.forced.empty(); }
};

struct Scheduler::Queue {
  std::unordered_map<std::string, std::unique_ptr<Account>> accounts;
  uint32_t count = 0;
  // What the account that was chosen last had been served.
  uint64_t level = 0;

  void push(std::unique_ptr<Task> task) {
    std::unique_ptr<Account>& account = accounts[task->request.account];
    if (account == nullptr) {
      account = std::make_unique<Account>();
      account->name = task->request.account;
      account->served = level;
    } else if (account->running == 0 && account->waiting.empty()) {
      account->served = std::max(account->served, level);
    }
    task->account = account.get();
    account->waiting.push_back(std::move(task));
    count++;
  }
  void push_front(std::unique_ptr<Task> task) {
    Account* account = task->account;
    account->waiting.push_front(std::move(task));
    count++;
  }
  // The account whose turn it is, or nullptr.
  Account* next() const {
    Account* best = nullptr;
    for (const auto& [name, account] : accounts) {
      if (account->waiting.empty()) continue;
      if (best == nullptr || account->served < best->served ||
          (account->served == best->served && account->waiting.front()->id < best->waiting.front()->id)) {
        best = account.get();
      }
    }
    return best;
  }
  std::unique_ptr<Task> pop(Account* account) {
    std::unique_ptr<Task> task = std::move(account->waiting.front());
    account->waiting.pop_front();
    count--;
    level = std::max(level, account->served);
    return task;
  }
  // An account without requests is forgotten.
  void leave(Account* account) {
    if (account->running == 0 && account->waiting.empty()) accounts.erase(std::string(account->name));
  }
};

}  // namespace zg::infer
