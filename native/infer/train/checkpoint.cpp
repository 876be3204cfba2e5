#include "checkpoint.h"

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
  std::memcpy(h.magic, "ZGTRAIN1", 8);
  const long shape[7] = {c.vocab, c.width, c.layers, c.heads, c.kv_heads, c.hidden, c.context};
  for (int i = 0; i < 7; i++) h.shape[i] = static_cast<uint64_t>(shape[i]);
  h.rope_base = c.rope_base;
  h.epsilon = c.epsilon;
  h.step = s.step;
  h.seed = s.seed;
  h.floats = floats;
  return h;
}

std::string write_one(const std::string& path, const Header& header, const std::vector<float>& floats) {
  const std::string part = path + ".part";
  {
    std::ofstream out(part, std::ios::binary | std::ios::trunc);
    out.write(reinterpret_cast<const char*>(&header), sizeof header);
    out.write(reinterpret_cast<const char*>(floats.data()), static_cast<std::streamsize>(floats.size() * sizeof(float)));
    out.flush();
    if (!out) return "cannot write " + part;
  }
  std::error_code error;
  std::filesystem::rename(part, path, error);
  return error ? "cannot replace " + path + ": " + error.message() : "";
}

std::string read_one(const std::string& path, Header* header, std::vector<float>* floats, uint64_t sets) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return "cannot open " + path;
  if (!in.read(reinterpret_cast<char*>(header), sizeof *header) || std::memcmp(header->magic, "ZGTRAIN1", 8) != 0) {
    return path + ": not a checkpoint";
  }
  Config c;
  long* const shape[7] = {&c.vocab, &c.width, &c.layers, &c.heads, &c.kv_heads, &c.hidden, &c.context};
  for (int i = 0; i < 7; i++) {
    if (header->shape[i] > 65536) return path + ": shape out of range";
    *shape[i] = static_cast<long>(header->shape[i]);
  }
  if (const char* fault = c.fault()) return path + ": " + fault;
  if (header->floats != sets * static_cast<uint64_t>(layout_of(c).count)) return path + ": wrong number of values";
  if (std::filesystem::file_size(path) != sizeof *header + header->floats * sizeof(float)) return path + ": cut short";
  floats->resize(header->floats);
  in.read(reinterpret_cast<char*>(floats->data()), static_cast<std::streamsize>(header->floats * sizeof(float)));
  return in ? "" : path + ": cut short";
}

}  // namespace

std::string write_checkpoint(const std::string& path, const RunState& state) {
  std::string fault = write_one(path + ".adam", header_of(state, state.moments.size()), state.moments);
  if (fault.empty()) fault = write_one(path, header_of(state, state.parameters.size()), state.parameters);
  return fault;
}

std::string read_checkpoint(const std::string& path, bool with_moments, RunState* state) {
  Header header{};
  std::string fault = read_one(path, &header, &state->parameters, 1);
  if (!fault.empty()) return fault;
  Config& c = state->config;
  long* const shape[7] = {&c.vocab, &c.width, &c.layers, &c.heads, &c.kv_heads, &c.hidden, &c.context};
  for (int i = 0; i < 7; i++) *shape[i] = static_cast<long>(header.shape[i]);
  c.rope_base = header.rope_base;
  c.epsilon = header.epsilon;
  state->step = header.step;
  state->seed = header.seed;
  if (!with_moments) return "";
  Header second{};
  fault = read_one(path + ".adam", &second, &state->moments, 2);
  if (!fault.empty()) return fault;
  header.floats = second.floats;
  return std::memcmp(&header, &second, sizeof header) == 0 ? "" : path + ".adam belongs to another step";
}

}  // namespace zg::train
