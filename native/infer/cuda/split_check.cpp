// Models split over devices and the CPU against the engine for CPUs, and the plans of such splits.
#include "split_check.h"

#include <stdio.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "../cpu/engine.h"
#include "backend.h"
#include "plan.h"

namespace zg::simt {
namespace {

constexpr uint32_t kPositions = 96;

std::unique_ptr<infer::Backend> open_cpu(const std::shared_ptr<const det::Model>& model, uint32_t layers, uint32_t pages, unsigned threads,
                                         std::string* why) {
  cpu::Options options;
  options.threads = threads;
  options.pages = pages;
  options.layers = layers;
  // What a stage reads of pages must have been written.
  options.poison = true;
  std::unique_ptr<cpu::Engine> engine = cpu::Engine::load(model, options, why);
  return engine == nullptr ? nullptr : infer::cpu_backend(std::move(engine));
}

std::unique_ptr<infer::Backend> open_layout(const std::shared_ptr<const det::Model>& model, const Layout& layout, unsigned threads, std::string* why) {
  infer::BackendOptions o;
  o.devices = layout.devices;
  o.shares = layout.shares;
  o.device_layers = static_cast<uint32_t>(model->layers.size()) - layout.cpu_layers;
  o.positions = kPositions;
  o.sequences = 4;
  o.threads = threads;
  o.cache_bytes = 32 * page_bytes(*model, model->layers.size());
  o.host_bytes = uint64_t{1} << 30;
  o.open_first = [&, threads](uint32_t layers, uint32_t pages, std::string* error) { return open_cpu(model, layers, pages, threads, error); };
  o.first_bytes = [&](uint32_t layers) { return cpu::Engine::weight_bytes(*model, layers); };
  return open_backend(model, o, why);
}

std::string words(const Layout& l) {
  std::string text = std::to_string(l.cpu_layers) + " layers on the CPU, devices";
  for (size_t i = 0; i < l.devices.size(); i++) {
    text.append(" ").append(std::to_string(l.devices[i]));
    if (!l.shares.empty()) text.append("×").append(std::to_string(l.shares[i]));
  }
  return text;
}

// Both back ends through the same steps. Rows: of which sequence, how many, which of them want logits (the last one, or all).
struct Piece {
  uint32_t sequence;
  uint32_t rows;
  bool all;
};

class Pair {
 public:
  Pair(infer::Backend* want, infer::Backend* got) : want_(want), got_(got), vocabulary_(want->model()->vocabulary), width_(want->model()->width) {
    for (int i = 0; i < 3; i++) {
      sequences_.push_back(std::make_unique<cpu::Sequence>(&want->pages()));
      sequences_.push_back(std::make_unique<cpu::Sequence>(&got->pages()));
      at_.push_back(0);
    }
  }

  // Different bits, or UINT64_MAX when one could not be computed.
  uint64_t step(const std::vector<Piece>& pieces, uint64_t* logits) {
    std::vector<cpu::Row> left, right;
    for (const Piece& p : pieces) {
      for (uint32_t s = 0; s < 2; s++) {
        if (!sequences_[2 * p.sequence + s]->reserve(at_[p.sequence] + p.rows)) return UINT64_MAX;
      }
      for (uint32_t i = 0; i < p.rows; i++) {
        seed_ = seed_ * 1664525u + 1013904223u;
        const uint32_t token = seed_ / 65536u % static_cast<uint32_t>(vocabulary_);
        const bool wants = p.all || i + 1 == p.rows;
        left.push_back({.sequence = sequences_[2 * p.sequence].get(), .position = at_[p.sequence] + i, .token = token, .wants_logits = wants});
        right.push_back(left.back());
        right.back().sequence = sequences_[2 * p.sequence + 1].get();
      }
      at_[p.sequence] += p.rows;
    }
    if (!want_->run(&left, nullptr) || !got_->run(&right, nullptr)) return UINT64_MAX;
    uint64_t different = 0;
    for (size_t i = 0; i < left.size(); i++) {
      different += left[i].failed_layer != right[i].failed_layer;
      if (left[i].failed_layer != right[i].failed_layer && failures_++ == 0) {
        printf("  row %zu: layer %u, should be %u\n", i, right[i].failed_layer, left[i].failed_layer);
      }
      if ((left[i].logits == nullptr) != (right[i].logits == nullptr)) different++;
      if (left[i].logits == nullptr || right[i].logits == nullptr) continue;
      for (size_t v = 0; v < vocabulary_; v++) different += det::bits_of(left[i].logits[v]) != det::bits_of(right[i].logits[v]);
      for (size_t c = 0; c < width_; c++) different += det::bits_of(left[i].hidden[c]) != det::bits_of(right[i].hidden[c]);
      *logits += vocabulary_;
    }
    return different;
  }

 private:
  infer::Backend* want_;
  infer::Backend* got_;
  size_t vocabulary_, width_;
  std::vector<std::unique_ptr<cpu::Sequence>> sequences_;
  std::vector<uint32_t> at_;
  uint32_t seed_ = 4711;
  int failures_ = 0;
};

// A long piece in tiles beside short ones, then sequences that decode at different positions, alone and beside a prompt.
const std::vector<std::vector<Piece>> kSteps = {
    {{0, 5, false}, {1, 2, true}}, {{1, 1, true}, {0, 1, true}, {2, 1, false}}, {{2, 1, true}}};

bool compare(const std::shared_ptr<const det::Model>& model, const std::string& title, const Layout& layout, unsigned threads, uint64_t* logits) {
  std::string why;
  const std::unique_ptr<infer::Backend> want = open_cpu(model, UINT32_MAX, 64, threads, &why);
  if (want == nullptr) return printf("%s: %s\n", title.c_str(), why.c_str()), false;
  const std::unique_ptr<infer::Backend> got = open_layout(model, layout, threads, &why);
  if (got == nullptr) return printf("%s, %s: %s\n", title.c_str(), words(layout).c_str(), why.c_str()), false;
  Pair pair(want.get(), got.get());
  for (const auto& pieces : kSteps) {
    const uint64_t different = pair.step(pieces, logits);
    if (different == 0) continue;
    printf("%s, %s: %s\n", title.c_str(), words(layout).c_str(),
           different == UINT64_MAX ? ("not computed: " + got->fault()).c_str() : (std::to_string(different) + " differ").c_str());
    return false;
  }
  return true;
}

size_t stages_of(const Layout& l) { return l.devices.size() + l.cpu_layers; }

bool expect(bool condition, const char* what) {
  if (!condition) printf("plans: %s\n", what);
  return condition;
}

}  // namespace

bool compare_layouts(const std::string& path, const std::vector<Layout>& layouts, unsigned threads, uint64_t* logits) {
  gguf::Error error;
  const std::shared_ptr<const det::Model> model = det::Model::open(path.c_str(), &error);
  // What is no model was told by others.
  if (model == nullptr) return true;
  bool ok = true;
  for (const Layout& l : layouts) {
    if (stages_of(l) <= model->layers.size()) ok = compare(model, path, l, threads, logits) && ok;
  }
  return ok;
}

bool compare_random_layers(const std::vector<Layout>& layouts, unsigned threads) {
  det::RandomShape shape;
  shape.layers = 4;
  shape.width = shape.feed = 256;
  shape.heads = 4;
  shape.kv_heads = 2;
  shape.head_size = 64;
  shape.vocabulary = 64;
  shape.context = 128;
  bool ok = true;
  uint64_t logits = 0;
  for (uint32_t i = 0; i < shape.layers; i++) {
    const std::shared_ptr<det::Model> model = det::random_model(shape, 3);
    model->layers[i].window = 3;
    for (const Layout& l : layouts) ok = compare(model, "a window in layer " + std::to_string(i + 1), l, threads, &logits) && ok;
  }
  for (uint32_t bad = 0; bad < shape.layers; bad++) {
    std::shared_ptr<det::Model> model = det::random_model(shape, 5);
    // One value too many: half of the rows have it in their way, as the sign of the state says.
    model->layers[bad].feed_norm[bad] = 3e38f;
    for (const Layout& l : layouts) ok = compare(model, "values not finite in layer " + std::to_string(bad + 1), l, threads, &logits) && ok;
  }
  return ok;
}

bool check_plans() {
  det::RandomShape shape;
  shape.layers = 8;
  shape.width = shape.feed = 256;
  shape.heads = 4;
  shape.kv_heads = 2;
  shape.head_size = 64;
  shape.vocabulary = 300;
  shape.context = 512;
  const std::unique_ptr<det::Model> model = det::random_model(shape, 9);
  bool ok = true;
  PlanInput in;
  in.model = model.get();
  in.engine.positions = 256;
  in.engine.sequences = 4;
  in.engine.rows = 64;
  in.engine.pages = EngineOptions::kNoPages;
  // Stages take what plans think, byte for byte.
  for (const auto& [first, last] : std::vector<std::pair<uint32_t, uint32_t>>{{0, 8}, {0, 3}, {3, 5}, {5, 8}}) {
    EngineOptions o = in.engine;
    o.first_layer = first;
    o.last_layer = last;
    std::string why;
    const auto engine = Engine::open(*model, o, &why);
    if (engine == nullptr) return printf("plans: %s\n", why.c_str()), false;
    const Need need = need_of(*model, o);
    uint64_t bytes = need.embedding + need.output + need.work;
    for (const uint64_t l : need.layers) bytes += l;
    ok = expect(bytes == engine->device_bytes(), "a stage takes other memory than planned") && ok;
    ok = expect(engine->page_bytes() == need.page_layer * (last - first), "pages are of another size than planned") && ok;
  }
  const Need need = need_of(*model, in.engine);
  const uint64_t layer = need.layers[0] + 16 * need.page_layer;
  const auto room = [&](double layers, bool begins) {
    const double bytes = static_cast<double>(need.work + need.output + (begins ? need.embedding : 0)) + layers * static_cast<double>(layer);
    // What is left of it without the reserve.
    return static_cast<uint64_t>(bytes * 20 / 19) + 64;
  };
  Plan plan;
  std::string why;
  const auto cut = [&](std::vector<uint32_t> wanted) {
    std::vector<uint32_t> got{plan.cpu_layers};
    for (const PlanStage& s : plan.stages) got.push_back(s.last);
    return got == wanted;
  };
  in.rooms = {{0, "a", uint64_t{1} << 33}, {1, "b", uint64_t{1} << 33}};
  ok = expect(make_plan(in, &plan, &why) && plan.stages.size() == 2 && plan.stages[0].last >= 3 && plan.stages[0].last <= 5, "two equal devices do not share") && ok;
  in.rooms = {{0, "a", room(6.5, true)}, {1, "b", room(2.5, false)}};
  ok = expect(make_plan(in, &plan, &why) && cut({0, 6, 8}), "layers do not follow free memory") && ok;
  in.rooms[0].free_bytes = room(2.5, true);
  in.rooms[1].free_bytes = room(6.5, false);
  ok = expect(make_plan(in, &plan, &why) && cut({0, 2, 8}), "layers do not follow free memory the other way") && ok;
  in.shares = {3, 1};
  ok = expect(!make_plan(in, &plan, &why) && why.find("layers 1 to 6 need") != std::string::npos && why.find("of a,") != std::string::npos,
              "shares that do not fit are taken") && ok;
  in.rooms[0].free_bytes = in.rooms[1].free_bytes = uint64_t{1} << 33;
  ok = expect(make_plan(in, &plan, &why) && cut({0, 6, 8}), "shares are not followed") && ok;
  in.shares = {20, 1};
  ok = expect(!make_plan(in, &plan, &why) && why.find("without any") != std::string::npos, "a device without layers is planned") && ok;
  in.shares = {1};
  ok = expect(!make_plan(in, &plan, &why), "fewer shares than devices") && ok;
  in.shares.clear();
  // The CPU takes what devices have no room for, when it can.
  in.rooms = {{0, "a", room(3.5, false)}};
  ok = expect(!make_plan(in, &plan, &why) && why.find("layers 1 to 8 need") != std::string::npos, "more than fits is planned") && ok;
  for (uint64_t i = 1; i < 8; i++) in.cpu_layers.push_back(i * layer);
  in.host_bytes = 2 * (6 * layer + 6 * 16 * need.page_layer);
  ok = expect(make_plan(in, &plan, &why) && cut({5, 8}), "the CPU does not take the rest") && ok;
  in.device_layers = 2;
  ok = expect(make_plan(in, &plan, &why) && cut({6, 8}), "so many layers on the device are not planned") && ok;
  in.device_layers = 1;
  ok = expect(!make_plan(in, &plan, &why) && why.find("of the machine's memory") != std::string::npos, "the machine's memory is not looked at") && ok;
  in.device_layers = 20;
  in.rooms[0].free_bytes = uint64_t{1} << 33;
  ok = expect(make_plan(in, &plan, &why) && cut({0, 8}), "more layers on the device than there are") && ok;
  in.device_layers = 0;
  in.rooms[0].free_bytes = need.work;
  ok = expect(!make_plan(in, &plan, &why) && why.find("with layers 1 to 6 on the CPU, which has room for no more (") != std::string::npos, "nothing fits, and that is not told") && ok;
  in.cache_bytes = 5;
  ok = expect(!make_plan(in, &plan, &why) && why.find("holds no page") != std::string::npos, "a cache without a page") && ok;
  if (!ok) printf("plans: last reason: %s\n", why.c_str());
  return ok;
}

}  // namespace zg::simt
