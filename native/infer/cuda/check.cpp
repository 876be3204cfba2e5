// Tests and timings of the engine against the plain reference, on a device or under emulation: the same program, built twice.
//
//   check test [DIRECTORY]     random models of each type, then every fixture model there: logits bit for bit, alone, in chunks and beside
//                              others; and the scheduler over both engines
//   check long DIRECTORY TOKENS SEED    every fixture model there: up to 32 sequences at mixed positions, prompts, pieces and single tokens,
//                              bits of all logits and final states, over at least so many tokens
//   check bench [PRESET…]      what the device reads and multiplies, then decode and prefill of random models
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "device.h"
#include "engine.h"
#include "schedule_check.h"
#include "split_check.h"
#include "tiles.h"

namespace {

using namespace zg;

struct Tally {
  uint64_t logits = 0;
  uint64_t different = 0;
};

// The engine and the plain reference with one model of a file.
class Both {
 public:
  // False when the file cannot be used. A vocabulary, or the container of the reader's tests, has no model: there is nothing to compare.
  bool open(const std::string& path, simt::EngineOptions options, uint32_t most_positions) {
    path_ = path;
    gguf::Error error;
    model_ = det::Model::open(path.c_str(), &error);
    if (model_ == nullptr) {
      if (error.message.find("no tensors") != std::string::npos || path.find("container") != std::string::npos || error.message.find("not known") != std::string::npos) return true;
      printf("%s: %s\n", path.c_str(), error.message.c_str());
      return false;
    }
    options.positions = std::min(model_->context, most_positions);
    std::string why;
    engine_ = simt::Engine::open(*model_, options, &why);
    if (engine_ == nullptr) {
      printf("%s: %s\n", path.c_str(), why.c_str());
      return false;
    }
    reference_ = std::make_unique<det::Forward>(*model_, options.positions, options.load_threads);
    positions_ = options.positions;
    return true;
  }
  bool empty() const { return model_ == nullptr; }
  uint32_t vocabulary() const { return model_->vocabulary; }
  uint32_t positions() const { return positions_; }
  void cut(uint32_t sequence) {
    reference_->cut(sequence, 0);
    engine_->cut(sequence, 0);
  }

  // The rows through both: logits, final states, failures and arg-max. False when the engine cannot.
  bool step(const std::vector<det::Row>& rows) {
    std::vector<float> want, got, want_hidden, got_hidden;
    std::vector<uint32_t> want_failed, got_failed, best;
    reference_->run(rows, &want, &want_hidden, &want_failed);
    if (!engine_->run(rows, &got, &got_hidden, &got_failed, &best)) {
      printf("%s: %s\n", path_.c_str(), engine_->error().c_str());
      return false;
    }
    own_.logits += want.size();
    if (want.size() != got.size() || want_hidden.size() != got_hidden.size()) {
      own_.different++;
      return true;
    }
    for (size_t i = 0; i < want.size(); i++) own_.different += det::bits_of(want[i]) != det::bits_of(got[i]);
    for (size_t i = 0; i < want_hidden.size(); i++) own_.different += det::bits_of(want_hidden[i]) != det::bits_of(got_hidden[i]);
    own_.different += want_failed != got_failed;
    for (size_t r = 0; r < best.size(); r++) {
      const float* l = want.data() + r * model_->vocabulary;
      own_.different += best[r] != static_cast<uint32_t>(std::max_element(l, l + model_->vocabulary) - l);
    }
    return true;
  }

  // Adds to the tally; false when something differs.
  bool end(Tally* tally) const {
    tally->logits += own_.logits;
    tally->different += own_.different;
    if (own_.different > 0) {
      printf("%s: %llu of %llu differ\n", path_.c_str(), static_cast<unsigned long long>(own_.different),
             static_cast<unsigned long long>(own_.logits));
    }
    return own_.different == 0;
  }

 private:
  std::string path_;
  std::shared_ptr<const det::Model> model_;
  std::unique_ptr<simt::Engine> engine_;
  std::unique_ptr<det::Forward> reference_;
  uint32_t positions_ = 0;
  Tally own_;
};

// A few sequences through both engines: whole prompts, then single tokens side by side.
bool compare_model(const std::string& path, const simt::EngineOptions& base, uint32_t prompt, uint32_t decoded, Tally* tally) {
  simt::EngineOptions options = base;
  options.sequences = 3;
  options.rows = 160;
  options.pages = 64;
  Both both;
  if (!both.open(path, options, 256)) return false;
  if (both.empty()) return true;
  uint32_t seed = 12345;
  const auto token = [&] {
    seed = seed * 1664525u + 1013904223u;
    return seed / 65536u % both.vocabulary();
  };
  // Sequence 0 in one piece, 1 in two beside it.
  std::vector<det::Row> rows;
  for (uint32_t i = 0; i < prompt; i++) rows.push_back({0, i, token(), i % 8 == 7});
  for (uint32_t i = 0; i < prompt / 2; i++) rows.push_back({1, i, token(), false});
  if (!both.step(rows)) return false;
  rows.clear();
  for (uint32_t i = prompt / 2; i < prompt; i++) rows.push_back({1, i, token(), i + 1 == prompt});
  rows.push_back({0, prompt, token(), true});
  if (!both.step(rows)) return false;
  for (uint32_t i = 0; i < decoded; i++) {
    rows = {{0, prompt + 1 + i, token(), true}};
    if (i % 2 == 1) rows.push_back({1, prompt + i / 2, token(), true});
    if (!both.step(rows)) return false;
  }
  return both.end(tally);
}

// Random steps of up to 32 sequences, of which some grow to hundreds of positions, until so many tokens were computed.
bool compare_steps(const std::string& path, const simt::EngineOptions& base, uint64_t wanted, uint64_t seed, Tally* tally, uint64_t* tokens) {
  constexpr uint32_t kCrowd = 32;
  constexpr uint32_t kPositions = 400;
  simt::EngineOptions options = base;
  options.sequences = kCrowd;
  options.rows = options.logit_rows = 320;
  options.pages = kCrowd * (kPositions / 16 + 1);
  Both both;
  if (!both.open(path, options, kPositions)) return false;
  if (both.empty()) return true;
  const auto below = [&](uint32_t n) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return static_cast<uint32_t>((seed >> 33) * n >> 31);
  };
  std::vector<uint32_t> length(kCrowd, 0), end(kCrowd, 0);
  for (uint64_t done = 0; done < wanted;) {
    std::vector<det::Row> rows;
    const uint32_t first = below(kCrowd);
    for (uint32_t i = 0; i < kCrowd; i++) {
      const uint32_t s = (first + i) % kCrowd;
      if (length[s] == end[s]) {
        both.cut(s);
        length[s] = 0;
        end[s] = below(8) == 0 ? both.positions() - below(20) : 4 + below(40);
      }
      if (below(2) == 0) continue;
      uint32_t take = below(4) == 0 ? 1 + below(below(4) == 0 ? 200 : 24) : 1;
      take = std::min({take, end[s] - length[s], options.rows - static_cast<uint32_t>(rows.size())});
      for (uint32_t j = 0; j < take; j++) rows.push_back({s, length[s]++, below(both.vocabulary()), true});
    }
    if (rows.empty()) continue;
    if (!both.step(rows)) return false;
    done += rows.size();
    *tokens += rows.size();
  }
  return both.end(tally);
}

// One layer of a random model of each type, wide enough for several segments, against the reference.
bool compare_random(det::Type type, const simt::EngineOptions& base, uint32_t width, uint32_t rows_count, Tally* tally) {
  if (simt::tiled_bytes(type, 16, 256) == 0) return true;
  det::RandomShape shape;
  shape.layers = 1;
  shape.width = width;
  shape.feed = width + 256;
  shape.heads = 4;
  shape.kv_heads = 2;
  shape.head_size = 64;
  shape.vocabulary = 200;
  shape.context = 256;
  shape.type = shape.second = type;
  const auto model = det::random_model(shape, 7 + static_cast<uint64_t>(type));
  simt::EngineOptions options = base;
  options.positions = 128;
  options.sequences = 2;
  options.rows = 64;
  options.pages = 16;
  std::string why;
  const auto engine = simt::Engine::open(*model, options, &why);
  if (engine == nullptr) {
    printf("%s: %s\n", det::type_shape(type).name, why.c_str());
    return false;
  }
  det::Forward reference(*model, options.positions, options.load_threads);
  uint64_t different = 0;
  for (uint32_t at = 0, n = rows_count; at < rows_count + 2; at += n, n = 1) {
    std::vector<det::Row> rows;
    for (uint32_t i = 0; i < n; i++) rows.push_back({0, at + i, (at + i) * 37 % 200, i + 1 == n || i == 0});
    std::vector<float> want, got;
    std::vector<uint32_t> want_failed, got_failed, best;
    reference.run(rows, &want, nullptr, &want_failed);
    if (!engine->run(rows, &got, nullptr, &got_failed, &best)) {
      printf("%s: %s\n", det::type_shape(type).name, engine->error().c_str());
      return false;
    }
    tally->logits += want.size();
    for (size_t i = 0; i < want.size(); i++) different += det::bits_of(want[i]) != det::bits_of(got[i]);
    different += want_failed != got_failed;
  }
  if (different > 0) printf("%s, width %u, %u rows: %llu differ\n", det::type_shape(type).name, width, rows_count, static_cast<unsigned long long>(different));
  tally->different += different;
  return different == 0;
}

// Prompts in tiles of queries over several key blocks, windows that begin inside one, decoding behind them: heads of all sizes that tiles
// have kernels for.
bool compare_attention(const simt::EngineOptions& base, bool quick, Tally* tally) {
  struct Heads {
    uint32_t heads, kv_heads, head_size, window;
  };
  for (const Heads& h : {Heads{4, 2, 64, 0}, Heads{8, 1, 32, 40}, Heads{3, 3, 128, 70}, Heads{2, 1, 256, 0}, Heads{5, 1, 96, 100}}) {
    det::RandomShape shape;
    shape.layers = 2;
    shape.width = shape.feed = 256;
    shape.heads = h.heads;
    shape.kv_heads = h.kv_heads;
    shape.head_size = h.head_size;
    shape.vocabulary = 64;
    shape.context = 512;
    shape.type = shape.second = det::Type::kQ8_0;
    const auto model = det::random_model(shape, 3 + h.head_size);
    model->layers[1].window = h.window;
    simt::EngineOptions options = base;
    options.positions = 512;
    options.sequences = 3;
    options.rows = 256;
    options.pages = 96;
    std::string why;
    const auto engine = simt::Engine::open(*model, options, &why);
    if (engine == nullptr) {
      printf("attention: %s\n", why.c_str());
      return false;
    }
    det::Forward reference(*model, options.positions, options.load_threads);
    uint64_t different = 0;
    uint32_t at = 0;
    // Pieces that end inside key blocks, beside a second sequence that decodes and a third with few rows.
    const std::vector<uint32_t> pieces = quick ? std::vector<uint32_t>{70, 1, 61} : std::vector<uint32_t>{70, 1, 61, 130, 3, 64, 2};
    for (size_t p = 0; p < pieces.size(); p++) {
      std::vector<det::Row> rows;
      rows.push_back({1, static_cast<uint32_t>(p), static_cast<uint32_t>(p) + 5, true});
      for (uint32_t i = 0; i < pieces[p]; i++) rows.push_back({0, at + i, (at + i) * 11 % 64, i + 2 >= pieces[p]});
      for (uint32_t i = 0; i < 3; i++) rows.push_back({2, static_cast<uint32_t>(3 * p) + i, i + 9, i == 2});
      at += pieces[p];
      std::vector<float> want, got;
      std::vector<uint32_t> want_failed, got_failed, best;
      reference.run(rows, &want, nullptr, &want_failed);
      if (!engine->run(rows, &got, nullptr, &got_failed, &best)) {
        printf("attention: %s\n", engine->error().c_str());
        return false;
      }
      tally->logits += want.size();
      for (size_t i = 0; i < want.size(); i++) different += det::bits_of(want[i]) != det::bits_of(got[i]);
      different += want_failed != got_failed;
    }
    tally->different += different;
    if (different > 0) {
      printf("attention, %u heads of %u, window %u: %llu differ\n", h.heads, h.head_size, h.window, static_cast<unsigned long long>(different));
      return false;
    }
  }
  return true;
}

// Ways to lay models out on the devices here: each stage on another one, when there are enough; else one plays all of them.
std::vector<simt::Layout> layouts(uint32_t devices) {
  const uint32_t b = devices > 1 ? 1 : 0;
  const uint32_t c = devices > 2 ? 2 : 0;
  return {{{0, b}, {}, 0}, {{c, b, 0}, {}, 0}, {{b, 0}, {1, 2}, 1}, {{b}, {}, 2}};
}

// Every file with every layout; peer copies and the way over the host in turn (under emulation).
bool compare_splits(const std::vector<std::string>& files, uint32_t devices, unsigned threads) {
  uint64_t logits = 0;
  bool ok = true;
  for (size_t i = 0; i < files.size(); i++) {
    setenv("ZG_EMULATED_PEERS", i % 2 == 0 ? "0" : "1", 1);
    ok = simt::compare_layouts(files[i], layouts(devices), threads, &logits) && ok;
  }
  ok = simt::compare_random_layers(layouts(devices), threads) && ok;
  printf("splits over devices and the CPU: %s, %llu logits\n", ok ? "equal" : "DIFFERENT", static_cast<unsigned long long>(logits));
  const bool plans = simt::check_plans();
  printf("plans: %s\n", plans ? "as they should be" : "WRONG");
  return ok && plans;
}

int test(const char* directory, bool quick) {
  simt::EngineOptions options;
  options.load_threads = quick ? 2 : 8;
  Tally tally;
  bool ok = true;
  for (const det::Type type : det::kTypes) {
    ok = compare_random(type, options, 256, 3, &tally) && ok;
    ok = compare_random(type, options, 768, 13, &tally) && ok;
    if (!quick) ok = compare_random(type, options, 2048, 50, &tally) && ok;
  }
  // A missing barrier shows as other bits when threads run in another order.
  for (uint32_t order = 1; order < 4; order++) {
    simt::choose_thread_order(order);
    for (const det::Type type : {det::Type::kF16, det::Type::kQ4_0, det::Type::kQ4_K, det::Type::kQ6_K}) {
      ok = compare_random(type, options, 512, 7, &tally) && ok;
    }
  }
  simt::choose_thread_order(quick ? 2 : 0);
  ok = compare_attention(options, quick, &tally) && ok;
  simt::choose_thread_order(0);
  printf("random models of each type: %s, %llu logits\n", ok ? "equal" : "DIFFERENT", static_cast<unsigned long long>(tally.logits));
  det::RandomShape shape;
  shape.layers = 2;
  shape.width = shape.feed = quick ? 256 : 1024;
  shape.heads = 8;
  shape.kv_heads = 2;
  shape.head_size = 32;
  shape.vocabulary = quick ? 300 : 2'000;
  shape.context = 512;
  shape.type = det::Type::kQ4_K;
  shape.second = det::Type::kQ6_K;
  ok = simt::compare_schedules(shape, quick ? 8 : 48, quick ? 40 : 200, options.load_threads) && ok;
  if (directory == nullptr) return ok ? 0 : 1;
  std::vector<std::string> files;
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(directory, none)) {
    if (entry.path().extension() == ".gguf") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  size_t equal = 0;
  for (const std::string& file : files) {
    const bool same = compare_model(file, options, quick ? 9 : 96, quick ? 2 : 12, &tally);
    equal += same;
    ok = same && ok;
  }
  if (quick) setenv("ZG_EMULATED_DEVICES", "3", 1);
  std::string none_here;
  ok = compare_splits(files, static_cast<uint32_t>(simt::list_devices(&none_here).size()), options.load_threads) && ok;
  printf("%zu of %zu files equal (or without a model), %llu logits, %llu different\n", equal, files.size(),
         static_cast<unsigned long long>(tally.logits), static_cast<unsigned long long>(tally.different));
  return ok && !files.empty() ? 0 : 1;
}

int test_long(const char* directory, uint64_t wanted, uint64_t seed) {
  std::vector<std::string> files;
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(directory, none)) {
    if (entry.path().extension() == ".gguf") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  Tally tally;
  uint64_t tokens = 0;
  bool ok = !files.empty();
  for (uint64_t round = 0; ok && tokens < wanted; round++) {
    const uint64_t before = tokens;
    for (size_t i = 0; i < files.size(); i++) {
      // A short run leaves files out: others with another seed.
      if (wanted < 2'000 && (seed + i) % 3 != 0) continue;
      // A missing barrier shows as other bits when threads run in another order.
      simt::choose_thread_order(static_cast<uint32_t>((seed + round + i) % 4));
      const uint64_t share = std::min<uint64_t>(wanted / files.size() + 1, 1'000);
      ok = compare_steps(files[i], {}, share, seed * 1'000'003 + round * 1'009 + i, &tally, &tokens) && ok;
    }
    ok = ok && tokens > before;
  }
  printf("%zu files: %llu tokens, %llu logits, %llu different\n", files.size(), static_cast<unsigned long long>(tokens),
         static_cast<unsigned long long>(tally.logits), static_cast<unsigned long long>(tally.different));
  return ok && tally.different == 0 ? 0 : 1;
}

struct Preset {
  const char* name;
  det::RandomShape shape;
};

det::RandomShape sized(uint32_t layers, uint32_t width, uint32_t feed, uint32_t heads, uint32_t kv, uint32_t hs, det::Type a, det::Type b) {
  det::RandomShape s;
  s.layers = layers;
  s.width = width;
  s.feed = feed;
  s.heads = heads;
  s.kv_heads = kv;
  s.head_size = hs;
  s.vocabulary = 32'000;
  s.type = a;
  s.second = b;
  return s;
}

using det::Type;
const Preset kPresets[] = {
    {"1b-q8", sized(16, 2048, 8192, 32, 8, 64, Type::kQ8_0, Type::kQ8_0)},
    {"1b-q4", sized(16, 2048, 8192, 32, 8, 64, Type::kQ4_0, Type::kQ4_0)},
    {"3b-q4km", sized(28, 3072, 8192, 24, 8, 128, Type::kQ4_K, Type::kQ6_K)},
    {"8b-q8", sized(32, 4096, 14336, 32, 8, 128, Type::kQ8_0, Type::kQ8_0)},
    {"8b-q4", sized(32, 4096, 14336, 32, 8, 128, Type::kQ4_0, Type::kQ4_0)},
    {"8b-q4km", sized(32, 4096, 14336, 32, 8, 128, Type::kQ4_K, Type::kQ6_K)},
    {"tiny", sized(2, 512, 1024, 8, 4, 64, Type::kQ4_0, Type::kQ4_0)},
    {"8b-2-q4", sized(2, 4096, 14336, 32, 8, 128, Type::kQ4_0, Type::kQ4_0)},
    {"8b-2-q4km", sized(2, 4096, 14336, 32, 8, 128, Type::kQ4_K, Type::kQ6_K)},
    {"8b-2-q8", sized(2, 4096, 14336, 32, 8, 128, Type::kQ8_0, Type::kQ8_0)},
};

const Preset* preset(const char* name) {
  for (const Preset& p : kPresets) {
    if (strcmp(p.name, name) == 0) return &p;
  }
  printf("no preset %s\n", name);
  return nullptr;
}

// A prompt and three tokens without graphs, for a profiler.
int profile(const char* name) {
  const Preset* p = preset(name);
  if (p == nullptr) return 2;
  const auto model = det::random_model(p->shape, 1);
  simt::EngineOptions options;
  options.positions = 1024;
  options.sequences = 1;
  options.pages = 64;
  options.graphs = false;
  options.load_threads = 16;
  std::string why;
  const auto engine = simt::Engine::open(*model, options, &why);
  if (engine == nullptr) {
    printf("%s\n", why.c_str());
    return 1;
  }
  std::vector<uint32_t> failed, best;
  std::vector<det::Row> rows;
  for (uint32_t r = 0; r < 512; r++) rows.push_back({0, r, (r * 7919u) % p->shape.vocabulary, r == 511});
  bool ok = engine->run(rows, nullptr, nullptr, &failed, &best);
  for (uint32_t i = 0; i < 3 && ok; i++) ok = engine->run({{0, 512 + i, 1, true}}, nullptr, nullptr, &failed, &best);
  if (!ok) printf("%s\n", engine->error().c_str());
  return ok ? 0 : 1;
}

int bench(int count, char** names) {
  const double bandwidth = simt::read_bandwidth(nullptr, size_t{4} << 30);
  const double peak = simt::matrix_peak(nullptr);
  printf("read %.0f GB/s   int8 mma.sync %.0f TOPS\n", bandwidth / 1e9, peak / 1e12);
  printf("model     GB load-s |  decode tok/s  GB/s  of-read | b4 tok/s b16 tok/s | prefill512 tok/s TOPS of-mma of-1979\n");
  for (int i = 0; i < count; i++) {
    // NAME, or NAME:AHEAD:BLOCKS to try other choices of decoding.
    const std::string wanted = names[i];
    const size_t first = wanted.find(':');
    const size_t second = first == std::string::npos ? first : wanted.find(':', first + 1);
    if (const Preset* found = preset(wanted.substr(0, first).c_str()); found != nullptr) {
      const Preset& p = *found;
      auto model = det::random_model(p.shape, 1);
      simt::EngineOptions options;
      options.positions = 1024;
      options.sequences = 16;
      options.rows = 512;
      options.pages = 1024;
      options.load_threads = 16;
      if (first != std::string::npos) options.ahead = static_cast<uint32_t>(atoi(wanted.c_str() + first + 1));
      if (second != std::string::npos) options.vector_blocks = static_cast<uint32_t>(std::max(1, atoi(wanted.c_str() + second + 1)));
      std::string why;
      const auto engine = simt::Engine::open(*model, options, &why);
      if (engine == nullptr) {
        printf("%s: %s\n", p.name, why.c_str());
        continue;
      }
      std::vector<uint32_t> failed, best;
      std::vector<float> prefill_ms;
      double wall = 0;
      for (int repeat = 0; repeat < 4; repeat++) {
        engine->cut(0, 0);
        std::vector<det::Row> rows;
        for (uint32_t r = 0; r < 512; r++) rows.push_back({0, r, (r * 7919u) % p.shape.vocabulary, r == 511});
        if (!engine->run(rows, nullptr, nullptr, &failed, &best)) {
          printf("%s: %s\n", p.name, engine->error().c_str());
          return 1;
        }
        prefill_ms.push_back(engine->step_ms());
      }
      const auto decode = [&](uint32_t batch) {
        std::vector<float> ms;
        for (uint32_t s = 0; s < batch; s++) engine->cut(s, s == 0 ? 512 : 0);
        const auto started = std::chrono::steady_clock::now();
        for (uint32_t step = 0; step < 40; step++) {
          std::vector<det::Row> rows;
          for (uint32_t s = 0; s < batch; s++) rows.push_back({s, (s == 0 ? 512 : 0) + step, best.empty() ? 1 : best[0], true});
          if (!engine->run(rows, nullptr, nullptr, &failed, &best)) {
            printf("%s: %s\n", p.name, engine->error().c_str());
            return 0.0;
          }
          ms.push_back(engine->step_ms());
        }
        wall = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - started).count() / 40;
        std::sort(ms.begin(), ms.end());
        return 1000.0 * batch / static_cast<double>(ms[ms.size() / 2]);
      };
      std::sort(prefill_ms.begin(), prefill_ms.end());
      const double pre = 512 / (static_cast<double>(prefill_ms[1]) * 1e-3);
      const double one = decode(1);
      const double own_wall = wall;
      const double four = decode(4);
      const double sixteen = decode(16);
      // Two operations a weight and token; the output matrix is for one token alone.
      const double weights = static_cast<double>(p.shape.layers) * p.shape.width *
                             (2.0 * p.shape.heads * p.shape.head_size + 2.0 * p.shape.kv_heads * p.shape.head_size + 3.0 * p.shape.feed);
      const double tops = 2 * weights * pre;
      const double rate = one * static_cast<double>(engine->weight_bytes());
      printf("%-16s %4.2f %5.2f | %6.1f (wall %.1f) %5.0f %5.1f %% | %6.0f %6.0f | %8.0f %5.1f %5.1f %% %5.1f %%\n", wanted.c_str(),
             static_cast<double>(engine->weight_bytes()) / 1e9, engine->load_ms() / 1e3, one, 1000 / own_wall, rate / 1e9,
             bandwidth > 0 ? 100 * rate / bandwidth : 0, four, sixteen, pre, tops / 1e12, peak > 0 ? 100 * tops / peak : 0, tops / 1979e10);
      printf("{\"type\":\"bench_cuda\",\"device\":\"%s\",\"model\":\"%s\",\"weight_bytes\":%llu,\"load_seconds\":%.3f,\"read_bytes_per_second\":%.4g,"
             "\"int8_ops_per_second\":%.4g,\"decode_tokens_per_second\":%.2f,\"decode_wall_tokens_per_second\":%.2f,\"decode_of_read\":%.4f,"
             "\"decode4_tokens_per_second\":%.1f,\"decode16_tokens_per_second\":%.1f,\"prefill_tokens_per_second\":%.0f,\"prefill_of_1979_tops\":%.4f}\n",
             engine->device_name().c_str(), wanted.c_str(), static_cast<unsigned long long>(engine->weight_bytes()), engine->load_ms() / 1e3, bandwidth, peak,
             one, 1000 / own_wall, bandwidth > 0 ? rate / bandwidth : 0, four, sixteen, pre, tops / 1979e12);
      fflush(stdout);
    }
  }
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  std::string why;
  const auto devices = zg::simt::list_devices(&why);
  if (devices.empty()) {
    printf("no CUDA device: %s\n", why.c_str());
    return 3;
  }
  printf("device: %s, compute capability %u\n", devices[0].name.c_str(), devices[0].capability);
  if (count >= 2 && strcmp(arguments[1], "test") == 0) return test(count >= 3 ? arguments[2] : nullptr, devices[0].capability == 0);
  if (count == 5 && strcmp(arguments[1], "long") == 0) {
    return test_long(arguments[2], strtoull(arguments[3], nullptr, 10), strtoull(arguments[4], nullptr, 10));
  }
  if (count >= 3 && strcmp(arguments[1], "profile") == 0) return profile(arguments[2]);
  if (count >= 2 && strcmp(arguments[1], "bench") == 0) return bench(count - 2, arguments + 2);
  fprintf(stderr, "usage: check test [DIRECTORY] | check long DIRECTORY TOKENS SEED | check bench PRESET…\n");
  return 2;
}
