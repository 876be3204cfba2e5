// Much data to files and back without keeping it in the page cache, one job on a worker thread each.
//
//   readCold(fd, offset, target)            fills `target` from `offset` on and lets the pages go; 8 bytes: errno as int32 LE, bytes read as
//                                           uint32 LE, less only at the end of the file
//   writeDirect(fd, direct, offset, list)   writes the arrays of `list` one behind the other at `offset`; 8 bytes: errno as int32 LE, 0
//                                           when all is written, and four zeros
//
// `fd` and `direct` are descriptors of one file, the second opened with O_DIRECT. Whole blocks go through `direct` from memory that is
// aligned for it; what lies before the first and behind the last whole block goes through `fd` and the page cache, so the file is as
// long as what was written, and offsets and arrays need no alignment. The kernel keeps both views of a file coherent: a direct write
// throws away cached pages of its range. Nothing is durable before fdatasync, as with every write.
//
// Why: a page of the cache that has to be fetched, filled, written and given back costs more processor time than copying it twice.
#include "disk_napi.h"

#include "job.h"

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#if defined(__linux__)
#include <fcntl.h>
#include <unistd.h>
#endif

namespace zg {

#if defined(__linux__)
namespace {

constexpr uint64_t kBlockBytes = 4096;
// Of the memory that a thread keeps for it. Larger pieces are hardly faster.
constexpr size_t kPieceBytes = size_t{2} << 20;

// Memory for direct writes, one a thread; given back when the thread ends.
struct Staging {
  void* memory = nullptr;
  Staging() noexcept {
    if (posix_memalign(&memory, kBlockBytes, kPieceBytes) != 0) memory = nullptr;
  }
  ~Staging() { std::free(memory); }
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;
};

// All `size` bytes at `offset`; errno or 0.
int write_all(int fd, const uint8_t* data, size_t size, uint64_t offset) noexcept {
  while (size > 0) {
    const ssize_t wrote = pwrite(fd, data, size, static_cast<off_t>(offset));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return errno;
    if (wrote == 0) return ENOSPC;
    data += wrote;
    size -= static_cast<size_t>(wrote);
    offset += static_cast<uint64_t>(wrote);
  }
  return 0;
}

// As write_all for whole blocks in aligned memory. After a short write, or where the file system takes no direct write here, the rest goes
// through the page cache.
int write_blocks(int fd, int direct, const uint8_t* data, size_t size, uint64_t offset) noexcept {
  const ssize_t wrote = pwrite(direct, data, size, static_cast<off_t>(offset));
  if (wrote < 0 && errno != EINVAL && errno != EINTR) return errno;
  const size_t done = wrote < 0 ? 0 : static_cast<size_t>(wrote);
  return write_all(fd, data + done, size - done, offset + done);
}

// Takes bytes out of a list of arrays in their order.
class Gather {
 public:
  explicit Gather(const std::vector<napi::Bytes>& list) : list_(list) {}

  void take(uint8_t* to, size_t size) noexcept {
    while (size > 0) {
      const napi::Bytes& from = list_[at_];
      const size_t part = size < from.size - used_ ? size : from.size - used_;
      std::memcpy(to, from.data + used_, part);
      to += part;
      size -= part;
      used_ += part;
      if (used_ == from.size) {
        at_++;
        used_ = 0;
      }
    }
  }

 private:
  const std::vector<napi::Bytes>& list_;
  size_t at_ = 0;
  size_t used_ = 0;
};

int write_list(int fd, int direct, uint64_t offset, const std::vector<napi::Bytes>& list) noexcept {
  static thread_local Staging staging;
  auto* memory = static_cast<uint8_t*>(staging.memory);
  if (memory == nullptr) return ENOMEM;
  uint64_t left = 0;
  for (const napi::Bytes& b : list) left += b.size;
  Gather gather(list);
  while (left > 0) {
    const uint64_t into_block = offset % kBlockBytes;
    size_t size = kPieceBytes;
    if (into_block != 0) size = static_cast<size_t>(kBlockBytes - into_block);
    if (size > left) size = static_cast<size_t>(left);
    const bool whole = into_block == 0 && size >= kBlockBytes;
    if (whole) size -= size % kBlockBytes;
    gather.take(memory, size);
    const int fault = whole ? write_blocks(fd, direct, memory, size, offset) : write_all(fd, memory, size, offset);
    if (fault != 0) return fault;
    offset += size;
    left -= size;
  }
  return 0;
}

// Fills `size` bytes from `offset`, less only at the end of the file; errno or 0.
int read_and_drop(int fd, uint8_t* target, size_t size, uint64_t offset, uint32_t* got) noexcept {
  size_t done = 0;
  while (done < size) {
    const ssize_t n = pread(fd, target + done, size - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    if (n == 0) break;
    done += static_cast<size_t>(n);
  }
  // A hint, so its result is of no interest.
  posix_fadvise(fd, static_cast<off_t>(offset), static_cast<off_t>(done), POSIX_FADV_DONTNEED);
  *got = static_cast<uint32_t>(done);
  return 0;
}

}  // namespace
#endif

namespace {

// An errno and a count, little endian.
void put_result(uint8_t* out, int32_t fault, uint32_t count) noexcept {
  for (size_t i = 0; i < 4; i++) {
    out[i] = static_cast<uint8_t>(static_cast<uint32_t>(fault) >> (8 * i));
    out[4 + i] = static_cast<uint8_t>(count >> (8 * i));
  }
}

}  // namespace

Napi::Value read_cold(const Napi::CallbackInfo& info) {
  size_t fd = 0;
  size_t offset = 0;
  napi::Bytes target;
  if (info.Length() != 3 || !napi::number_of(info[0], INT32_MAX, &fd) || !napi::number_of(info[1], size_t{1} << 53, &offset) ||
      !napi::lasting_bytes(info[2], &target) || target.size > size_t{1} << 30) {
    return napi::fail(info.Env(), "readCold: a descriptor, an offset and an array of up to 1 GiB wanted");
  }
  return napi::start(info, 8, [=](uint8_t* out) {
    uint32_t count = 0;
#if defined(__linux__)
    const int32_t fault = read_and_drop(static_cast<int>(fd), target.data, target.size, offset, &count);
#else
    const int32_t fault = ENOTSUP;
#endif
    put_result(out, fault, count);
    return true;
  });
}

Napi::Value write_direct(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const char* usage = "writeDirect: two descriptors, an offset and up to 1024 arrays wanted";
  size_t fd = 0;
  size_t direct = 0;
  size_t offset = 0;
  if (info.Length() != 4 || !napi::number_of(info[0], INT32_MAX, &fd) || !napi::number_of(info[1], INT32_MAX, &direct) ||
      !napi::number_of(info[2], size_t{1} << 53, &offset) || !info[3].IsArray()) {
    return napi::fail(env, usage);
  }
  const Napi::Array array = info[3].As<Napi::Array>();
  if (array.Length() > 1024) return napi::fail(env, usage);
  std::vector<napi::Bytes> list;
  for (uint32_t i = 0; i < array.Length(); i++) {
    napi::Bytes bytes;
    if (!napi::lasting_bytes(array.Get(i), &bytes)) return napi::fail(env, usage);
    if (bytes.size > 0) list.push_back(bytes);
  }
  return napi::start(info, 8, [=, list = std::move(list)](uint8_t* out) {
#if defined(__linux__)
    const int32_t fault = write_list(static_cast<int>(fd), static_cast<int>(direct), offset, list);
#else
    const int32_t fault = ENOTSUP;
#endif
    put_result(out, fault, 0);
    return true;
  });
}

}  // namespace zg
