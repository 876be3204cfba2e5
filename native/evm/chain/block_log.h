// Blocks with their receipts in append-only segment files. The index (LevelDB) says where each block is; what lies behind the last block that it knows was
// never committed.
//
//   blocks/000001.log   record (files.h, tag = height) · record · …
//
// A crash may leave half a record behind the head: the next open begins a new segment there, so nothing is ever appended to bytes of unknown state.
// append, sync: one thread. read: any thread.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/types.h"

namespace leveldb {
class Env;
class RandomAccessFile;
class WritableFile;
}  // namespace leveldb

namespace zg {

class BlockLog {
 public:
  struct Place {
    uint32_t segment = 0;
    uint32_t length = 0;   // of the payload
    uint64_t offset = 0;   // of the record
  };
  enum class Error : uint8_t { none, corrupt, io };

  // `head`: where the last committed block is; nothing: there is none.
  static Error open(leveldb::Env* env, const std::string& dir, uint64_t segment_bytes, bool sync, const std::optional<Place>& head,
                    std::unique_ptr<BlockLog>& out, std::string& message);
  ~BlockLog();

  // Writes a record; not durable before sync(). False: the disk failed, and nothing more may be written.
  bool append(uint64_t height, ByteView payload, Place& out, std::string& message);
  bool sync(std::string& message);
  // Checked against its sum and height.
  Error read(const Place& place, uint64_t height, Bytes& out, std::string& message) const;

 private:
  struct Reader {
    uint32_t segment;
    uint64_t size;
    std::shared_ptr<leveldb::RandomAccessFile> file;
  };
  BlockLog(leveldb::Env* env, std::string dir, uint64_t segment_bytes, bool sync);
  [[nodiscard]] std::string path_of(uint32_t segment) const;
  bool roll(std::string& message);

  leveldb::Env* env_;
  std::string dir_;
  uint64_t segment_bytes_;
  bool sync_;
  uint32_t segment_ = 0;
  uint64_t end_ = 0;
  std::unique_ptr<leveldb::WritableFile> file_;
  mutable std::mutex readers_mutex_;
  mutable std::vector<Reader> readers_;  // most recently used last
};

}  // namespace zg
