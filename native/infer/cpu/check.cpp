// Tests and timings of the CPU engine against the plain reference (native/infer/det).
//
//   check products SEED           every type of matrix, odd shapes and odd activations: bits of each level against the reference
//   check test DIRECTORY TOKENS SEED    every model there on every level, 1 and 2 threads, alone, in chunks, 32 sequences at mixed positions:
//                                 bits of all logits and final states, over at least so many tokens
//   check choices COUNT SEED      tokens drawn from random logits on every level against the plain way
//   check choice-speed VOCABULARY       microseconds a drawn token
//   check bench FILE THREADS PROMPT DECODED [brief]    timings (bench.h)
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "../det/forward_det.h"
#include "../sampler_check.h"
#include "bench.h"
#include "engine.h"

namespace {

using namespace zg;

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 2 + 1) {}
  uint32_t below(uint32_t n) {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<uint32_t>((state_ >> 33) * n >> 31);
  }
  float unit() { return static_cast<float>(below(1u << 24)) * 0x1p-23f - 1.0f; }

 private:
  uint64_t state_;
};

// ---- products ----

int check_products(uint64_t seed) {
  Random random(seed);
  cpu::Workers workers(2);
  uint64_t compared = 0;
  uint64_t wrong = 0;
  for (const det::Type type : det::kTypes) {
    const uint32_t unit = det::type_shape(type).values;
    for (int round = 0; round < 6; round++) {
      const bool floats = det::is_float_type(type);
      const size_t columns = floats ? 1 + random.below(700) : unit * (1 + random.below(unit == 32 ? 40 : 6));
      const size_t rows = 1 + random.below(70);
      const size_t row_bytes = columns / unit * det::type_shape(type).bytes;
      std::vector<uint8_t> bytes(rows * row_bytes + 8);
      det::random_blocks(type, rows, columns, seed + static_cast<uint64_t>(round), bytes.data());
      const det::Matrix matrix = {bytes.data(), type, columns, rows, row_bytes};
      const size_t n = 1 + random.below(30);
      std::vector<float> x(n * columns);
      for (size_t t = 0; t < n; t++) {
        for (size_t c = 0; c < columns; c++) x[t * columns + c] = random.unit() * (t % 3 == 0 ? 40.0f : 0.01f);
        if (t % 5 == 1) std::fill_n(&x[t * columns], std::min<size_t>(columns, 64), 0.0f);
        if (t % 5 == 2) std::fill_n(&x[t * columns], std::min<size_t>(columns, 40), 0x1p-101f);
        if (t % 5 == 3) std::fill_n(&x[t * columns], std::min<size_t>(columns, 32), -0x1p-99f);
      }
      if (round == 5) {
        x[random.below(static_cast<uint32_t>(x.size()))] = INFINITY;
        x[random.below(static_cast<uint32_t>(x.size()))] = NAN;
      }
      std::vector<float> want(n * rows);
      for (size_t t = 0; t < n; t++) {
        det::Activations a;
        if (!floats) det::quantize(&x[t * columns], columns, &a);
        for (size_t r = 0; r < rows; r++) {
          want[t * rows + r] = floats ? det::product(type, matrix.row(r), columns, &x[t * columns]) : det::product(type, matrix.row(r), columns, a);
        }
      }
      for (const ZgLevel* const* level = cpu::available_levels(); *level != nullptr; level++) {
        cpu::Packed packed = cpu::packed_shape(matrix, rows);
        cpu::Memory memory;
        if (!memory.allocate(cpu::packed_bytes(packed, 1))) return 2;
        cpu::pack(matrix, rows, 1, (*level)->unsigned_q8 != 0, memory.data(), &packed, &workers);
        cpu::Tokens tokens;
        tokens.prepare(n, columns, !floats, floats);
        for (size_t t = 0; t < n; t++) tokens.put(**level, t, &x[t * columns]);
        const size_t stride = size_t{packed.first.groups} * ZG_ROWS;
        std::vector<float> y(n * stride);
        (*level)->product(&packed.first, 0, packed.first.groups, tokens.groups(), tokens.group_count(), y.data(), stride);
        uint64_t here = 0;
        for (size_t t = 0; t < n; t++) {
          for (size_t r = 0; r < rows; r++) {
            const float a = want[t * rows + r];
            const float b = y[t * stride + r];
            compared++;
            here += det::bits_of(a) != det::bits_of(b) && !(std::isnan(a) && std::isnan(b));
          }
        }
        wrong += here;
        if (here > 0) printf("%s, %s, %zu x %zu, %zu tokens: %llu differ\n", det::type_shape(type).name, (*level)->name, rows, columns, n, static_cast<unsigned long long>(here));
      }
    }
  }
  printf("products: %llu values, %llu different\n", static_cast<unsigned long long>(compared), static_cast<unsigned long long>(wrong));
  return wrong == 0 ? 0 : 1;
}

// ---- whole models ----

// What the reference says of a few token sequences.
struct Reference {
  std::vector<std::vector<uint32_t>> tokens;
  // Position after position.
  std::vector<std::vector<float>> logits, hidden;
};

Reference refer(const det::Model& model, Random* random, uint32_t count, bool lengthy) {
  Reference out;
  const uint32_t most = std::min(model.context, lengthy ? 400u : 100u);
  det::Forward forward(model, most, 2);
  for (uint32_t s = 0; s < count; s++) {
    // Some are longer than a block of attention.
    const uint32_t length = s == 0 ? most - 10 - random->below(20) : 4 + random->below(30);
    std::vector<det::Row> rows;
    out.tokens.emplace_back();
    for (uint32_t i = 0; i < length; i++) {
      out.tokens.back().push_back(random->below(model.vocabulary));
      rows.push_back({s, i, out.tokens.back().back(), true});
    }
    std::vector<uint32_t> failed;
    out.logits.emplace_back();
    out.hidden.emplace_back();
    forward.run(rows, &out.logits.back(), &out.hidden.back(), &failed);
  }
  return out;
}

struct Running {
  uint32_t reference = 0;
  uint32_t done = 0;
  std::unique_ptr<cpu::Sequence> sequence;
};

enum class Plan { kAlone, kWhole, kMixed };

struct Tally {
  uint64_t tokens = 0;
  uint64_t wrong = 0;
};

// Computes the rows; from: reference and position of each.
void compare_rows(cpu::Engine* engine, const Reference& reference, std::vector<cpu::Row>* rows,
                  const std::vector<std::pair<uint32_t, uint32_t>>& from, Tally* tally) {
  const det::Model& m = engine->model();
  engine->run(rows);
  for (size_t i = 0; i < rows->size(); i++) {
    const auto [s, position] = from[i];
    const cpu::Row& row = (*rows)[i];
    const float* want = &reference.logits[s][size_t{position} * m.vocabulary];
    const float* state = &reference.hidden[s][size_t{position} * m.width];
    tally->tokens++;
    tally->wrong += row.logits == nullptr || std::memcmp(row.logits, want, m.vocabulary * sizeof(float)) != 0 ||
                    std::memcmp(row.hidden, state, m.width * sizeof(float)) != 0;
  }
}

// Another sequence that shares the first pages of a computed one.
void compare_shared(cpu::Engine* engine, const Reference& reference, const Running& first, Tally* tally) {
  const std::vector<uint32_t>& tokens = reference.tokens[first.reference];
  if (tokens.size() <= 16) return;
  cpu::Sequence sequence(&engine->pages());
  sequence.begin_like(*first.sequence, 16);
  if (!sequence.reserve(static_cast<uint32_t>(tokens.size()))) return;
  std::vector<cpu::Row> rows;
  std::vector<std::pair<uint32_t, uint32_t>> from;
  for (uint32_t i = 16; i < tokens.size(); i++) {
    rows.push_back({&sequence, i, tokens[i], true});
    from.emplace_back(first.reference, i);
  }
  compare_rows(engine, reference, &rows, from, tally);
}

// All sequences through the engine as the plan says; every row is compared.
void compare(cpu::Engine* engine, const Reference& reference, Plan plan, uint32_t crowd, Random* random, Tally* tally) {
  std::vector<Running> running;
  const uint32_t count = plan == Plan::kMixed ? crowd : static_cast<uint32_t>(reference.tokens.size());
  for (uint32_t i = 0; i < count; i++) {
    running.emplace_back();
    running.back().reference = i % static_cast<uint32_t>(reference.tokens.size());
    running.back().sequence = std::make_unique<cpu::Sequence>(&engine->pages());
  }
  for (bool over = false; !over;) {
    std::vector<cpu::Row> rows;
    std::vector<std::pair<uint32_t, uint32_t>> from;
    for (Running& r : running) {
      const std::vector<uint32_t>& tokens = reference.tokens[r.reference];
      const auto left = static_cast<uint32_t>(tokens.size()) - r.done;
      uint32_t take = 1;
      if (plan == Plan::kWhole) take = left;
      if (plan == Plan::kMixed) take = random->below(3) == 0 ? 0 : random->below(4) == 0 ? 1 + random->below(24) : 1;
      take = std::min(take, left);
      if (!r.sequence->reserve(r.done + take)) {
        printf("no pages left\n");
        tally->wrong++;
        return;
      }
      for (uint32_t j = 0; j < take; j++) {
        rows.push_back({r.sequence.get(), r.done + j, tokens[r.done + j], true});
        from.emplace_back(r.reference, r.done + j);
      }
      r.done += take;
      // One sequence after another.
      if (plan == Plan::kAlone && take > 0) break;
    }
    if (!rows.empty()) compare_rows(engine, reference, &rows, from, tally);
    over = std::all_of(running.begin(), running.end(), [&](const Running& r) { return r.done == reference.tokens[r.reference].size(); });
  }
  if (plan == Plan::kWhole) compare_shared(engine, reference, running[0], tally);
}

int test(const std::string& directory, uint64_t wanted, uint64_t seed) {
  Random random(seed);
  std::vector<std::shared_ptr<const det::Model>> models;
  std::vector<std::string> names;
  std::error_code none;
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(directory, none)) {
    if (entry.path().extension() == ".gguf") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  for (const std::string& file : files) {
    gguf::Error error;
    std::shared_ptr<const det::Model> model = det::Model::open(file.c_str(), &error);
    // A vocabulary, or the container of the reader's tests.
    if (model == nullptr) continue;
    models.push_back(std::move(model));
    names.push_back(std::filesystem::path(file).filename());
  }
  // Types that no file has.
  for (const det::Type type : {det::Type::kQ2_K, det::Type::kQ3_K, det::Type::kIQ4_XS}) {
    det::RandomShape shape;
    shape.layers = 2;
    shape.width = 256;
    shape.feed = 512;
    shape.vocabulary = 200;
    shape.context = 256;
    shape.type = type;
    shape.second = det::Type::kQ5_1;
    shape.heads = 4;
    shape.kv_heads = 1;
    shape.head_size = 64;
    models.push_back(det::random_model(shape, seed));
    names.push_back(std::string("random ") + det::type_shape(type).name);
  }
  Tally all;
  uint64_t rounds = 0;
  while (all.tokens < wanted || rounds == 0) {
    rounds++;
    for (size_t i = 0; i < models.size(); i++) {
      const Reference reference = refer(*models[i], &random, wanted < 20'000 ? 2 : 3, wanted >= 20'000);
      for (const ZgLevel* const* level = cpu::available_levels(); *level != nullptr; level++) {
        for (const unsigned threads : {1u, 2u}) {
          cpu::Options options;
          options.level = *level;
          options.threads = threads;
          options.pages = 600;
          options.poison = true;
          std::string error;
          const auto engine = cpu::Engine::load(models[i], options, &error);
          if (engine == nullptr) {
            printf("%s: %s\n", names[i].c_str(), error.c_str());
            return 1;
          }
          for (const Plan plan : {Plan::kAlone, Plan::kWhole, Plan::kMixed}) {
            // A short run leaves some out, more on the plain level, which is slow: others with another seed.
            const bool plain = level == cpu::available_levels();
            const bool some = wanted < 20'000 && (threads == 2 || plain);
            if (some && (seed + i + threads) % 3 != static_cast<uint64_t>(plan)) continue;
            Tally own;
            compare(engine.get(), reference, plan, plain && wanted < 20'000 ? 4 : 32, &random, &own);
            all.tokens += own.tokens;
            all.wrong += own.wrong;
            if (own.wrong > 0) {
              printf("%s, %s, %u threads, plan %d: %llu of %llu rows differ\n", names[i].c_str(), (*level)->name, threads,
                     static_cast<int>(plan), static_cast<unsigned long long>(own.wrong), static_cast<unsigned long long>(own.tokens));
            }
          }
          if (engine->pages().in_use() != 0) {
            printf("%s: %u pages left in use\n", names[i].c_str(), engine->pages().in_use());
            all.wrong++;
          }
        }
      }
    }
  }
  std::string levels;
  for (const ZgLevel* const* level = cpu::available_levels(); *level != nullptr; level++) levels += std::string(" ") + (*level)->name;
  printf("%zu models, levels%s: %llu tokens, %llu different\n", models.size(), levels.c_str(), static_cast<unsigned long long>(all.tokens),
         static_cast<unsigned long long>(all.wrong));
  return all.wrong == 0 && models.size() > 3 ? 0 : 1;
}

}  // namespace

int main(int count, char** arguments) {
  if (count == 3 && strcmp(arguments[1], "products") == 0) return check_products(strtoull(arguments[2], nullptr, 10));
  if (count == 5 && strcmp(arguments[1], "test") == 0) {
    return test(arguments[2], strtoull(arguments[3], nullptr, 10), strtoull(arguments[4], nullptr, 10));
  }
  if (count == 4 && strcmp(arguments[1], "choices") == 0) {
    return infer::check_choices(strtoull(arguments[2], nullptr, 10), strtoull(arguments[3], nullptr, 10));
  }
  if (count == 3 && strcmp(arguments[1], "choice-speed") == 0) return infer::time_choices(static_cast<uint32_t>(std::clamp(atoi(arguments[2]), 1, 1 << 20)));
  const bool brief = count == 7 && strcmp(arguments[6], "brief") == 0;
  if ((count == 6 || brief) && strcmp(arguments[1], "bench") == 0) {
    const auto number = [&](int i, int most) { return static_cast<uint32_t>(std::clamp(atoi(arguments[i]), 1, most)); };
    return cpu::bench(arguments[2], number(3, 64), number(4, 4'000), number(5, 4'000), brief);
  }
  fprintf(stderr, "usage: check products SEED | check choices COUNT SEED | check choice-speed VOCABULARY | check test DIRECTORY TOKENS SEED | check bench FILE THREADS PROMPT DECODED [brief]\n");
  return 2;
}
