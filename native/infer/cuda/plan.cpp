#include "plan.h"

#include <algorithm>

namespace zg::simt {
namespace {

// A part of a device's free memory that nobody plans with: code of kernels, graphs, attention's scratch memory.
constexpr uint64_t kReservePart = 20;
// The part of the machine's free memory that layers on the CPU may take.
constexpr uint64_t kHostPart = 2;
// Parts of a device, for the most even way to fill several.
constexpr uint64_t kFill = uint64_t{1} << 20;

std::string mib(uint64_t bytes) { return std::to_string((bytes + (1 << 20) - 1) >> 20) + " MiB"; }

class Planner {
 public:
  Planner(const PlanInput& in, uint32_t pages) : in_(in), layers_(static_cast<uint32_t>(in.model->layers.size())), pages_(pages) {
    EngineOptions o = in.engine;
    o.first_layer = 0;
    whole_ = need_of(*in.model, o);
    // Where the embedding is the output, too, a stage that ends the model without beginning it has its own copy.
    o.first_layer = layers_ - 1;
    lone_output_ = layers_ > 1 ? need_of(*in.model, o).output : whole_.output;
  }

  uint64_t room(size_t device) const {
    const uint64_t free = in_.rooms[device].free_bytes;
    return free - free / kReservePart;
  }
  uint64_t cache_of(uint32_t layers) const { return uint64_t{pages_} * layers * whole_.page_layer; }

  // Of a stage, keys and values aside.
  uint64_t bytes_of(uint32_t first, uint32_t last) const {
    uint64_t bytes = whole_.work;
    for (uint32_t i = first; i < last; i++) bytes += whole_.layers[i];
    if (first == 0) bytes += whole_.embedding;
    if (last == layers_) bytes += first == 0 ? whole_.output : lone_output_;
    return bytes;
  }
  bool fits(size_t device, uint32_t first, uint32_t last) const {
    return bytes_of(first, last) + cache_of(last - first) <= room(device);
  }

  // The layers from `from` on over the devices, none filled beyond `fill` of kFill parts.
  bool spread(uint32_t from, uint64_t fill, std::vector<PlanStage>* out) const {
    out->clear();
    uint32_t at = from;
    for (uint32_t d = 0; d < in_.rooms.size() && at < layers_; d++) {
      const uint64_t most = room(d) / kFill * fill + room(d) % kFill * fill / kFill;
      uint32_t to = at;
      while (to < layers_ && bytes_of(at, to + 1) + cache_of(to + 1 - at) <= most) to++;
      if (to > at) out->push_back({d, at, to, bytes_of(at, to)});
      at = to;
    }
    return at == layers_;
  }

  // By free memory: as even as can be.
  bool even(uint32_t from, std::vector<PlanStage>* out) const {
    uint64_t low = 0;
    uint64_t high = kFill;
    std::vector<PlanStage> found;
    if (!spread(from, high, out)) return false;
    while (low + 1 < high) {
      const uint64_t middle = (low + high) / 2;
      if (spread(from, middle, &found)) {
        high = middle;
        *out = found;
      } else {
        low = middle;
      }
    }
    return true;
  }

  // By shares of the number of layers; nullptr-like empty when a device would get none.
  std::vector<PlanStage> shared(uint32_t from) const {
    uint64_t all = 0;
    for (const uint32_t s : in_.shares) all += s;
    std::vector<PlanStage> out;
    uint64_t sum = 0;
    uint32_t at = from;
    for (uint32_t d = 0; d < in_.rooms.size(); d++) {
      sum += in_.shares[d];
      const auto to = from + static_cast<uint32_t>(((layers_ - from) * sum + all / 2) / all);
      if (to == at) return {};
      out.push_back({d, at, to, bytes_of(at, to)});
      at = to;
    }
    return out;
  }

  bool devices(uint32_t from, std::vector<PlanStage>* out) const {
    if (in_.shares.empty()) return even(from, out);
    *out = shared(from);
    return !out->empty() && std::all_of(out->begin(), out->end(), [&](const PlanStage& s) { return fits(s.room, s.first, s.last); });
  }

  uint64_t host_room() const { return in_.host_bytes / kHostPart; }
  uint64_t host_need(uint32_t layers) const { return in_.cpu_layers[layers - 1] + cache_of(layers); }
  bool host_fits(uint32_t layers) const { return layers == 0 || (layers <= in_.cpu_layers.size() && host_need(layers) <= host_room()); }

  // Why it does not go with so many layers on the CPU.
  std::string reason(uint32_t from) const {
    if (!host_fits(from)) {
      if (from > in_.cpu_layers.size()) return "layers cannot lie on the CPU here";
      return layers_text(0, from) + (from == 1 ? " needs " : " need ") + mib(host_need(from)) + " of the machine's memory, " + mib(host_room()) +
             " (half of what is free) may be taken";
    }
    const std::vector<PlanStage> stages = in_.shares.empty() ? std::vector<PlanStage>{} : shared(from);
    for (const PlanStage& s : stages) {
      if (fits(s.room, s.first, s.last)) continue;
      return layers_text(s.first, s.last) + (s.first + 1 == s.last ? " needs " : " need ") + mib(s.bytes + cache_of(s.last - s.first)) + " of " + in_.rooms[s.room].name + ", " + mib(room(s.room)) + " can be taken";
    }
    if (!in_.shares.empty() && stages.empty()) {
      return std::to_string(layers_ - from) + " layers in these shares leave a device without any";
    }
    std::string text = layers_text(from, layers_) + (from + 1 == layers_ ? " needs " : " need ") + mib(bytes_of(from, layers_) + cache_of(layers_ - from)) + " on one device";
    for (size_t d = 0; d < in_.rooms.size(); d++) text.append(d == 0 ? ", " : " and ").append(mib(room(d))).append(" of ").append(in_.rooms[d].name);
    return text + " can be taken";
  }

 private:
  const PlanInput& in_;
  const uint32_t layers_;
  const uint32_t pages_;
  Need whole_;
  uint64_t lone_output_ = 0;
};

}  // namespace

std::string layers_text(uint32_t first, uint32_t last) {
  std::string out = first + 1 == last ? "layer " : "layers ";
  if (first + 1 < last) out.append(std::to_string(first + 1)).append(" to ");
  return out.append(std::to_string(last));
}

uint64_t page_bytes(const det::Model& model, size_t layers) {
  return uint64_t{2} * layers * det::kPage * model.kv_width() * sizeof(uint16_t);
}

bool make_plan(const PlanInput& in, Plan* out, std::string* error) {
  const auto layers = static_cast<uint32_t>(in.model->layers.size());
  const uint64_t page = page_bytes(*in.model, layers);
  out->pages = static_cast<uint32_t>(std::min<uint64_t>(in.cache_bytes / page, UINT32_MAX - 1));
  if (in.cache_bytes != 0 && out->pages == 0) {
    return *error = "a cache of " + std::to_string(in.cache_bytes) + " bytes holds no page of " + std::to_string(page), false;
  }
  if (!in.shares.empty() && in.shares.size() != in.rooms.size()) {
    return *error = std::to_string(in.shares.size()) + " shares for " + std::to_string(in.rooms.size()) + " devices", false;
  }
  if (std::count(in.shares.begin(), in.shares.end(), 0u) > 0) return *error = "a share is 1 or more", false;
  const uint32_t wanted = out->pages != 0 ? out->pages : (in.engine.positions + det::kPage - 1) / det::kPage;
  const Planner planner(in, wanted);
  const bool told = in.device_layers != 0;
  const uint32_t least = told ? layers - std::min(in.device_layers, layers) : 0;
  for (uint32_t from = least; from < layers; from++) {
    if (planner.host_fits(from) && planner.devices(from, &out->stages)) {
      out->cpu_layers = from;
      return true;
    }
    if (told || from >= in.cpu_layers.size()) break;
  }
  // What was asked for, or else the least that would have to fit.
  *error = "the model does not fit: " + planner.reason(least);
  uint32_t most = 0;
  while (!told && most + 1 < layers && planner.host_fits(most + 1)) most++;
  if (most > 0) {
    error->append("; with ").append(layers_text(0, most)).append(" on the CPU, ");
    if (most + 1 < layers) error->append("which has room for no more (").append(mib(planner.host_room())).append("), ");
    error->append(planner.reason(most));
  }
  return false;
}

}  // namespace zg::simt
