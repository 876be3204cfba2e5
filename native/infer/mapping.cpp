// Files in memory, read-only.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "gguf.h"

namespace zg::gguf {

namespace {

int64_t nanoseconds_of(const struct stat& s) {
#ifdef __APPLE__
  return s.st_mtimespec.tv_nsec;
#else
  return s.st_mtim.tv_nsec;
#endif
}

bool fail(Error* error, const char* what, int code) {
  error->message = std::string(what) + ": " + std::strerror(code);
  return false;
}

}  // namespace

Mapping::~Mapping() {
  if (data_ != nullptr) munmap(const_cast<uint8_t*>(data_), size_);
  if (fd_ >= 0) close(fd_);
}

bool Mapping::open(const char* path, Error* error) noexcept {
  // Not blocking: the path may be a pipe without a writer.
  fd_ = ::open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd_ < 0) return fail(error, "cannot be opened", errno);
  struct stat s;
  if (fstat(fd_, &s) != 0) return fail(error, "cannot be read", errno);
  if (!S_ISREG(s.st_mode)) {
    error->message = "is not a regular file";
    return false;
  }
  if (s.st_size < 24) {
    error->message = "is too short for a GGUF file";
    return false;
  }
  void* start = mmap(nullptr, static_cast<size_t>(s.st_size), PROT_READ, MAP_PRIVATE, fd_, 0);
  if (start == MAP_FAILED) return fail(error, "cannot be mapped", errno);
  data_ = static_cast<const uint8_t*>(start);
  size_ = static_cast<size_t>(s.st_size);
  seconds_ = s.st_mtime;
  nanoseconds_ = nanoseconds_of(s);
  return true;
}

bool Mapping::unchanged() const noexcept {
  struct stat s;
  return fstat(fd_, &s) == 0 && static_cast<size_t>(s.st_size) == size_ && s.st_mtime == seconds_ &&
         nanoseconds_of(s) == nanoseconds_;
}

}  // namespace zg::gguf
