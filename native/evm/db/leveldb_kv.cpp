// KvStore on LevelDB, from the sources that the package classic-level carries (native.md 4). That copy hands values to a ValueSink.
//
// Thread safe as LevelDB is: readers and one writer at any time; batches, iterators belong to one thread.
#include <leveldb/cache.h>
#include <leveldb/db.h>
#include <leveldb/env.h>
#include <leveldb/filter_policy.h>
#include <leveldb/iterator.h>
#include <leveldb/options.h>
#include <leveldb/value_sink.h>
#include <leveldb/write_batch.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdlib>

#include "db/kv.h"
#include "db/pread_env.h"

namespace zg {
namespace {

leveldb::Slice slice(std::string_view v) { return {v.data(), v.size()}; }
std::string_view view(const leveldb::Slice& s) { return {s.data(), s.size()}; }

class Batch final : public KvBatch {
 public:
  void put(std::string_view key, std::string_view value) override {
    bytes_ += key.size() + value.size() + 4;
    batch.Put(slice(key), slice(value));
  }
  void del(std::string_view key) override {
    bytes_ += key.size() + 3;
    batch.Delete(slice(key));
  }
  [[nodiscard]] size_t bytes() const override { return bytes_; }

  // LevelDB's Write asks for a pointer that it does not change, except to join small batches behind a copy of its own.
  mutable leveldb::WriteBatch batch;

 private:
  size_t bytes_ = 0;
};

class Snapshot final : public KvSnapshot {
 public:
  explicit Snapshot(std::shared_ptr<leveldb::DB> db) : db_(std::move(db)), snapshot(db_->GetSnapshot()) {}
  ~Snapshot() override { db_->ReleaseSnapshot(snapshot); }
  Snapshot(const Snapshot&) = delete;
  Snapshot& operator=(const Snapshot&) = delete;

 private:
  std::shared_ptr<leveldb::DB> db_;

 public:
  const leveldb::Snapshot* const snapshot;
};

const leveldb::Snapshot* raw(const KvSnapshot* at) {
  return at == nullptr ? nullptr : static_cast<const Snapshot*>(at)->snapshot;
}

class Iterator final : public KvIterator {
 public:
  // `report` is told when the iterator ended because of an error.
  Iterator(std::shared_ptr<leveldb::DB> db, leveldb::Iterator* it, const std::function<void(const std::string&)>& report)
      : db_(std::move(db)), it_(it), report_(report) {}
  ~Iterator() override { delete it_; }
  Iterator(const Iterator&) = delete;
  Iterator& operator=(const Iterator&) = delete;

  void seek(std::string_view key) override {
    it_->Seek(slice(key));
    check();
  }
  void seek_last() override {
    it_->SeekToLast();
    check();
  }
  void next() override {
    it_->Next();
    check();
  }
  void prev() override {
    it_->Prev();
    check();
  }
  [[nodiscard]] bool valid() const override { return it_->Valid(); }
  [[nodiscard]] std::string_view key() const override { return view(it_->key()); }
  [[nodiscard]] std::string_view value() const override { return view(it_->value()); }

 private:
  void check() const {
    if (it_->Valid()) return;
    const leveldb::Status s = it_->status();
    if (!s.ok() && report_) report_(s.ToString());
  }
  std::shared_ptr<leveldb::DB> db_;
  leveldb::Iterator* it_;
  const std::function<void(const std::string&)>& report_;
};

// What the database stands on; freed after the database.
struct Support {
  std::unique_ptr<const leveldb::FilterPolicy> filter;
  std::unique_ptr<leveldb::Cache> cache;
};

class LevelKv final : public KvStore {
 public:
  LevelKv(std::shared_ptr<leveldb::DB> db, std::shared_ptr<Support> support) : db_(std::move(db)), support_(std::move(support)) {}

  bool get(std::string_view key, std::string& value, const KvSnapshot* at) const override {
    leveldb::ReadOptions o;
    o.snapshot = raw(at);
    leveldb::StringValueSink sink(&value);
    const leveldb::Status s = db_->Get(o, slice(key), &sink);
    if (s.ok()) return true;
    if (!s.IsNotFound() && on_error) on_error(s.ToString());
    return false;
  }

  std::unique_ptr<KvBatch> batch() const override { return std::make_unique<Batch>(); }

  bool write(const KvBatch& batch, bool sync, std::string& message) override {
    leveldb::WriteOptions o;
    o.sync = sync;
    const leveldb::Status s = db_->Write(o, &static_cast<const Batch&>(batch).batch);
    if (!s.ok()) message = s.ToString();
    return s.ok();
  }

  std::shared_ptr<const KvSnapshot> snapshot() const override { return std::make_shared<Snapshot>(db_); }

  std::unique_ptr<KvIterator> iterator(const KvSnapshot* at, bool fill_cache) const override {
    leveldb::ReadOptions o;
    o.snapshot = raw(at);
    o.fill_cache = fill_cache;
    return std::make_unique<Iterator>(db_, db_->NewIterator(o), on_error);
  }

  void compact() override { db_->CompactRange(nullptr, nullptr); }

  Memory memory() const override {
    std::string both;
    Memory m{0, support_->cache->TotalCharge()};
    if (db_->GetProperty("leveldb.approximate-memory-usage", &both)) {
      const size_t all = std::strtoull(both.c_str(), nullptr, 10);
      m.writes = all > m.blocks ? all - m.blocks : 0;
    }
    return m;
  }

 private:
  std::shared_ptr<leveldb::DB> db_;
  std::shared_ptr<Support> support_;
};

// `dir` and its parents; LevelDB makes only the last one.
bool make_dirs(const std::string& dir) {
  for (size_t at = dir.find('/', 1);; at = dir.find('/', at + 1)) {
    const std::string part = dir.substr(0, at);
    if (::mkdir(part.c_str(), 0700) != 0 && errno != EEXIST) return false;
    if (at == std::string::npos) return true;
  }
}

KvStore::Error classify(const leveldb::Status& s) {
  const std::string words = s.ToString();
  if (words.find("lock") != std::string::npos && words.find("LOCK") != std::string::npos) return KvStore::Error::locked;
  // A missing file of the set that the manifest names is damage too: LevelDB says "missing files".
  if (s.IsCorruption() || words.find("missing files") != std::string::npos) return KvStore::Error::corrupt;
  return KvStore::Error::io;
}

}  // namespace

KvStore::Error KvStore::open(const std::string& dir, const Options& options, std::unique_ptr<KvStore>& out, std::string& message) {
  if (options.env == nullptr && !make_dirs(dir)) {
    message = "cannot make the directory '" + dir + "': " + std::strerror(errno);
    return Error::io;
  }
  auto support = std::make_shared<Support>();
  support->filter.reset(leveldb::NewBloomFilterPolicy(10));
  support->cache.reset(leveldb::NewLRUCache(options.block_cache));

  leveldb::Options o;
  o.create_if_missing = true;
  o.paranoid_checks = options.paranoid;
  o.env = options.env != nullptr ? options.env : pread_env();
  o.write_buffer_size = options.write_buffer;
  o.max_open_files = options.max_open_files;
  o.block_cache = support->cache.get();
  o.filter_policy = support->filter.get();
  // Most values are hashes, which do not shrink.
  o.compression = leveldb::kNoCompression;
  // Fewer files for more than 10 million records.
  o.max_file_size = 8u << 20;

  leveldb::DB* raw_db = nullptr;
  leveldb::Status s = leveldb::DB::Open(o, dir, &raw_db);
  // The first manifest of a new database is not synced; opening ends with a second one, which is. A power loss between the two leaves a
  // database that does not open and in which nothing was ever written: it is made anew.
  std::string current;
  if (!s.ok() && s.IsCorruption() && leveldb::ReadFileToString(o.env, dir + "/CURRENT", &current).ok() && current == "MANIFEST-000001\n") {
    delete raw_db;
    raw_db = nullptr;
    if (o.env->DeleteFile(dir + "/CURRENT").ok()) s = leveldb::DB::Open(o, dir, &raw_db);
  }
  if (!s.ok()) {
    delete raw_db;
    const Error error = classify(s);
    const char* what = error == Error::locked ? "is in use by another process" : error == Error::corrupt ? "is damaged" : "cannot be opened";
    message = "database '" + dir + "' " + what + ": " + s.ToString();
    return error;
  }
  // Snapshots and iterators may outlive the store object: they hold the database, which holds its support.
  out = std::make_unique<LevelKv>(std::shared_ptr<leveldb::DB>(raw_db, [support](leveldb::DB* db) { delete db; }), support);
  return Error::none;
}

}  // namespace zg
