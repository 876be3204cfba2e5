// A disk in memory that forgets: for each file the bytes that were synced and those that were only written are kept apart, and so are
// names that a directory has durably and those that it has for now. It counts operations, stops at the n-th, and then loses what was not
// safe, in one of several ways. For LevelDB (as its Env), and for the chain's own logs (through the same calls).
//
//   FaultEnv env;  env.stop_at(n);  … work until something fails …;  env.crash(Loss::subset, seed);  … open again …
//
// Thread safe. Renames and removals count as durable when they happen, as on a journalling file system with LevelDB's directory syncs;
// a file that was never synced may come back empty, in part, or with noise.
#pragma once

#include <leveldb/env.h>

#include <map>
#include <memory>
#include <mutex>
#include <string>

namespace zg::test {

// What becomes of bytes that were written and not synced.
enum class Loss {
  none,    // all of them arrive
  all,     // none does
  prefix,  // a random prefix does
  subset,  // pages of 512 bytes at random; the others are noise or zeros
};

class FaultEnv final : public leveldb::EnvWrapper {
 public:
  FaultEnv() : EnvWrapper(leveldb::Env::Default()) {}

  // Operations that change something, from now on, until everything fails; 0: never.
  void stop_at(uint64_t n);
  [[nodiscard]] uint64_t operations() const;
  [[nodiscard]] bool stopped() const;
  // Syncs do nothing: the canary.
  void ignore_syncs(bool yes);
  // The power was lost; the disk works again, with what is left.
  void crash(Loss loss, uint64_t seed);

  leveldb::Status NewSequentialFile(const std::string& name, leveldb::SequentialFile** out) override;
  leveldb::Status NewRandomAccessFile(const std::string& name, leveldb::RandomAccessFile** out) override;
  leveldb::Status NewWritableFile(const std::string& name, leveldb::WritableFile** out) override;
  leveldb::Status NewAppendableFile(const std::string& name, leveldb::WritableFile** out) override;
  bool FileExists(const std::string& name) override;
  leveldb::Status GetChildren(const std::string& dir, std::vector<std::string>* out) override;
  leveldb::Status DeleteFile(const std::string& name) override;
  leveldb::Status CreateDir(const std::string&) override { return leveldb::Status::OK(); }
  leveldb::Status DeleteDir(const std::string&) override { return leveldb::Status::OK(); }
  leveldb::Status GetFileSize(const std::string& name, uint64_t* size) override;
  leveldb::Status RenameFile(const std::string& from, const std::string& to) override;
  leveldb::Status LockFile(const std::string& name, leveldb::FileLock** lock) override;
  leveldb::Status UnlockFile(leveldb::FileLock* lock) override;
  leveldb::Status NewLogger(const std::string& name, leveldb::Logger** out) override;

  struct File {
    std::string bytes;
    size_t synced = 0;
  };
  // Of the open files: called by them.
  leveldb::Status append(File& file, const leveldb::Slice& data);
  leveldb::Status sync(File& file);
  mutable std::mutex mutex;

 private:
  // One operation; not OK when the disk has stopped. The lock is held.
  leveldb::Status step();
  std::map<std::string, std::shared_ptr<File>> files_;
  uint64_t operations_ = 0, left_ = 0;
  bool stopped_ = false, ignore_syncs_ = false;
};

}  // namespace zg::test
