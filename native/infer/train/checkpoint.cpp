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
  uint64_t shape[7];
  double rope_base;
  double epsilon;
  uint64_t step;
  uint64_t seed;
  uint64_t floats;
};

Header header_of(const RunState& s, uint64_t floats) {
  const Config& c = s.config;
  Header h{};
  std::memcpy(h.magic, "ZGTRAIN2", 8);
  const long shape[7] = {c.vocab, c.width, c.layers, c.heads, c.kv_heads, c.hidden, c.context};
  for (int i = 0; i < 7; i++) h.shape[i] = static_cast<uint64_t>(shape[i]);
  h.rope_base = c.rope_base;
  h.epsilon = c.epsilon;
  h.step = s.step;
  h.seed = s.seed;
  h.floats = floats;
  return h;
}

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

std::string write_checkpoint(const std::string& path, const RunState& state) {
  const std::string part = path + ".part";
  const int fd = ::open(part.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return "cannot write " + part + ": " + std::strerror(errno);
  const Header header = header_of(state, state.parameters.size() + state.moments.size());
  const bool written = write_all(fd, &header, sizeof header) &&
                       write_all(fd, state.parameters.data(), state.parameters.size() * sizeof(float)) &&
                       write_all(fd, state.moments.data(), state.moments.size() * sizeof(float)) && ::fsync(fd) == 0;
  const int reason = errno;
  ::close(fd);
  if (!written) return "cannot write " + part + ": " + std::strerror(reason);
  if (std::rename(part.c_str(), path.c_str()) != 0) return "cannot replace " + path + ": " + std::strerror(errno);
  sync_folder(path);
  return "";
}

std::string read_checkpoint(const std::string& path, bool with_moments, RunState* state) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return "cannot open " + path;
  Header header{};
  if (!in.read(reinterpret_cast<char*>(&header), sizeof header) || std::memcmp(header.magic, "ZGTRAIN2", 8) != 0) {
    return path + ": not a checkpoint";
  }
  Config& c = state->config;
  long* const shape[7] = {&c.vocab, &c.width, &c.layers, &c.heads, &c.kv_heads, &c.hidden, &c.context};
  for (int i = 0; i < 7; i++) {
    if (header.shape[i] > 65536) return path + ": shape out of range";
    *shape[i] = static_cast<long>(header.shape[i]);
  }
  if (const char* fault = c.fault()) return path + ": " + fault;
  const auto count = static_cast<uint64_t>(layout_of(c).count);
  if (header.floats != 3 * count) return path + ": wrong number of values";
  if (std::filesystem::file_size(path) != sizeof header + header.floats * sizeof(float)) return path + ": cut short";
  c.rope_base = header.rope_base;
  c.epsilon = header.epsilon;
  state->step = header.step;
  state->seed = header.seed;
  state->parameters.resize(count);
  in.read(reinterpret_cast<char*>(state->parameters.data()), static_cast<std::streamsize>(count * sizeof(float)));
  if (with_moments) {
    state->moments.resize(2 * count);
    in.read(reinterpret_cast<char*>(state->moments.data()), static_cast<std::streamsize>(2 * count * sizeof(float)));
  }
  return in ? "" : path + ": cut short";
}

}  // namespace zg::train
