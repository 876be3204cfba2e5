// Large writes past the page cache, in one job on a worker thread.
//
//   writeDirect(fd, direct, offset, list)   writes the arrays of `list` one behind the other at `offset`; 8 bytes: errno as int32 LE, 0
//                                           when all is written, and 4 bytes of zeros
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

}  // namespace
#endif

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
    int32_t fault = 0;
#if defined(__linux__)
    fault = write_list(static_cast<int>(fd), static_cast<int>(direct), offset, list);
#else
    fault = ENOTSUP;
#endif
    for (size_t i = 0; i < 8; i++) out[i] = i < 4 ? static_cast<uint8_t>(static_cast<uint32_t>(fault) >> (8 * i)) : 0;
    return true;
  });
}

}  // namespace zg
