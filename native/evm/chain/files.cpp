#include "chain/files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "db/pread_env.h"
#include "leveldb/env.h"
#include "util/crc32c.h"

namespace zg {

namespace {

void put_le(uint64_t x, size_t n, char* p) {
  for (size_t i = 0; i < n; ++i) p[i] = static_cast<char>(x >> (8 * i));
}
uint64_t get_le(const uint8_t* p, size_t n) {
  uint64_t x = 0;
  for (size_t i = 0; i < n; ++i) x |= static_cast<uint64_t>(p[i]) << (8 * i);
  return x;
}
uint32_t crc_of(uint64_t tag, uint32_t length, ByteView payload) {
  char head[12];
  put_le(tag, 8, head);
  put_le(length, 4, head + 8);
  const uint32_t first = leveldb::crc32c::Value(head, sizeof head);
  return leveldb::crc32c::Mask(leveldb::crc32c::Extend(first, reinterpret_cast<const char*>(payload.data()), payload.size()));
}

}  // namespace

void frame_record(uint64_t tag, ByteView payload, std::string& out) {
  char head[kRecordHead];
  const auto length = static_cast<uint32_t>(payload.size());
  put_le(length, 4, head);
  put_le(crc_of(tag, length, payload), 4, head + 4);
  put_le(tag, 8, head + 8);
  out.append(head, sizeof head);
  out.append(as_chars(payload));
}

RecordHead read_record_head(const uint8_t* p) noexcept {
  return {static_cast<uint32_t>(get_le(p, 4)), static_cast<uint32_t>(get_le(p + 4, 4)), get_le(p + 8, 8)};
}

bool record_is_sound(const RecordHead& head, ByteView payload) noexcept {
  return head.length == payload.size() && head.crc == crc_of(head.tag, head.length, payload);
}

bool sync_directory(leveldb::Env* env, const std::string& dir) {
  if (!on_real_files(env)) return true;
  const int fd = ::open(dir.c_str(), O_RDONLY);
  if (fd < 0) return false;
  const bool ok = ::fsync(fd) == 0;
  ::close(fd);
  return ok;
}

bool DirectoryLock::take(leveldb::Env* env, const std::string& dir, bool& is_held_elsewhere, std::string& message) {
  is_held_elsewhere = false;
  if (!on_real_files(env)) return true;
  const std::string path = dir + "/chain.lock";
  fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd_ < 0) {
    message = path + ": " + std::strerror(errno);
    return false;
  }
  int r = 0;
  do r = ::flock(fd_, LOCK_EX | LOCK_NB);
  while (r != 0 && errno == EINTR);
  if (r == 0) return true;
  is_held_elsewhere = errno == EWOULDBLOCK;
  message = path + ": " + std::strerror(errno);
  return false;
}

DirectoryLock::~DirectoryLock() {
  if (fd_ >= 0) ::close(fd_);
}

void make_directory(leveldb::Env* env, const std::string& dir) { (void)env->CreateDir(dir); }

}  // namespace zg
