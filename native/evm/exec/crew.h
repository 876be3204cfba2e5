// Threads that help one block's execution at a time: started when first wanted, asleep between blocks, joined at exit.
//
// Beside crypto/parallel.h because a helper here stays for as long as the block lasts, and because a test asks for more of them than there are cores.
#pragma once

#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace zg {

class Crew {
 public:
  using Work = void (*)(void* context);
  static constexpr unsigned kHelpersMax = 63;

  // The one of this process.
  static Crew& instance();
  ~Crew();

  // Up to `helpers` threads (at most kHelpersMax) each call work(context) once, when they wake up, until end(). False: another block has the crew.
  bool begin(unsigned helpers, Work work, void* context);
  // Nobody enters any more; returns when all have left, so `work` must have been told to return. Only after a begin() that was true, on any thread.
  void end();

 private:
  Crew() = default;
  void serve();

  std::mutex mutex_;
  std::condition_variable wake_, left_;
  std::vector<std::thread> threads_;
  Work work_ = nullptr;
  void* context_ = nullptr;
  unsigned may_enter_ = 0, inside_ = 0;
  bool is_taken_ = false, stop_ = false;
};

}  // namespace zg
