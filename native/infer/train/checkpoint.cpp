#include "checkpoint.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace zg::train {

namespace {

struct Header {
  char magic[8];
  uint64_t step;
  uint64_t seed;
  uint64_t layout_digest;
  uint64_t corpus_digest;
  uint64_t values;
};

constexpr char kMagic[] = "ZGTRAIN3";

/// Writes all of it or says why not.
bool write_all(int fd, const void* data, size_t size) {
  const char* at = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t done = ::write(fd, at, std::min(size, size_t{1} << 30));
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return false;
    at += done;
    size -= static_cast<size_t>(done);
  }
  return true;
}

/// A directory keeps a new name only once it is synced itself.
void sync_folder(const std::string& path) {
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  const int fd = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  ::fsync(fd);
  ::close(fd);
}

}  // namespace

uint64_t digest_of(const std::vector<Tensor>& tensors) {
  uint64_t h = 0xcbf29ce484222325ull;
  const auto add = [&](const std::string& text) {
    for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
  };
  for (const Tensor& t : tensors) {
    add(t.name + " " + std::to_string(t.rows) + " " + std::to_string(t.columns) + " " + std::to_string(t.depth) + "\n");
  }
  return h;
}

std::string write_whole(const std::string& path, const std::vector<Piece>& pieces) {
  const std::string part = path + ".part";
  const int fd = ::open(part.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return "cannot write " + part + ": " + std::strerror(errno);
  bool written = true;
  for (const Piece& piece : pieces) written = written && write_all(fd, piece.data, piece.size);
  written = written && ::fsync(fd) == 0;
  const int reason = errno;
  ::close(fd);
  if (!written) return "cannot write " + part + ": " + std::strerror(reason);
  if (std::rename(part.c_str(), path.c_str()) != 0) return "cannot replace " + path + ": " + std::strerror(errno);
  sync_folder(path);
  return "";
}

std::string write_checkpoint(const std::string& path, const RunState& s) {
  Header header{};
  std::memcpy(header.magic, kMagic, 8);
  header.step = s.step;
  header.seed = s.seed;
  header.layout_digest = s.layout_digest;
  header.corpus_digest = s.corpus_digest;
  header.values = s.trained.size();
  return write_whole(path, {{&header, sizeof header}, {s.trained.data(), s.trained.size() * sizeof(float)},
                            {s.moments.data(), s.moments.size() * sizeof(float)}});
}

std::string read_checkpoint(const std::string& path, uint64_t layout_digest, uint64_t count, bool with_moments, RunState* state) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return "cannot open " + path;
  Header header{};
  if (!in.read(reinterpret_cast<char*>(&header), sizeof header) || std::memcmp(header.magic, kMagic, 8) != 0) {
    return path + ": not a checkpoint";
  }
  if (header.layout_digest != layout_digest || header.values != count) return path + ": a checkpoint of something else";
  std::error_code unread;
  if (std::filesystem::file_size(path, unread) != sizeof header + 3 * count * sizeof(float)) return path + ": cut short";
  state->step = header.step;
  state->seed = header.seed;
  state->layout_digest = header.layout_digest;
  state->corpus_digest = header.corpus_digest;
  state->trained.resize(count);
  in.read(reinterpret_cast<char*>(state->trained.data()), static_cast<std::streamsize>(count * sizeof(float)));
  if (with_moments) {
    state->moments.resize(2 * count);
    in.read(reinterpret_cast<char*>(state->moments.data()), static_cast<std::streamsize>(2 * count * sizeof(float)));
  }
  return in ? "" : path + ": cut short";
}

}  // namespace zg::train
