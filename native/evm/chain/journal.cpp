#include "chain/journal.h"

#include <utility>

#include "chain/files.h"
#include "leveldb/env.h"

namespace zg {

namespace {

constexpr size_t kTrimFloor = 4u << 20;
constexpr size_t kJournalBytesMax = size_t{2} << 30;

void frame(const Transaction& tx, std::string& out) {
  Bytes payload;
  payload.reserve(20 + tx.raw.size());
  payload.insert(payload.end(), tx.sender.b, tx.sender.b + 20);
  payload.insert(payload.end(), tx.raw.begin(), tx.raw.end());
  frame_record(0, payload, out);
}

}  // namespace

Journal::Journal(leveldb::Env* env, std::string dir, bool sync) : env_(env), dir_(std::move(dir)), sync_(sync) {}

Journal::~Journal() {
  if (file_ != nullptr) (void)file_->Close();
}

bool Journal::open(leveldb::Env* env, const std::string& dir, bool sync, std::vector<Record>& records, std::unique_ptr<Journal>& out,
                   std::string& message) {
  const std::string path = dir + "/pool.journal";
  std::string text;
  if (env->FileExists(path)) {
    uint64_t size = 0;
    leveldb::Status s = env->GetFileSize(path, &size);
    if (s.ok() && size > kJournalBytesMax) {
      message = "pool journal: " + std::to_string(size) + " bytes are too many";
      return false;
    }
    if (s.ok()) s = leveldb::ReadFileToString(env, path, &text);
    if (!s.ok()) {
      message = "pool journal: " + s.ToString();
      return false;
    }
  }
  ByteView rest = as_bytes(text);
  while (rest.size() >= kRecordHead) {
    const RecordHead head = read_record_head(rest.data());
    if (head.length < 20 || head.length > rest.size() - kRecordHead) break;
    const ByteView payload = rest.subspan(kRecordHead, head.length);
    if (!record_is_sound(head, payload)) break;
    records.push_back({Address::from(payload.data()), Bytes(payload.begin() + 20, payload.end())});
    rest = rest.subspan(kRecordHead + head.length);
  }
  std::unique_ptr<Journal> journal(new Journal(env, dir, sync));
  std::vector<PooledTx> txs;
  txs.reserve(records.size());
  for (const Record& r : records) {
    auto tx = std::make_shared<Transaction>();
    tx->sender = r.sender;
    tx->raw = r.raw;
    txs.push_back(std::move(tx));
  }
  if (!journal->rewrite(txs, message)) return false;
  out = std::move(journal);
  return true;
}

bool Journal::append(std::span<const PooledTx> txs, std::string& message) {
  if (txs.empty()) return true;
  std::string mine;
  for (const PooledTx& tx : txs) frame(*tx, mine);
  std::unique_lock lock(mutex_);
  waiting_ += mine;
  const uint64_t group = next_group_;
  while (done_group_ < group && failure_.empty()) {
    if (busy_) {
      turn_.wait(lock);
      continue;
    }
    busy_ = true;
    const uint64_t writing = next_group_++;
    const std::string bytes = std::exchange(waiting_, {});
    lock.unlock();
    leveldb::Status s = file_->Append(bytes);
    if (s.ok()) s = sync_ ? file_->Sync() : file_->Flush();
    lock.lock();
    busy_ = false;
    size_ += bytes.size();
    ++syncs_;
    if (s.ok()) done_group_ = writing;
    else failure_ = "pool journal: " + s.ToString();
    turn_.notify_all();
  }
  if (done_group_ >= group) return true;
  message = failure_;
  return false;
}

bool Journal::trim(size_t live_bytes, const std::function<std::vector<PooledTx>()>& all, std::string& message) {
  std::unique_lock lock(mutex_);
  if (size_ < kTrimFloor || size_ / 2 < live_bytes) return true;
  turn_.wait(lock, [&] { return !busy_; });
  if (!failure_.empty()) {
    message = failure_;
    return false;
  }
  // Appends wait meanwhile. What they bring is in the pool already and may be written twice: harmless.
  busy_ = true;
  lock.unlock();
  const bool ok = rewrite(all(), message);
  lock.lock();
  busy_ = false;
  if (!ok) failure_ = message;
  turn_.notify_all();
  return ok;
}

bool Journal::rewrite(const std::vector<PooledTx>& txs, std::string& message) {
  const std::string temp = dir_ + "/pool.journal.new";
  std::string bytes;
  for (const PooledTx& tx : txs) frame(*tx, bytes);
  leveldb::WritableFile* file = nullptr;
  leveldb::Status s = env_->NewWritableFile(temp, &file);
  std::unique_ptr<leveldb::WritableFile> fresh(file);
  if (s.ok() && !bytes.empty()) s = fresh->Append(bytes);
  if (s.ok()) s = sync_ ? fresh->Sync() : fresh->Flush();
  if (s.ok()) s = env_->RenameFile(temp, dir_ + "/pool.journal");
  if (!s.ok()) {
    message = "pool journal: " + s.ToString();
    return false;
  }
  if (sync_ && !sync_directory(env_, dir_)) {
    message = "pool journal: the directory does not sync";
    return false;
  }
  if (file_ != nullptr) (void)file_->Close();
  // Goes on writing to the file under its new name.
  file_ = std::move(fresh);
  size_ = bytes.size();
  return true;
}

uint64_t Journal::syncs() const {
  const std::lock_guard lock(mutex_);
  return syncs_;
}

}  // namespace zg
