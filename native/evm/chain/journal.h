// The pool's journal: accepted transactions, durable before anybody is told. Many submits share one fdatasync: whoever comes while one is under way waits for the
// next. Thread safe.
//
//   pool.journal   record (files.h, tag 0): sender (20) · EIP-2718 bytes
//
// It only grows; trim() rewrites it with what is in the pool now (new file, sync, rename), when most of it is gone.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "base/types.h"
#include "pool/pool.h"

namespace leveldb {
class Env;
class WritableFile;
}  // namespace leveldb

namespace zg {

class Journal {
 public:
  struct Record {
    Address sender;
    Bytes raw;
  };
  // Reads what is there, up to a torn tail, into `records`, and goes on behind it in a fresh file.
  static bool open(leveldb::Env* env, const std::string& dir, bool sync, std::vector<Record>& records, std::unique_ptr<Journal>& out,
                   std::string& message);
  ~Journal();

  // Returns when all are durable. False: the disk failed, and every later call fails too.
  bool append(std::span<const PooledTx> txs, std::string& message);
  // Rewrites when the file has more than twice what `live_bytes` needs. `all` is asked for the pool's content while no append is under way.
  bool trim(size_t live_bytes, const std::function<std::vector<PooledTx>()>& all, std::string& message);
  [[nodiscard]] uint64_t syncs() const;

 private:
  Journal(leveldb::Env* env, std::string dir, bool sync);
  bool rewrite(const std::vector<PooledTx>& txs, std::string& message);

  leveldb::Env* env_;
  std::string dir_;
  bool sync_;
  mutable std::mutex mutex_;
  std::condition_variable turn_;
  std::string waiting_;          // bytes of the next group
  uint64_t next_group_ = 1, done_group_ = 0;
  bool busy_ = false;            // somebody writes, outside of the lock
  std::string failure_;
  size_t size_ = 0;
  uint64_t syncs_ = 0;
  std::unique_ptr<leveldb::WritableFile> file_;
};

}  // namespace zg
