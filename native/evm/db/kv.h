// The ordered key-value store under everything durable of the chain: LevelDB behind a narrow face, so that another can be tried.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/types.h"

namespace leveldb {
class Env;
}

namespace zg {

// Writes that become visible and durable together.
class KvBatch {
 public:
  virtual ~KvBatch() = default;
  virtual void put(std::string_view key, std::string_view value) = 0;
  virtual void del(std::string_view key) = 0;
  [[nodiscard]] virtual size_t bytes() const = 0;
};

// A consistent view of the past; holds it alive.
class KvSnapshot {
 public:
  virtual ~KvSnapshot() = default;
};

class KvIterator {
 public:
  virtual ~KvIterator() = default;
  virtual void seek(std::string_view key) = 0;       // to the first key ≥
  virtual void seek_last() = 0;
  virtual void next() = 0;
  virtual void prev() = 0;
  [[nodiscard]] virtual bool valid() const = 0;
  [[nodiscard]] virtual std::string_view key() const = 0;
  [[nodiscard]] virtual std::string_view value() const = 0;
};

class KvStore {
 public:
  struct Options {
    size_t write_buffer = 24u << 20;  // two of them may be in memory at once
    size_t block_cache = 64u << 20;
    int max_open_files = 500;
    bool paranoid = false;
    leveldb::Env* env = nullptr;  // tests: a disk that forgets
  };
  enum class Error : uint8_t { none, locked, corrupt, io };

  // Creates the directory when it is missing.
  static Error open(const std::string& dir, const Options& options, std::unique_ptr<KvStore>& out, std::string& message);
  virtual ~KvStore() = default;
  // False: absent. An I/O or corruption error goes to `on_error` of the owner and reads as absent.
  virtual bool get(std::string_view key, std::string& value, const KvSnapshot* at = nullptr) const = 0;
  virtual std::unique_ptr<KvBatch> batch() const = 0;
  // False: it failed and must be taken as final (an fsync error is fatal).
  virtual bool write(const KvBatch& batch, bool sync, std::string& message) = 0;
  virtual std::shared_ptr<const KvSnapshot> snapshot() const = 0;
  // Of the snapshot, or of now. `fill_cache` false for scans.
  virtual std::unique_ptr<KvIterator> iterator(const KvSnapshot* at = nullptr, bool fill_cache = true) const = 0;
  virtual void compact() = 0;
  // Bytes in memory: recent writes, blocks of tables. What open tables hold besides (index and filter, about 3 % of a table) is not known.
  struct Memory {
    size_t writes = 0, blocks = 0;
  };
  [[nodiscard]] virtual Memory memory() const { return {}; }
  std::function<void(const std::string&)> on_error;
};

}  // namespace zg
