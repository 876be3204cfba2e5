// Submissions of raw transactions: whatever waits is decoded, recovered, admitted and journalled together, so that many small requests share a batch of
// recoveries and a sync of the disk. Two threads: while one waits for the disk the other works.
#pragma once

#include "evm_jobs.h"

namespace evm {

class SubmitJob final : public Job {
 public:
  void work() override {}
  napi_value value(napi_env env) override;

  zg::Bytes bytes;             // all transactions, one behind the other
  std::vector<size_t> ends;    // of each in `bytes`
  std::vector<zg::Pool::Answer> answers;
};

class SubmitQueue {
 public:
  SubmitQueue(std::shared_ptr<Bridge> bridge, zg::Chain& chain);
  ~SubmitQueue();
  // False: too much waits already.
  bool post(std::unique_ptr<SubmitJob> job);
  void finish();

 private:
  void loop();

  const std::shared_ptr<Bridge> bridge_;
  zg::Chain& chain_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::unique_ptr<SubmitJob>> queue_;
  size_t waiting_bytes_ = 0;
  bool ending_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace evm
