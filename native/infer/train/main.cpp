// zg-train: trains models of every architecture that the engine knows, whole or by a low-rank adapter, on a token file. Every line on
// standard output is one JSON object; exit 0 done or stopped and saved, 1 a check or a file failed, 64 wrong arguments, 71 too little memory.
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>

#include "bench.h"
#include "check.h"
#include "checkpoint.h"
#include "corpus.h"
#include "model_file.h"
#include "random.h"
#include "trainer.h"

namespace zg::train {
namespace {

constexpr int kUsage = 64;
constexpr int kNoMemory = 71;

const char kHelp[] =
    "usage: zg-train new --out FILE.gguf (--metadata FILE | --vocabulary FILE.gguf) [shape] [--seed N]\n"
    "       zg-train train --model FILE.gguf --tokens FILE --out CHECKPOINT [--resume] [adapter] [options]\n"
    "       zg-train export --model FILE.gguf --checkpoint FILE --out FILE.gguf [adapter] [--type Q8_0] [--name NAME]\n"
    "       zg-train evaluate --model FILE.gguf [--checkpoint FILE] --tokens FILE [adapter] [--context N]\n"
    "       zg-train logits --model FILE.gguf [--checkpoint FILE] --prompt IDS [adapter]\n"
    "       zg-train sample --model FILE.gguf [--checkpoint FILE] --prompt IDS [adapter] [--count N] [--temperature T] [--top-k K] [--seed N]\n"
    "       zg-train check [--seed N]\n"
    "       zg-train compare --model FILE.gguf [--count 48] [--seed N]\n"
    "       zg-train levels\n"
    "       zg-train bench [--width N] [--hidden N] [--rows N]\n"
    "\n"
    "shape of a new model: --architecture llama --width 160 --layers 5 --heads 5 --kv-heads 5 --head-size 0 (width / heads)\n"
    "         --hidden 448 --context 512 --experts 0 --experts-used 2 --window 0 --rope-base 10000 --epsilon 1e-5 --untied\n"
    "adapter: --rank 0 (none: all parameters are trained) --alpha 16 --targets attn_q,attn_v\n"
    "options: --context 0 (the model's)  --steps 1000 or --epochs E  --stop-after 0  --batch 16  --rate 3e-3  --final-rate 0.05\n"
    "         --warmup 100  --decay 0.1  --clip 1  --seed 1  --threads 0 (all)  --log-every 10  --log-seconds 0  --check-every 200\n"
    "         --check-windows 64  --save-seconds 60  --memory 0 (bytes that may be used; what is free)\n"
    "         --with-parent (save and end when the starting process is gone)\n"
    "IDS are token numbers with commas between. ZG_CPU=generic|avx2|avx512|bf16 forces a level of SIMD.\n";

class Flags {
 public:
  /// Reads "--name value" and bare "--name" for those in `bare`; the fault, or empty.
  std::string parse(int count, char** words, const std::set<std::string>& bare) {
    for (int i = 0; i < count; i++) {
      const std::string word = words[i];
      if (word.rfind("--", 0) != 0) return "unexpected " + word;
      const std::string name = word.substr(2);
      if (bare.count(name) != 0) {
        values_[name] = "1";
      } else if (i + 1 < count) {
        values_[name] = words[++i];
      } else {
        return word + " needs a value";
      }
    }
    return "";
  }
  bool has(const std::string& name) {
    seen_.insert(name);
    return values_.count(name) != 0;
  }
  std::string text(const std::string& name, const std::string& otherwise = "") {
    return has(name) ? values_[name] : otherwise;
  }
  long whole(const std::string& name, long otherwise) {
    if (!has(name)) return otherwise;
    const std::string& v = values_[name];
    long out = 0;
    const auto [end, error] = std::from_chars(v.data(), v.data() + v.size(), out);
    if (error != std::errc() || end != v.data() + v.size() || out < 0) fault_ = "--" + name + " must be a whole number";
    return out;
  }
  double real(const std::string& name, double otherwise) {
    if (!has(name)) return otherwise;
    char* end = nullptr;
    const double out = std::strtod(values_[name].c_str(), &end);
    if (*end != '\0' || !std::isfinite(out) || out < 0) fault_ = "--" + name + " must be a number";
    return out;
  }
  /// After all reads: a malformed value or a flag that nobody asked for; else empty.
  std::string fault() const {
    if (!fault_.empty()) return fault_;
    for (const auto& [name, value] : values_) {
      if (seen_.count(name) == 0) return "unknown option --" + name;
    }
    return "";
  }

 private:
  std::map<std::string, std::string> values_;
  std::set<std::string> seen_;
  std::string fault_;
};

bool print(const std::string& line) {
  return std::printf("%s\n", line.c_str()) >= 0 && std::fflush(stdout) == 0;
}

int fail(const std::string& message, int code = 1) {
  std::fprintf(stderr, "zg-train: %s\n", message.c_str());
  return code;
}

volatile std::sig_atomic_t stop_asked = 0;

/// The level that ZG_CPU names, else the widest in full precision; null: not of this processor.
const Kernels<float>* kernels() { return kernels_for<float>(""); }

/// A model's file, what of it is trained and with which values.
struct Source {
  std::unique_ptr<det::Model> model;
  Setup setup;
  RunState state;

  bool adapts() const { return setup.adapter.rank > 0; }
  Weights<float> weights() const {
    return adapts() ? Weights<float>{setup.base.data(), state.trained.data()} : Weights<float>{state.trained.data(), nullptr};
  }
  uint64_t digest() const {
    return digest_of(adapts() ? adapter_layout_of(setup.config, setup.adapter).tensors : layout_of(setup.config).tensors);
  }
  uint64_t count() const {
    return static_cast<uint64_t>(adapts() ? adapter_layout_of(setup.config, setup.adapter).count : layout_of(setup.config).count);
  }
};

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    parts.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

/// Reads --model's header and the adapter's flags; the fault, or empty. No weights yet.
std::string open_source(Flags& flags, Source* source) {
  const std::string path = flags.text("model");
  const long context = flags.whole("context", 0);
  AdapterConfig& adapter = source->setup.adapter;
  adapter.rank = flags.whole("rank", 0);
  adapter.alpha = flags.real("alpha", 16);
  adapter.targets = split(flags.text("targets", "attn_q,attn_v"));
  if (path.empty()) return "name a --model";
  for (const std::string& target : adapter.targets) {
    if (std::find(std::begin(kTargets), std::end(kTargets), target) == std::end(kTargets)) return "there is no matrix '" + target + "' to adapt";
  }
  if (adapter.rank > 4096 || (adapter.rank > 0 && !(adapter.alpha > 0))) return "the adapter's rank is 1 to 4096 and its alpha positive";
  gguf::Error error;
  source->model = det::Model::open(path.c_str(), &error);
  if (source->model == nullptr) return path + ": " + error.message;
  source->setup.config = config_of(*source->model, context);
  const std::string fault = source->setup.config.fault();
  return fault.empty() ? "" : path + ": " + fault;
}

/// The values: the base's, and those of the checkpoint where there is one.
std::string load_source(Source* source, const std::string& checkpoint, bool with_moments) {
  std::vector<float> base;
  const bool needs_base = source->adapts() || checkpoint.empty();
  if (needs_base) {
    const std::string fault = load_parameters(*source->model, layout_of(source->setup.config), &base);
    if (!fault.empty()) return fault;
  }
  if (source->adapts()) source->setup.base = std::move(base);
  else source->state.trained = std::move(base);
  if (!checkpoint.empty()) return read_checkpoint(checkpoint, source->digest(), source->count(), with_moments, &source->state);
  if (source->adapts()) {
    source->state.trained.resize(source->count());
    initialize(adapter_layout_of(source->setup.config, source->setup.adapter), source->state.seed, source->state.trained.data());
  }
  return "";
}

std::string read_ids(const std::string& text, const Config& config, std::vector<int32_t>* ids) {
  const char* p = text.c_str();
  while (*p != '\0') {
    char* end = nullptr;
    const long id = std::strtol(p, &end, 10);
    if (end == p || (*end != ',' && *end != '\0') || id < 0 || id >= config.vocab) return "--prompt: not token ids of this model";
    ids->push_back(static_cast<int32_t>(id));
    p = *end == ',' ? end + 1 : end;
  }
  if (ids->empty() || static_cast<long>(ids->size()) > config.context) return "--prompt must have 1 to context ids";
  return "";
}

/// Bytes that may still be taken, as the system says; 0: unknown.
uint64_t free_memory() {
  std::ifstream in("/proc/meminfo");
  std::string key, unit;
  uint64_t value = 0;
  while (in >> key >> value) {
    std::getline(in, unit);
    if (key == "MemAvailable:") return value << 10;
  }
  const long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
  return pages > 0 && size > 0 ? static_cast<uint64_t>(pages) * static_cast<uint64_t>(size) : 0;
}

int run_new(Flags& flags) {
  Config sizes, config;
  sizes.width = flags.whole("width", 160);
  sizes.layers = flags.whole("layers", 5);
  sizes.heads = flags.whole("heads", 5);
  sizes.kv_heads = flags.whole("kv-heads", sizes.heads);
  sizes.head_size = flags.whole("head-size", 0);
  sizes.hidden = flags.whole("hidden", 448);
  sizes.context = flags.whole("context", 512);
  sizes.experts = flags.whole("experts", 0);
  sizes.experts_used = sizes.experts > 0 ? flags.whole("experts-used", 2) : 0;
  sizes.epsilon = flags.real("epsilon", 1e-5);
  sizes.tied = !flags.has("untied");
  const long window = flags.whole("window", 0);
  const double base = flags.real("rope-base", 10'000);
  const auto seed = static_cast<uint64_t>(flags.whole("seed", 1));
  const std::string architecture = flags.text("architecture", "llama"), metadata = flags.text("metadata");
  const std::string vocabulary = flags.text("vocabulary"), out = flags.text("out");
  const std::string wrong = flags.fault();
  if (!wrong.empty()) return fail(wrong, kUsage);
  if (out.empty() || metadata.empty() == vocabulary.empty()) return fail("new needs --out and one of --metadata and --vocabulary", kUsage);
  std::string fault = count_tokens(metadata, vocabulary, &sizes.vocab);
  if (!fault.empty()) return fail(fault);
  fault = new_config(architecture, sizes, window, base, &config);
  if (!fault.empty()) return fail(fault, kUsage);
  const Layout layout = layout_of(config);
  std::vector<float> parameters(static_cast<size_t>(layout.count));
  initialize(config, layout, seed, parameters.data());
  fault = write_new_model(out, metadata, vocabulary, config, parameters);
  if (!fault.empty()) return fail(fault);
  print("{\"event\":\"new\",\"parameters\":" + std::to_string(layout.count) + ",\"vocab\":" + std::to_string(config.vocab) + "}");
  return 0;
}

/// Held for the life of the process, so that two runs never write one checkpoint. Waits for one that is just ending; the fault, or empty.
std::string lock_run(const std::string& checkpoint) {
  constexpr int kTries = 200;
  const int fd = ::open((checkpoint + ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return "cannot write " + checkpoint + ".lock: " + std::strerror(errno);
  for (int i = 0; i < kTries; i++) {
    if (::flock(fd, LOCK_EX | LOCK_NB) == 0) return "";
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  return checkpoint + ": another trainer is at work on it";
}

int run_train(Flags& flags) {
  TrainOptions o;
  const bool by_epochs = flags.has("epochs");
  const double epochs = flags.real("epochs", 0);
  o.steps = static_cast<uint64_t>(flags.whole("steps", 1000));
  o.stop_after = static_cast<uint64_t>(flags.whole("stop-after", 0));
  o.batch = flags.whole("batch", 16);
  o.rate = flags.real("rate", 3e-3);
  o.final_rate = flags.real("final-rate", 0.05);
  o.warmup = static_cast<uint64_t>(flags.whole("warmup", 100));
  o.decay = flags.real("decay", 0.1);
  o.clip = flags.real("clip", 1);
  o.log_every = static_cast<uint64_t>(flags.whole("log-every", 10));
  o.log_seconds = flags.real("log-seconds", 0);
  o.check_every = static_cast<uint64_t>(flags.whole("check-every", 200));
  o.check_windows = flags.whole("check-windows", 64);
  o.save_seconds = flags.real("save-seconds", 60);
  o.out = flags.text("out");
  Source source;
  source.state.seed = static_cast<uint64_t>(flags.whole("seed", 1));
  long threads = flags.whole("threads", 0);
  if (threads == 0) threads = std::max(1l, static_cast<long>(std::thread::hardware_concurrency()));
  const bool resume = flags.has("resume");
  o.parent = flags.has("with-parent") ? static_cast<long>(getppid()) : 0;
  const std::string tokens = flags.text("tokens");
  auto memory = static_cast<uint64_t>(flags.whole("memory", 0));
  std::string fault = open_source(flags, &source);
  const std::string wrong = flags.fault();
  if (!wrong.empty()) return fail(wrong, kUsage);
  if (tokens.empty() || o.out.empty()) return fail("train needs --model, --tokens and --out", kUsage);
  if (o.batch < 1 || o.batch > 4096 || threads > 1024 || o.log_every < 1 || o.check_every < 1 || o.steps < 1) {
    return fail("a number is out of range", kUsage);
  }
  if (!fault.empty()) return fail(fault);
  Corpus corpus;
  fault = read_corpus(tokens, &corpus);
  if (!fault.empty()) return fail(fault);
  const Setup& setup = source.setup;
  if (by_epochs) {
    Windows windows(corpus, setup.config.context, source.state.seed);
    o.steps = std::max<uint64_t>(1, static_cast<uint64_t>(std::ceil(epochs * static_cast<double>(windows.in_epoch()) / static_cast<double>(o.batch))));
  }
  const Kernels<float>* k = kernels();
  if (k == nullptr) return fail("ZG_CPU names a level that this processor lacks", kUsage);
  const uint64_t needed = bytes_needed(setup.config, setup.adapter, o.batch, threads, corpus.bytes);
  if (memory == 0) memory = free_memory();
  const auto mebibytes = [](uint64_t bytes) { return std::to_string((bytes + (1u << 20) - 1) >> 20) + " MiB"; };
  if (memory > 0 && needed > memory) {
    return fail("this needs " + mebibytes(needed) + " of memory, " + mebibytes(memory) + " may be used: fewer threads, a shorter context or an adapter need less", kNoMemory);
  }
  fault = lock_run(o.out);
  if (!fault.empty()) return fail(fault);
  fault = load_source(&source, resume ? o.out : "", resume);
  if (!fault.empty()) return fail(fault);
  RunState& state = source.state;
  if (!resume) {
    state.layout_digest = source.digest();
    state.corpus_digest = corpus.digest;
    state.moments.resize(2 * state.trained.size());
  } else if (state.corpus_digest != corpus.digest) {
    return fail(o.out + ": the checkpoint was made with another token file");
  }
  std::string sets;
  for (const TextSet& set : corpus.sets) {
    char line[400];
    std::snprintf(line, sizeof line, "%s{\"set\":\"%s\",\"weight\":%.3f,\"tokens\":%zu,\"held_out_tokens\":%zu,\"held_out_bytes\":%llu}",
                  sets.empty() ? "" : ",", set.name.c_str(), set.weight, set.training.tokens.size(), set.held_out.tokens.size(),
                  static_cast<unsigned long long>(set.held_out_bytes));
    sets += line;
  }
  const char* forced = std::getenv("ZG_CPU");
  print("{\"event\":\"start\",\"parameters\":" + std::to_string(layout_of(setup.config).count) + ",\"trained\":" +
        std::to_string(state.trained.size()) + ",\"vocab\":" + std::to_string(setup.config.vocab) + ",\"context\":" +
        std::to_string(setup.config.context) + ",\"step\":" + std::to_string(state.step) + ",\"steps\":" + std::to_string(o.steps) +
        ",\"seed\":" + std::to_string(state.seed) + ",\"threads\":" + std::to_string(threads) + ",\"level\":\"" +
        (forced != nullptr && *forced != '\0' ? std::string(forced) : available_levels().back()) + "\",\"memory\":" + std::to_string(needed) +
        ",\"sets\":[" + sets + "]}");
  const auto ask = [](int) { stop_asked = 1; };
  std::signal(SIGINT, ask);
  std::signal(SIGTERM, ask);
  std::signal(SIGPIPE, SIG_IGN);
  Pool pool(threads);
  fault = train(setup, state, corpus, o, *k, pool, print, &stop_asked);
  return fault.empty() ? 0 : fail(fault);
}

int run_check(Flags& flags) {
  const auto seed = static_cast<uint64_t>(flags.whole("seed", 1));
  const std::string wrong = flags.fault();
  if (!wrong.empty()) return fail(wrong, kUsage);
  std::string json;
  const bool good = check_gradients(seed, &json);
  print(json);
  return good ? 0 : 1;
}

int run_compare(Flags& flags) {
  const std::string model = flags.text("model");
  const long count = flags.whole("count", 48);
  const auto seed = static_cast<uint64_t>(flags.whole("seed", 1));
  const std::string wrong = flags.fault();
  if (!wrong.empty()) return fail(wrong, kUsage);
  std::string json;
  const std::string fault = compare_reference(model, count, seed, &json);
  if (!fault.empty()) return fail(fault);
  print(json);
  return 0;
}

int run_export(Flags& flags) {
  Source source;
  const std::string checkpoint = flags.text("checkpoint"), out = flags.text("out"), type = flags.text("type", "Q8_0"), name = flags.text("name");
  const long threads = flags.whole("threads", 1);
  std::string fault = open_source(flags, &source);
  const std::string wrong = flags.fault();
  if (!wrong.empty()) return fail(wrong, kUsage);
  if (checkpoint.empty() || out.empty()) return fail("export needs --model, --checkpoint and --out", kUsage);
  if (fault.empty()) fault = read_checkpoint(checkpoint, source.digest(), source.count(), false, &source.state);
  if (!fault.empty()) return fail(fault);
  const Setup& setup = source.setup;
  fault = source.adapts()
              ? write_adapter(out, *source.model, name, setup.adapter, adapter_layout_of(setup.config, setup.adapter), source.state.trained)
              : write_model(out, *source.model, layout_of(setup.config), source.state.trained, type, static_cast<unsigned>(std::clamp(threads, 1l, 64l)));
  if (!fault.empty()) return fail(fault);
  print("{\"event\":\"written\",\"step\":" + std::to_string(source.state.step) + ",\"parameters\":" + std::to_string(source.state.trained.size()) + "}");
  return 0;
}

int run_evaluate(Flags& flags) {
  Source source;
  const std::string tokens = flags.text("tokens"), checkpoint = flags.text("checkpoint");
  std::string fault = open_source(flags, &source);
  const long threads = flags.whole("threads", 2);
  const std::string wrong = flags.fault();
  if (!wrong.empty()) return fail(wrong, kUsage);
  Corpus corpus;
  if (fault.empty()) fault = load_source(&source, checkpoint, false);
  if (fault.empty()) fault = read_corpus(tokens, &corpus);
  const Config& config = source.setup.config;
  if (fault.empty() && corpus.vocab != config.vocab) fault = "the token file has another vocabulary size than the model";
  if (fault.empty()) fault = Windows(corpus, config.context, 1).fault();
  if (!fault.empty()) return fail(fault);
  const Kernels<float>* k = kernels();
  if (k == nullptr) return fail("ZG_CPU names a level that this processor lacks", kUsage);
  Pool pool(std::max(1l, threads));
  std::vector<Workspace<float>> spaces(static_cast<size_t>(pool.threads()), Workspace<float>(config, source.setup.adapter.rank));
  const Model<float> model(config, source.setup.adapter, *k);
  print("{\"event\":\"validation\",\"sets\":" +
        json_of(validate(model, source.weights(), corpus, held_out_windows(corpus, config.context, 0), pool, spaces)) + "}");
  return 0;
}

/// Logits after each of `ids`, by one forward pass; `all`: of every position, else of the last.
std::vector<float> logits_of(const Source& source, const Model<float>& model, Workspace<float>& space, const std::vector<int32_t>& ids, bool all) {
  Window window;
  window.tokens = ids;
  window.targets.assign(ids.size(), -1);
  window.starts = {0};
  model.forward(source.weights(), window, space);
  const auto vocab = static_cast<size_t>(source.setup.config.vocab);
  std::vector<float> logits((all ? ids.size() : 1) * vocab);
  for (size_t i = 0; i < logits.size() / vocab; i++) {
    model.logits_at(source.weights(), static_cast<long>(all ? i : ids.size() - 1), space, logits.data() + i * vocab);
  }
  return logits;
}

/// What logits and sample share: model, kernels and prompt. Exit status, 0: go on.
int open_prompt(Flags& flags, Source* source, std::vector<int32_t>* ids) {
  const std::string prompt = flags.text("prompt"), checkpoint = flags.text("checkpoint");
  std::string fault = open_source(flags, source);
  const std::string wrong = flags.fault();
  if (!wrong.empty()) return fail(wrong, kUsage);
  if (fault.empty()) fault = load_source(source, checkpoint, false);
  if (fault.empty()) fault = read_ids(prompt, source->setup.config, ids);
  if (!fault.empty()) return fail(fault);
  return kernels() == nullptr ? fail("ZG_CPU names a level that this processor lacks", kUsage) : 0;
}

int run_logits(Flags& flags) {
  Source source;
  std::vector<int32_t> ids;
  const bool all = flags.has("all");
  if (const int status = open_prompt(flags, &source, &ids); status != 0) return status;
  const Model<float> model(source.setup.config, source.setup.adapter, *kernels());
  Workspace<float> space(source.setup.config, source.setup.adapter.rank);
  std::string text;
  for (const float x : logits_of(source, model, space, ids, all)) {
    char number[32];
    std::snprintf(number, sizeof number, "%s%.9g", text.empty() ? "" : ",", static_cast<double>(x));
    text += number;
  }
  print("{\"event\":\"logits\",\"logits\":[" + text + "]}");
  return 0;
}

/// The next token: the best at temperature 0, else drawn among the `top` best.
int32_t choose(const std::vector<float>& logits, double temperature, long top, Random& random) {
  std::vector<int32_t> order(logits.size());
  for (size_t i = 0; i < order.size(); i++) order[i] = static_cast<int32_t>(i);
  const auto better = [&](int32_t a, int32_t b) {
    const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  };
  std::sort(order.begin(), order.end(), better);
  if (temperature <= 0) return order[0];
  if (top > 0 && static_cast<size_t>(top) < order.size()) order.resize(static_cast<size_t>(top));
  std::vector<double> weights;
  double sum = 0;
  for (const int32_t id : order) {
    weights.push_back(std::exp(static_cast<double>(logits[static_cast<size_t>(id)] - logits[static_cast<size_t>(order[0])]) / temperature));
    sum += weights.back();
  }
  double at = random.uniform() * sum;
  for (size_t i = 0; i < order.size(); i++) {
    at -= weights[i];
    if (at < 0) return order[i];
  }
  return order.back();
}

int run_sample(Flags& flags) {
  Source source;
  std::vector<int32_t> ids;
  const long count = flags.whole("count", 64), top = flags.whole("top-k", 40);
  const double temperature = flags.real("temperature", 0.8);
  Random random(static_cast<uint64_t>(flags.whole("seed", 1)), 0x73616d706c65);
  if (const int status = open_prompt(flags, &source, &ids); status != 0) return status;
  const Model<float> model(source.setup.config, source.setup.adapter, *kernels());
  Workspace<float> space(source.setup.config, source.setup.adapter.rank);
  std::string text;
  for (long i = 0; i < count && static_cast<long>(ids.size()) < source.setup.config.context; i++) {
    ids.push_back(choose(logits_of(source, model, space, ids, false), temperature, top, random));
    text += (text.empty() ? "" : ",") + std::to_string(ids.back());
  }
  print("{\"event\":\"sample\",\"tokens\":[" + text + "]}");
  return 0;
}

int run_levels(Flags& flags) {
  const std::string wrong = flags.fault();
  if (!wrong.empty()) return fail(wrong, kUsage);
  std::string names;
  for (const std::string& one : available_levels()) names += "\"" + one + "\",";
  names.pop_back();
  print("{\"event\":\"levels\",\"levels\":[" + names + "],\"bf16\":" + (has_bf16() ? "true" : "false") + ",\"memory\":" + std::to_string(free_memory()) + "}");
  return 0;
}

int run_bench(Flags& flags) {
  const long width = flags.whole("width", 320), hidden = flags.whole("hidden", 896), rows = flags.whole("rows", 512);
  const std::string wrong = flags.fault();
  if (!wrong.empty()) return fail(wrong, kUsage);
  print(bench_products(width, hidden, rows));
  return 0;
}

int run(int count, char** words) {
  const std::string verb = count > 1 ? words[1] : "";
  if (verb == "--help" || verb == "help") {
    std::fputs(kHelp, stdout);
    return 0;
  }
  Flags flags;
  const std::string wrong = flags.parse(count > 2 ? count - 2 : 0, words + 2, {"resume", "untied", "all", "with-parent"});
  if (!wrong.empty()) return fail(wrong, kUsage);
  if (verb == "new") return run_new(flags);
  if (verb == "train") return run_train(flags);
  if (verb == "check") return run_check(flags);
  if (verb == "compare") return run_compare(flags);
  if (verb == "bench") return run_bench(flags);
  if (verb == "levels") return run_levels(flags);
  if (verb == "export") return run_export(flags);
  if (verb == "evaluate") return run_evaluate(flags);
  if (verb == "logits") return run_logits(flags);
  if (verb == "sample") return run_sample(flags);
  std::fputs(kHelp, stderr);
  return kUsage;
}

}  // namespace
}  // namespace zg::train

int main(int count, char** words) { return zg::train::run(count, words); }
