#include "chain/block_log.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "chain/files.h"
#include "leveldb/env.h"

namespace zg {

namespace {

constexpr size_t kReadersMax = 16;

// Number of a segment's name, 0 for other names.
uint32_t segment_of(const std::string& name) {
  if (name.size() != 10 || name.compare(6, 4, ".log") != 0) return 0;
  uint32_t n = 0;
  for (size_t i = 0; i < 6; ++i) {
    if (name[i] < '0' || name[i] > '9') return 0;
    n = n * 10 + static_cast<uint32_t>(name[i] - '0');
  }
  return n;
}

}  // namespace

BlockLog::BlockLog(leveldb::Env* env, std::string dir, uint64_t segment_bytes, bool sync)
    : env_(env), dir_(std::move(dir)), segment_bytes_(segment_bytes), sync_(sync) {}

BlockLog::~BlockLog() {
  if (file_ != nullptr) (void)file_->Close();
}

std::string BlockLog::path_of(uint32_t segment) const {
  char name[16];
  std::snprintf(name, sizeof name, "%06u.log", segment % 1'000'000);
  return dir_ + "/" + name;
}

BlockLog::Error BlockLog::open(leveldb::Env* env, const std::string& dir, uint64_t segment_bytes, bool sync, const std::optional<Place>& head,
                               std::unique_ptr<BlockLog>& out, std::string& message) {
  make_directory(env, dir);
  std::unique_ptr<BlockLog> log(new BlockLog(env, dir, segment_bytes, sync));
  std::vector<std::string> names;
  if (const leveldb::Status s = env->GetChildren(dir, &names); !s.ok()) {
    message = "block log: " + s.ToString();
    return Error::io;
  }
  uint32_t last = 0;
  for (const std::string& name : names) {
    const uint32_t segment = segment_of(name);
    if (segment == 0) continue;
    // Without a head there may be what a crash left of the genesis, no more.
    if (!head && segment > 1) {
      message = "block log: there are blocks (" + name + ") but no index of them";
      return Error::corrupt;
    }
    if (head && segment > head->segment) {
      if (const leveldb::Status s = env->DeleteFile(dir + "/" + name); !s.ok()) {
        message = "block log: " + s.ToString();
        return Error::io;
      }
      continue;
    }
    last = std::max(last, segment);
  }
  if (!head) {
    if (last != 0) (void)env->DeleteFile(log->path_of(1));
    out = std::move(log);
    return Error::none;
  }
  uint64_t size = 0;
  const uint64_t end = head->offset + kRecordHead + head->length;
  if (!env->GetFileSize(log->path_of(head->segment), &size).ok() || size < end) {
    message = "block log: segment " + std::to_string(head->segment) + " ends before the last block";
    return Error::corrupt;
  }
  log->segment_ = head->segment;
  log->end_ = size;
  if (size == end && size < segment_bytes) {
    leveldb::WritableFile* file = nullptr;
    if (const leveldb::Status s = env->NewAppendableFile(log->path_of(head->segment), &file); !s.ok()) {
      message = "block log: " + s.ToString();
      return Error::io;
    }
    log->file_.reset(file);
  }
  out = std::move(log);
  return Error::none;
}

bool BlockLog::roll(std::string& message) {
  if (file_ != nullptr) (void)file_->Close();
  file_.reset();
  leveldb::WritableFile* file = nullptr;
  const leveldb::Status s = env_->NewWritableFile(path_of(segment_ + 1), &file);
  if (!s.ok()) {
    message = "block log: " + s.ToString();
    return false;
  }
  file_.reset(file);
  ++segment_;
  end_ = 0;
  if (sync_ && !sync_directory(env_, dir_)) {
    message = "block log: the directory does not sync";
    return false;
  }
  return true;
}

bool BlockLog::append(uint64_t height, ByteView payload, Place& out, std::string& message) {
  if (payload.size() > kRecordBytesMax) {
    message = "block log: a record of " + std::to_string(payload.size()) + " bytes";
    return false;
  }
  if ((file_ == nullptr || end_ >= segment_bytes_) && !roll(message)) return false;
  std::string record;
  record.reserve(kRecordHead + payload.size());
  frame_record(height, payload, record);
  leveldb::Status s = file_->Append(record);
  if (s.ok()) s = file_->Flush();
  if (!s.ok()) {
    message = "block log: " + s.ToString();
    return false;
  }
  out = {segment_, static_cast<uint32_t>(payload.size()), end_};
  end_ += record.size();
  return true;
}

bool BlockLog::sync(std::string& message) {
  if (!sync_ || file_ == nullptr) return true;
  const leveldb::Status s = file_->Sync();
  if (!s.ok()) message = "block log: " + s.ToString();
  return s.ok();
}

BlockLog::Error BlockLog::read(const Place& place, uint64_t height, Bytes& out, std::string& message) const {
  const auto where = [&] { return "block " + std::to_string(height) + " in " + path_of(place.segment) + " at byte " + std::to_string(place.offset); };
  const uint64_t end = place.offset + kRecordHead + place.length;
  if (place.length > kRecordBytesMax || end < place.offset) {
    message = where() + ": no record can be there, the index is damaged";
    return Error::corrupt;
  }
  std::shared_ptr<leveldb::RandomAccessFile> file;
  {
    const std::lock_guard lock(readers_mutex_);
    const auto it = std::find_if(readers_.begin(), readers_.end(), [&](const Reader& r) { return r.segment == place.segment; });
    // An open file sees only the bytes it had when it was opened.
    if (it != readers_.end() && it->size >= end) {
      file = it->file;
      std::rotate(it, it + 1, readers_.end());
    } else {
      if (it != readers_.end()) readers_.erase(it);
      uint64_t size = 0;
      leveldb::RandomAccessFile* opened = nullptr;
      const std::string path = path_of(place.segment);
      leveldb::Status s = env_->GetFileSize(path, &size);
      if (s.ok()) s = env_->NewRandomAccessFile(path, &opened);
      if (!s.ok()) {
        message = "block log: " + s.ToString();
        return s.IsNotFound() ? Error::corrupt : Error::io;
      }
      file.reset(opened);
      // Before memory is taken for it.
      if (size < end) {
        message = where() + ": the file ends early";
        return Error::corrupt;
      }
      if (readers_.size() >= kReadersMax) readers_.erase(readers_.begin());
      readers_.push_back({place.segment, size, file});
    }
  }
  std::string scratch(kRecordHead + place.length, '\0');
  leveldb::Slice got;
  const leveldb::Status s = file->Read(place.offset, scratch.size(), &got, scratch.data());
  if (!s.ok() || got.size() != scratch.size()) {
    message = where() + ": " + (s.ok() ? "the file ends early" : s.ToString());
    return Error::corrupt;
  }
  const auto* bytes = reinterpret_cast<const uint8_t*>(got.data());
  const RecordHead head = read_record_head(bytes);
  const ByteView payload{bytes + kRecordHead, place.length};
  if (head.tag != height || !record_is_sound(head, payload)) {
    message = where() + ": its sum is wrong, the bytes have changed on the disk";
    return Error::corrupt;
  }
  out.assign(payload.begin(), payload.end());
  return Error::none;
}

}  // namespace zg
