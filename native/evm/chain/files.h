// What the block log and the pool's journal share: framed records over leveldb::Env, so that tests can put a disk that forgets under them.
//
//   record   length u32 · crc32c u32 (masked, of tag, length and payload) · tag u64 · payload        little endian
#pragma once

#include <string>

#include "base/types.h"

namespace leveldb {
class Env;
class Status;
}  // namespace leveldb

namespace zg {

inline constexpr size_t kRecordHead = 16;
inline constexpr uint32_t kRecordBytesMax = 1u << 30;

// Appends a framed record to `out`.
void frame_record(uint64_t tag, ByteView payload, std::string& out);
struct RecordHead {
  uint32_t length = 0, crc = 0;
  uint64_t tag = 0;
};
RecordHead read_record_head(const uint8_t* p) noexcept;  // kRecordHead bytes
bool record_is_sound(const RecordHead& head, ByteView payload) noexcept;

// Makes names in a directory durable: a new or renamed file is not there after a power cut otherwise. Only on the real disk; a simulated one decides
// for itself. False: it failed.
bool sync_directory(leveldb::Env* env, const std::string& dir);
// Held from a successful take() until its end. flock, because LevelDB's own lock is a record lock: a second, refused open in the same process would drop it.
class DirectoryLock {
 public:
  ~DirectoryLock();
  // False: another one holds it, in this process or another, or the file cannot be made (`message`). On a simulated disk it is always there.
  bool take(leveldb::Env* env, const std::string& dir, bool& is_held_elsewhere, std::string& message);

 private:
  int fd_ = -1;
};

// Creates a directory when it is missing, its parent being there.
void make_directory(leveldb::Env* env, const std::string& dir);

}  // namespace zg
