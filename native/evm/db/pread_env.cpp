#include "db/pread_env.h"

#include <fcntl.h>
#include <leveldb/env.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

namespace zg {
namespace {

std::atomic<size_t> open_files = 0;

class PreadFile final : public leveldb::RandomAccessFile {
 public:
  PreadFile(std::string name, int fd) : name_(std::move(name)), fd_(fd) { ++open_files; }
  ~PreadFile() override {
    ::close(fd_);
    --open_files;
  }
  PreadFile(const PreadFile&) = delete;
  PreadFile& operator=(const PreadFile&) = delete;

  leveldb::Status Read(uint64_t offset, size_t n, leveldb::Slice* result, char* scratch) const override {
    size_t got = 0;
    while (got < n) {
      const ssize_t r = ::pread(fd_, scratch + got, n - got, static_cast<off_t>(offset + got));
      if (r < 0 && errno == EINTR) continue;
      if (r < 0) {
        *result = {};
        return leveldb::Status::IOError(name_, std::strerror(errno));
      }
      if (r == 0) break;  // the end of the file; what is short is found by whoever checks it
      got += static_cast<size_t>(r);
    }
    *result = {scratch, got};
    return leveldb::Status::OK();
  }

 private:
  const std::string name_;
  const int fd_;
};

class PreadEnv final : public leveldb::EnvWrapper {
 public:
  using leveldb::EnvWrapper::EnvWrapper;
  leveldb::Status NewRandomAccessFile(const std::string& name, leveldb::RandomAccessFile** result) override {
    *result = nullptr;
    const int fd = ::open(name.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return leveldb::Status::IOError(name, std::strerror(errno));
    *result = new PreadFile(name, fd);
    return leveldb::Status::OK();
  }
};

}  // namespace

leveldb::Env* pread_env() {
  static auto* const env = new PreadEnv(leveldb::Env::Default());
  return env;
}

size_t open_pread_files() { return open_files.load(std::memory_order_relaxed); }

bool on_real_files(const leveldb::Env* env) { return env == pread_env() || env == leveldb::Env::Default(); }

}  // namespace zg
