#include "test/fault_env.h"

#include <algorithm>
#include <random>

namespace zg::test {
namespace {

using leveldb::Slice;
using leveldb::Status;

Status missing(const std::string& name) { return Status::NotFound(name, "no such file"); }

class Sequential final : public leveldb::SequentialFile {
 public:
  Sequential(const FaultEnv& env, std::shared_ptr<FaultEnv::File> file) : env_(env), file_(std::move(file)) {}
  Status Read(size_t n, Slice* result, char* scratch) override {
    const std::lock_guard lock(env_.mutex);
    n = std::min(n, file_->bytes.size() - std::min(at_, file_->bytes.size()));
    std::copy_n(file_->bytes.data() + at_, n, scratch);
    at_ += n;
    *result = Slice(scratch, n);
    return Status::OK();
  }
  Status Skip(uint64_t n) override {
    const std::lock_guard lock(env_.mutex);
    at_ = std::min<size_t>(at_ + n, file_->bytes.size());
    return Status::OK();
  }

 private:
  const FaultEnv& env_;
  std::shared_ptr<FaultEnv::File> file_;
  size_t at_ = 0;
};

class Random final : public leveldb::RandomAccessFile {
 public:
  Random(const FaultEnv& env, std::shared_ptr<FaultEnv::File> file) : env_(env), file_(std::move(file)) {}
  Status Read(uint64_t offset, size_t n, Slice* result, char* scratch) const override {
    const std::lock_guard lock(env_.mutex);
    if (offset > file_->bytes.size()) return Status::IOError("read", "behind the end");
    n = std::min<size_t>(n, file_->bytes.size() - offset);
    std::copy_n(file_->bytes.data() + offset, n, scratch);
    *result = Slice(scratch, n);
    return Status::OK();
  }

 private:
  const FaultEnv& env_;
  std::shared_ptr<FaultEnv::File> file_;
};

class Writable final : public leveldb::WritableFile {
 public:
  Writable(FaultEnv& env, std::shared_ptr<FaultEnv::File> file) : env_(env), file_(std::move(file)) {}
  Status Append(const Slice& data) override { return env_.append(*file_, data); }
  Status Close() override { return Status::OK(); }
  Status Flush() override { return Status::OK(); }
  Status Sync() override { return env_.sync(*file_); }

 private:
  FaultEnv& env_;
  std::shared_ptr<FaultEnv::File> file_;
};

class Silent final : public leveldb::Logger {
 public:
  void Logv(const char*, va_list) override {}
};

class Lock final : public leveldb::FileLock {};

}  // namespace

void FaultEnv::stop_at(uint64_t n) {
  const std::lock_guard lock(mutex);
  left_ = n;
}
uint64_t FaultEnv::operations() const {
  const std::lock_guard lock(mutex);
  return operations_;
}
bool FaultEnv::stopped() const {
  const std::lock_guard lock(mutex);
  return stopped_;
}
void FaultEnv::ignore_syncs(bool yes) {
  const std::lock_guard lock(mutex);
  ignore_syncs_ = yes;
}

Status FaultEnv::step() {
  if (stopped_) return Status::IOError("disk", "stopped");
  operations_++;
  if (left_ != 0 && --left_ == 0) {
    stopped_ = true;
    return Status::IOError("disk", "stopped");
  }
  return Status::OK();
}

Status FaultEnv::append(File& file, const Slice& data) {
  const std::lock_guard lock(mutex);
  const bool before = stopped_;
  const Status s = step();
  // The write that is cut off may have reached the disk all the same: how much, crash decides.
  if (s.ok() || !before) file.bytes.append(data.data(), data.size());
  return s;
}

Status FaultEnv::sync(File& file) {
  const std::lock_guard lock(mutex);
  const Status s = step();
  if (s.ok() && !ignore_syncs_) file.synced = file.bytes.size();
  return s;
}

void FaultEnv::crash(Loss loss, uint64_t seed) {
  const std::lock_guard lock(mutex);
  std::mt19937_64 rng(seed);
  for (auto& [name, file] : files_) {
    // Old handles go on with the old object and cannot reach the new one.
    auto left = std::make_shared<File>(*file);
    const size_t loose = left->bytes.size() - left->synced;
    if (loss == Loss::all) left->bytes.resize(left->synced);
    if (loss == Loss::prefix) left->bytes.resize(left->synced + rng() % (loose + 1));
    if (loss == Loss::subset && loose > 0) {
      left->bytes.resize(left->synced + rng() % (loose + 1));
      constexpr size_t kPage = 512;
      for (size_t at = left->synced; at < left->bytes.size();) {
        const size_t end = std::min(left->bytes.size(), (at / kPage + 1) * kPage);
        const uint64_t fate = rng() % 4;
        for (size_t i = at; i < end && fate < 2; i++) left->bytes[i] = fate == 0 ? '\0' : static_cast<char>(rng());
        at = end;
      }
    }
    left->synced = left->bytes.size();
    file = std::move(left);
  }
  stopped_ = false;
  left_ = 0;
}

Status FaultEnv::NewSequentialFile(const std::string& name, leveldb::SequentialFile** out) {
  const std::lock_guard lock(mutex);
  const auto at = files_.find(name);
  if (at == files_.end()) return missing(name);
  *out = new Sequential(*this, at->second);
  return Status::OK();
}
Status FaultEnv::NewRandomAccessFile(const std::string& name, leveldb::RandomAccessFile** out) {
  const std::lock_guard lock(mutex);
  const auto at = files_.find(name);
  if (at == files_.end()) return missing(name);
  *out = new Random(*this, at->second);
  return Status::OK();
}
Status FaultEnv::NewWritableFile(const std::string& name, leveldb::WritableFile** out) {
  const std::lock_guard lock(mutex);
  *out = nullptr;
  if (Status s = step(); !s.ok()) return s;
  auto& file = files_[name];
  file = std::make_shared<File>();
  *out = new Writable(*this, file);
  return Status::OK();
}
Status FaultEnv::NewAppendableFile(const std::string& name, leveldb::WritableFile** out) {
  const std::lock_guard lock(mutex);
  *out = nullptr;
  if (Status s = step(); !s.ok()) return s;
  auto& file = files_[name];
  if (!file) file = std::make_shared<File>();
  *out = new Writable(*this, file);
  return Status::OK();
}
bool FaultEnv::FileExists(const std::string& name) {
  const std::lock_guard lock(mutex);
  return files_.contains(name);
}
Status FaultEnv::GetChildren(const std::string& dir, std::vector<std::string>* out) {
  const std::lock_guard lock(mutex);
  out->clear();
  const std::string prefix = dir + "/";
  for (const auto& [name, file] : files_)
    if (name.starts_with(prefix) && name.find('/', prefix.size()) == std::string::npos) out->push_back(name.substr(prefix.size()));
  return Status::OK();
}
Status FaultEnv::DeleteFile(const std::string& name) {
  const std::lock_guard lock(mutex);
  if (Status s = step(); !s.ok()) return s;
  return files_.erase(name) != 0 ? Status::OK() : missing(name);
}
Status FaultEnv::GetFileSize(const std::string& name, uint64_t* size) {
  const std::lock_guard lock(mutex);
  const auto at = files_.find(name);
  if (at == files_.end()) return missing(name);
  *size = at->second->bytes.size();
  return Status::OK();
}
Status FaultEnv::RenameFile(const std::string& from, const std::string& to) {
  const std::lock_guard lock(mutex);
  if (Status s = step(); !s.ok()) return s;
  const auto at = files_.find(from);
  if (at == files_.end()) return missing(from);
  files_[to] = at->second;
  files_.erase(from);
  return Status::OK();
}
Status FaultEnv::LockFile(const std::string&, leveldb::FileLock** lock) {
  *lock = new Lock;
  return Status::OK();
}
Status FaultEnv::UnlockFile(leveldb::FileLock* lock) {
  delete lock;
  return Status::OK();
}
Status FaultEnv::NewLogger(const std::string&, leveldb::Logger** out) {
  *out = new Silent;
  return Status::OK();
}

}  // namespace zg::test
