// Whether small steps are shared between threads: measured, not assumed. Beside a busy neighbour, or where one core reads as fast as all,
// a second thread makes decoding slower, so now and then a step is done the other way and the faster way is kept. Results are the same.
#pragma once

#include <cstddef>
#include <cstdint>

namespace zg::cpu {

class Pace {
 public:
  // Rows of a step up to which there is a choice.
  static constexpr size_t kRows = 8;

  // Whether the next step of n rows is done by one thread.
  bool alone(size_t n) {
    if (n > kRows) return false;
    Way& w = ways_[n];
    w.count++;
    if (w.shared_seconds == 0) return false;
    if (w.alone_seconds == 0) return w.count > kFirstTrial;
    const bool prefers_alone = w.alone_seconds < kClearly * w.shared_seconds;
    return prefers_alone ? w.count % kTrialsWhenAlone != 0 : w.count % kTrialsWhenShared == 0;
  }

  void took(size_t n, bool alone, double seconds) {
    if (n > kRows) return;
    double& mean = alone ? ways_[n].alone_seconds : ways_[n].shared_seconds;
    mean = mean == 0 ? seconds : mean + kWeight * (seconds - mean);
  }

 private:
  static constexpr uint32_t kFirstTrial = 4;
  static constexpr uint32_t kTrialsWhenShared = 64;
  static constexpr uint32_t kTrialsWhenAlone = 12;
  static constexpr double kClearly = 0.97;
  static constexpr double kWeight = 0.25;
  struct Way {
    // Running means; 0: not known.
    double shared_seconds = 0;
    double alone_seconds = 0;
    uint32_t count = 0;
  };
  Way ways_[kRows + 1];
};

}  // namespace zg::cpu
