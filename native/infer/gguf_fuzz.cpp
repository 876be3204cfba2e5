// Feeds damaged model files to everything that reads them: the GGUF reader, the model's checks, the tokenizers, and a short forward
// pass where a file still passes for a model. Built by scripts/fuzz-gguf.mjs with address and undefined-behaviour sanitizers.
//
// With clang it is a libFuzzer target (ZG_LIBFUZZER); otherwise the driver below mutates with a generator of its own:
//
//   gguf_fuzz SECONDS SEED [FILE …]     files are further seeds; the last input stands in gguf_fuzz.input when something is found.
//                                       SECONDS may be a number of inputs instead: 400000x
//
// The first seeds are small files made in memory: one with every kind of metadata, models with an SPM and a BPE vocabulary.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "cpu/engine.h"
#include "gguf.h"
#include "tokenizer.h"

namespace {

using Bytes = std::vector<uint8_t>;

// More work than this and a forward pass is left out.
constexpr uint64_t kMaxWork = 200'000;

void walk(const zg::gguf::File& file, uint64_t* sum) {
  for (const zg::gguf::Value& v : file.metadata()) {
    std::string_view text;
    for (zg::gguf::Strings s(v); s.next(&text);) *sum += text.size() + (text.empty() ? 0 : static_cast<uint8_t>(text.back()));
    int64_t n = 0;
    float f = 0;
    const bool counted = v.element != zg::gguf::ValueType::kString && v.element != zg::gguf::ValueType::kArray;
    for (uint64_t i = 0; counted && i < v.count; i++) *sum += (v.to_int(i, &n) ? 1u : 0u) + (v.to_float(i, &f) ? 1u : 0u);
  }
  for (const zg::gguf::Tensor& t : file.tensors()) *sum += t.data[0] + t.data[t.size_bytes - 1];
}

// The model that adapters are tried on.
std::shared_ptr<const zg::det::Model> adapted;

void run(std::shared_ptr<const zg::det::Model> model, const zg::cpu::AdapterSet* adapters) {
  const zg::det::Model& m = *model;
  const uint64_t work = m.parameters + uint64_t{m.feed} * m.layers.size();
  if (work > kMaxWork || m.vocabulary == 0) return;
  zg::cpu::Options options;
  options.level = zg::cpu::level_by_name("generic");
  options.pages = 1;
  std::string error;
  const auto engine = zg::cpu::Engine::load(std::move(model), options, &error);
  if (engine == nullptr) return;
  zg::cpu::Sequence sequence(&engine->pages());
  if (!sequence.reserve(3)) return;
  std::vector<zg::cpu::Row> rows;
  for (uint32_t i = 0; i < 3; i++) {
    rows.push_back({.sequence = &sequence, .position = i, .token = i % m.vocabulary, .wants_logits = i == 2, .adapters = adapters});
  }
  engine->run(&rows);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // A copy of exactly this size: reading one byte too far is then found.
  const auto copy = std::make_unique<uint8_t[]>(size);
  if (size > 0) std::memcpy(copy.get(), data, size);
  zg::gguf::Error error;
  std::shared_ptr<zg::gguf::File> file = zg::gguf::File::parse(copy.get(), size, &error);
  if ((file == nullptr) != error.failed()) std::abort();
  if (file == nullptr) return 0;
  uint64_t sum = 0;
  walk(*file, &sum);
  std::vector<std::string> warnings;
  zg::gguf::Error vocabulary;
  const auto tokenizer = zg::Tokenizer::open(file, "", &warnings, &vocabulary);
  if (tokenizer != nullptr) {
    zg::Encoder encoder;
    std::vector<int32_t> ids;
    tokenizer->encode("Hello <s> w\xc3\xb6rld\n\n  it's 123 \xff", true, &encoder, &ids);
    std::string text;
    tokenizer->decode(ids.data(), ids.size(), true, &text);
    sum += text.size();
  }
  zg::gguf::Error refused;
  auto again = zg::gguf::File::parse(copy.get(), size, &refused);
  std::shared_ptr<const zg::det::Model> model = zg::det::Model::load(std::move(again), &refused);
  if (model != nullptr) run(std::move(model), nullptr);
  if (adapted != nullptr) {
    zg::cpu::AdapterSet set;
    set.push_back({zg::cpu::Adapter::load(*file, *adapted, &refused), 0.5f});
    if (set[0].adapter != nullptr) run(adapted, &set);
  }
  static volatile uint64_t sink;
  sink = sum;
  (void)sink;
  return 0;
}

#ifndef ZG_LIBFUZZER
namespace {

// xorshift64*: the same seed, the same inputs.
struct Random {
  uint64_t state;
  uint64_t next() {
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 0x2545F4914F6CDD1Du;
  }
  uint64_t below(uint64_t n) { return n == 0 ? 0 : (next() >> 11) % n; }
};

struct Writer {
  Bytes head;
  Bytes data;
  uint64_t tensors = 0;
  uint64_t entries = 0;
  Bytes infos;

  template <typename T>
  static void put(Bytes* to, T v) {
    const auto* p = reinterpret_cast<const uint8_t*>(&v);
    to->insert(to->end(), p, p + sizeof v);
  }
  static void text(Bytes* to, std::string_view s) {
    put<uint64_t>(to, s.size());
    to->insert(to->end(), s.begin(), s.end());
  }
  void key(std::string_view name, uint32_t type) {
    entries++;
    text(&head, name);
    put(&head, type);
  }
  void u32(std::string_view name, uint32_t v) { key(name, 4), put(&head, v); }
  void f32(std::string_view name, float v) { key(name, 6), put(&head, v); }
  void string(std::string_view name, std::string_view v) { key(name, 8), text(&head, v); }
  void array(std::string_view name, uint32_t element, uint64_t count) {
    key(name, 9);
    put(&head, element);
    put(&head, count);
  }
  void tensor(std::string_view name, uint32_t type, std::vector<uint64_t> dims, Random* random) {
    tensors++;
    text(&infos, name);
    put(&infos, static_cast<uint32_t>(dims.size()));
    uint64_t values = 1;
    for (const uint64_t d : dims) put(&infos, d), values *= d;
    put(&infos, type);
    data.resize((data.size() + 31) / 32 * 32);
    put<uint64_t>(&infos, data.size());
    const zg::TypeInfo* t = zg::tensor_type(type);
    for (uint64_t i = 0; i < values / t->block_values; i++) {
      if (type == 0) {
        // Divisors of RoPE must be positive.
        const int shift = name.starts_with("rope") ? 1 : -100;
        put(&data, static_cast<float>(static_cast<int>(random->below(200)) + shift) / 100.0f);
        continue;
      }
      put<uint16_t>(&data, 0x2000);
      for (uint32_t b = 2; b < t->block_bytes; b++) data.push_back(static_cast<uint8_t>(random->next()));
    }
  }
  Bytes file() const {
    Bytes out = {'G', 'G', 'U', 'F'};
    put<uint32_t>(&out, 3);
    put(&out, tensors);
    put(&out, entries);
    out.insert(out.end(), head.begin(), head.end());
    out.insert(out.end(), infos.begin(), infos.end());
    out.resize((out.size() + 31) / 32 * 32);
    out.insert(out.end(), data.begin(), data.end());
    return out;
  }
};

Bytes container(Random* random) {
  Writer w;
  w.string("general.architecture", "none");
  w.u32("general.alignment", 32);
  const uint32_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  for (uint32_t type = 0; type < 13; type++) {
    if (type == 8 || type == 9) continue;
    w.key("t." + std::to_string(type), type);
    for (uint32_t i = 0; i < sizes[type]; i++) w.head.push_back(type == 7 ? 1 : 0xC0);
    w.array("a." + std::to_string(type), type, 3);
    for (uint32_t i = 0; i < 3 * sizes[type]; i++) w.head.push_back(type == 7 ? i % 2 : static_cast<uint8_t>(i));
  }
  w.array("a.text", 8, 2);
  Writer::text(&w.head, "");
  Writer::text(&w.head, "abc");
  w.array("a.array", 9, 2);
  for (uint32_t i = 0; i < 2; i++) {
    Writer::put<uint32_t>(&w.head, 4);
    Writer::put<uint64_t>(&w.head, 1);
    Writer::put<uint32_t>(&w.head, i);
  }
  w.tensor("one", 0, {3}, random);
  w.tensor("four", 0, {2, 3, 4, 5}, random);
  return w.file();
}

void vocabulary(Writer* w, bool spm) {
  w->string("tokenizer.ggml.model", spm ? "llama" : "gpt2");
  if (!spm) w->string("tokenizer.ggml.pre", "llama-bpe");
  std::vector<std::string> tokens;
  std::vector<int32_t> types;
  if (spm) {
    tokens = {"<unk>", "<s>", "</s>"};
    types = {2, 3, 3};
    for (const char* byte : {"<0x00>", "<0x0A>", "<0xFF>"}) tokens.push_back(byte), types.push_back(6);
    tokens.push_back("\xe2\x96\x81"), types.push_back(1);
  } else {
    tokens = {"<s>", "\xc4\xa0"};
    types = {3, 1};
  }
  for (char c = 'a'; c <= 'z'; c++) tokens.emplace_back(1, c), types.push_back(1);
  for (const char* word : {"he", "ll", "lo", "wo", "ld", "it", "hell"}) tokens.push_back(word), types.push_back(1);
  while (tokens.size() % 4 != 0) tokens.push_back("x" + std::to_string(tokens.size())), types.push_back(5);
  w->array("tokenizer.ggml.tokens", 8, tokens.size());
  for (const std::string& t : tokens) Writer::text(&w->head, t);
  w->array("tokenizer.ggml.token_type", 5, types.size());
  for (const int32_t t : types) Writer::put(&w->head, t);
  if (spm) {
    w->array("tokenizer.ggml.scores", 6, tokens.size());
    for (size_t i = 0; i < tokens.size(); i++) Writer::put(&w->head, -static_cast<float>(i));
  } else {
    w->array("tokenizer.ggml.merges", 8, 4);
    for (const char* m : {"h e", "l l", "l o", "he ll"}) Writer::text(&w->head, m);
  }
  w->u32("tokenizer.ggml.bos_token_id", spm ? 1 : 0);
  w->u32("tokenizer.ggml.eos_token_id", spm ? 2 : 0);
  w->string("tokenizer.chat_template", "{{ messages }}");
}

Bytes model(bool spm, uint32_t type, Random* random) {
  Writer w;
  w.string("general.architecture", spm ? "llama" : "qwen3");
  const std::string a = spm ? "llama." : "qwen3.";
  w.u32(a + "block_count", 1);
  w.u32(a + "context_length", 16);
  w.u32(a + "embedding_length", 32);
  w.u32(a + "feed_forward_length", 32);
  w.u32(a + "attention.head_count", 4);
  w.u32(a + "attention.head_count_kv", 2);
  w.f32(a + "attention.layer_norm_rms_epsilon", 1e-5f);
  w.f32(a + "rope.freq_base", 10000);
  w.string(a + "rope.scaling.type", spm ? "linear" : "yarn");
  w.f32(a + "rope.scaling.factor", 4);
  w.u32(a + "rope.scaling.original_context_length", 8);
  vocabulary(&w, spm);
  const uint64_t rows = spm ? 40 : 36;
  w.tensor("token_embd.weight", type, {32, rows}, random);
  w.tensor("output_norm.weight", 0, {32}, random);
  w.tensor("rope_freqs.weight", 0, {4}, random);
  const std::string b = "blk.0.";
  for (const char* n : {"attn_norm", "ffn_norm"}) w.tensor(b + n + ".weight", 0, {32}, random);
  for (const char* n : {"attn_q_norm", "attn_k_norm"}) {
    if (!spm) w.tensor(b + n + ".weight", 0, {8}, random);
  }
  for (const char* n : {"attn_q", "attn_output", "ffn_gate", "ffn_up", "ffn_down"}) w.tensor(b + n + ".weight", type, {32, 32}, random);
  for (const char* n : {"attn_k", "attn_v"}) w.tensor(b + n + ".weight", type, {32, 16}, random);
  w.tensor(b + "attn_q.bias", 0, {32}, random);
  return w.file();
}

// An adapter of model(true, …).
Bytes adapter(Random* random) {
  Writer w;
  w.string("general.architecture", "llama");
  w.string("general.type", "adapter");
  w.string("adapter.type", "lora");
  w.f32("adapter.lora.alpha", 4);
  const auto pair = [&](const std::string& name, uint64_t columns, uint64_t rows) {
    w.tensor(name + ".weight.lora_a", 0, {columns, 3}, random);
    w.tensor(name + ".weight.lora_b", 0, {3, rows}, random);
  };
  pair("blk.0.attn_q", 32, 32);
  pair("blk.0.attn_v", 32, 16);
  pair("blk.0.ffn_down", 32, 32);
  w.tensor("token_embd.weight.lora_a", 0, {3, 40}, random);
  w.tensor("token_embd.weight.lora_b", 0, {3, 32}, random);
  return w.file();
}

// Where a change tells most: near the start, where lengths and counts are.
size_t place(Random* random, size_t size) { return random->below(random->below(4) == 0 ? size : std::min<size_t>(size, 4096)); }

void mutate(Bytes* b, const std::vector<Bytes>& seeds, Random* random) {
  constexpr uint64_t kOdd[] = {0, 1, 2, 4, 7, 8, 31, 32, 64, 255, 256, 65535, 65536, 1u << 31, uint64_t{1} << 32, uint64_t{1} << 51,
                               uint64_t{1} << 62, uint64_t{1} << 63, ~uint64_t{0}, ~uint64_t{0} - 31};
  for (uint64_t n = 1 + random->below(4); n > 0 && !b->empty(); n--) {
    const size_t at = place(random, b->size());
    switch (random->below(8)) {
      case 0:
        (*b)[at] ^= static_cast<uint8_t>(1u << random->below(8));
        break;
      case 1:
        (*b)[at] = static_cast<uint8_t>(random->next());
        break;
      case 2:
      case 3: {
        const uint64_t v = kOdd[random->below(std::size(kOdd))];
        const size_t width = random->below(2) == 0 ? 4 : 8;
        std::memcpy(b->data() + at, &v, std::min(width, b->size() - at));
        break;
      }
      case 4:
        b->resize(at);
        break;
      case 5:
        b->insert(b->begin() + static_cast<ptrdiff_t>(at), 1 + random->below(16), static_cast<uint8_t>(random->next()));
        break;
      case 6:
        b->erase(b->begin() + static_cast<ptrdiff_t>(at),
                 b->begin() + static_cast<ptrdiff_t>(std::min(b->size(), at + 1 + random->below(16))));
        break;
      default: {
        const Bytes& other = seeds[random->below(seeds.size())];
        const size_t from = place(random, other.size());
        const size_t count = std::min({random->below(64), uint64_t{other.size() - from}, uint64_t{b->size() - at}});
        std::memcpy(b->data() + at, other.data() + from, count);
      }
    }
  }
}

bool read_file(const char* path, Bytes* out) {
  std::FILE* f = std::fopen(path, "rb");
  if (f == nullptr) return false;
  uint8_t buffer[65536];
  for (size_t n = 0; (n = std::fread(buffer, 1, sizeof buffer, f)) > 0;) out->insert(out->end(), buffer, buffer + n);
  return std::fclose(f) == 0;
}

// The input under test, written out should the sanitizer end the process.
Bytes current;

}  // namespace

extern "C" void __sanitizer_set_death_callback(void (*)(void));

int main(int argc, char** argv) {
  const std::string most = argc > 1 ? argv[1] : "10";
  const bool counted = most.ends_with('x');
  const double seconds = counted ? 1e9 : std::atof(most.c_str());
  const uint64_t inputs = counted ? std::strtoull(most.c_str(), nullptr, 10) : UINT64_MAX;
  const uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
  Random random{seed * 0x9E3779B97F4A7C15u + 1};
  std::vector<Bytes> seeds = {container(&random), model(true, 0, &random), model(true, 8, &random), model(false, 0, &random)};
  const Bytes base = seeds[1];
  constexpr int kOwn = 5;
  seeds.push_back(adapter(&random));
  {
    zg::gguf::Error error;
    adapted = zg::det::Model::load(zg::gguf::File::parse(base.data(), base.size(), &error), &error);
    const auto file = zg::gguf::File::parse(seeds[4].data(), seeds[4].size(), &error);
    if (adapted == nullptr || file == nullptr || zg::cpu::Adapter::load(*file, *adapted, &error) == nullptr) {
      return std::fprintf(stderr, "the adapter among the seeds is refused: %s\n", error.message.c_str()), 1;
    }
  }
  for (int i = 3; i < argc; i++) {
    Bytes b;
    if (!read_file(argv[i], &b)) return std::fprintf(stderr, "%s cannot be read\n", argv[i]), 1;
    seeds.push_back(std::move(b));
  }
  __sanitizer_set_death_callback([] {
    if (std::FILE* f = std::fopen("gguf_fuzz.input", "wb")) {
      std::fwrite(current.data(), 1, current.size(), f);
      std::fclose(f);
      std::fprintf(stderr, "the input stands in gguf_fuzz.input\n");
    }
  });
  // The seeds must be what they are meant to be, or all that follows ends at the first check.
  for (size_t i = 0; i < seeds.size(); i++) {
    current = seeds[i];
    LLVMFuzzerTestOneInput(current.data(), current.size());
    zg::gguf::Error error;
    auto file = zg::gguf::File::parse(current.data(), current.size(), &error);
    // Files given from outside may be refused: one of the fixtures lies about its alignment.
    if (file == nullptr && i >= kOwn) {
      std::fprintf(stderr, "seed %zu is refused and mutated all the same: %s\n", i, error.message.c_str());
      continue;
    }
    if (file == nullptr || (i > 0 && i < kOwn - 1 && zg::det::Model::load(std::move(file), &error) == nullptr)) {
      std::fprintf(stderr, "seed %zu is refused: %s\n", i, error.message.c_str());
      return 1;
    }
    if (i == 0 || i > 3) continue;
    std::vector<std::string> warnings;
    std::shared_ptr<zg::gguf::File> again = zg::gguf::File::parse(current.data(), current.size(), &error);
    if (zg::Tokenizer::open(again, "", &warnings, &error) == nullptr) {
      std::fprintf(stderr, "vocabulary of seed %zu is refused: %s\n", i, error.message.c_str());
      return 1;
    }
  }
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  uint64_t runs = 0;
  uint64_t accepted = 0;
  do {
    for (int i = 0; i < 64 && runs < inputs; i++, runs++) {
      current = seeds[random.below(seeds.size())];
      mutate(&current, seeds, &random);
      LLVMFuzzerTestOneInput(current.data(), current.size());
      zg::gguf::Error error;
      if (zg::gguf::File::parse(current.data(), current.size(), &error) != nullptr) accepted++;
    }
  } while (runs < inputs && std::chrono::steady_clock::now() < end);
  std::printf("%llu damaged files, %llu still GGUF, nothing found (seed %llu)\n", static_cast<unsigned long long>(runs),
              static_cast<unsigned long long>(accepted), static_cast<unsigned long long>(seed));
  return 0;
}
#endif
