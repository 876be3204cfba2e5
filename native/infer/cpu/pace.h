// Whether steps are shared between threads: measured, not assumed. Beside a busy neighbour, or where one core reads as fast as all, a second
// thread makes decoding slower, so now and then a step is done the other way and the faster way is kept. Results are the same.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace zg::cpu {

// What a caller may ask for instead of measuring: benchmarks compare both.
enum class Sharing : uint8_t { kMeasured, kAlone, kShared };

class Pace {
 public:
  void set(Sharing sharing) { sharing_ = sharing; }

  // Whether the next step of n rows is done by one thread.
  bool alone(size_t n) {
    if (sharing_ != Sharing::kMeasured) return sharing_ == Sharing::kAlone;
    // Arithmetic of many rows is always worth sharing.
    if (n > kRows) return false;
    Kind& k = kinds_[n];
    if (k.shared.count < kTrials) return false;
    if (k.alone.count < kTrials) return true;
    // The other way gets its turn, later each time it was no better; two in a row, for the first one after a pause is slower.
    if (k.until_trial > 0) {
      k.until_trial--;
      return k.prefers_alone;
    }
    return !k.prefers_alone;
  }

  void took(size_t n, bool alone, double seconds) {
    if (sharing_ != Sharing::kMeasured || n > kRows) return;
    Kind& k = kinds_[n];
    const bool trial = k.until_trial == 0 && alone != k.prefers_alone;
    (alone ? k.alone : k.shared).add(seconds);
    if (k.alone.count < kTrials || k.shared.count < kTrials) return;
    // One step says little: the machine may have been elsewhere. Who is ahead stays so until the other is clearly faster.
    const double a = k.alone.middle();
    const double s = k.shared.middle();
    const bool better = k.prefers_alone ? s < kClearly * a : a < kClearly * s;
    if (better) {
      k.prefers_alone = !k.prefers_alone;
      k.interval = kFirstInterval;
      k.until_trial = k.interval;
      k.trials = 0;
      return;
    }
    if (!trial || ++k.trials < kTrials) return;
    k.trials = 0;
    k.until_trial = k.interval;
    k.interval = std::min(2 * k.interval, kLastInterval);
  }

 private:
  // Rows of a step up to which there is a choice.
  static constexpr size_t kRows = 8;
  static constexpr uint32_t kTrials = 2;
  static constexpr uint32_t kFirstInterval = 16;
  static constexpr uint32_t kLastInterval = 512;
  static constexpr double kClearly = 0.97;

  // The last few steps of one way: after a trial of two, their middle is one of these.
  struct Times {
    static constexpr uint32_t kKept = 3;
    double last[kKept] = {};
    uint32_t count = 0;

    void add(double seconds) { last[count++ % kKept] = seconds; }
    double middle() const {
      if (count < kKept) return last[0];
      return std::max(std::min(last[0], last[1]), std::min(std::max(last[0], last[1]), last[2]));
    }
  };
  struct Kind {
    Times alone, shared;
    bool prefers_alone = false;
    uint32_t until_trial = kFirstInterval;
    uint32_t interval = kFirstInterval;
    uint32_t trials = 0;
  };
  Kind kinds_[kRows + 1];
  Sharing sharing_ = Sharing::kMeasured;
};

}  // namespace zg::cpu
