// zg-train: trains a small llama-architecture model on a token file and writes it as GGUF. Every line on standard output is
// one JSON object; exit 0 done, 1 a check or a file failed, 64 wrong arguments.
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <map>
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

const char kHelp[] =
    "usage: zg-train train --tokens FILE --out FILE [--resume] [shape] [options]\n"
    "       zg-train check [--seed N]\n"
    "       zg-train export --checkpoint FILE --metadata FILE --out FILE.gguf\n"
    "       zg-train evaluate (--checkpoint FILE [--quantized] | --model FILE.gguf) --tokens FILE\n"
    "       zg-train logits (--checkpoint FILE [--quantized] | --model FILE.gguf) --prompt IDS\n"
    "       zg-train sample (--checkpoint FILE [--quantized] | --model FILE.gguf) --prompt IDS [--count N]\n"
    "                       [--temperature T] [--top-k K] [--seed N]\n"
    "\n"
    "shape of a new model: --width 160 --layers 5 --heads 5 --kv-heads 5 --hidden 448 --context 512\n"
    "options: --steps 1000  --stop-after 0  --batch 16  --rate 3e-3  --final-rate 0.05  --warmup 100  --decay 0.1\n"
    "         --clip 1  --seed 1  --threads 0 (all)  --log-every 10  --check-every 200  --check-windows 64\n"
    "         --save-seconds 60\n"
    "IDS are token numbers with commas between. ZG_CPU=generic|avx2|avx512 forces a level of SIMD.\n";

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

void print(const std::string& line) {
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

int fail(const std::string& message, int code = 1) {
  std::fprintf(stderr, "zg-train: %s\n", message.c_str());
  return code;
}

const Kernels<float>* kernels() { return kernels_for<float>(""); }

struct Source {
  Config config;
  std::vector<float> parameters;
};

/// Parameters from --model or --checkpoint; the fault, or empty.
std::string read_source(Flags& flags, Source* source) {
  const std::string model = flags.text("model"), checkpoint = flags.text("checkpoint");
  const bool quantized = flags.has("quantized");
  if (model.empty() == checkpoint.empty()) return "name either --model or --checkpoint";
  if (!model.empty()) return read_model(model, &source->config, &source->parameters);
  RunState state;
  const std::string fault = read_checkpoint(checkpoint, false, &state);
  if (!fault.empty()) return fault;
  source->config = state.config;
  source->parameters = std::move(state.parameters);
  if (quantized) round_to_blocks(layout_of(source->config), source->parameters);
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

int run_train(Flags& flags) {
  TrainOptions o;
  o.steps = static_cast<uint64_t>(flags.whole("steps", 1000));
  o.stop_after = static_cast<uint64_t>(flags.whole("stop-after", 0));
  o.batch = flags.whole("batch", 16);
  o.rate = flags.real("rate", 3e-3);
  o.final_rate = flags.real("final-rate", 0.05);
  o.warmup = static_cast<uint64_t>(flags.whole("warmup", 100));
  o.decay = flags.real("decay", 0.1);
  o.clip = flags.real("clip", 1);
  o.log_every = static_cast<uint64_t>(flags.whole("log-every", 10));
  o.check_every = static_cast<uint64_t>(flags.whole("check-every", 200));
  o.check_windows = flags.whole("check-windows", 64);
  o.save_seconds = flags.real("save-seconds", 60);
  o.out = flags.text("out");
  RunState state;
  Config& c = state.config;
  c.width = flags.whole("width", 160);
  c.layers = flags.whole("layers", 5);
  c.heads = flags.whole("heads", 5);
  c.kv_heads = flags.whole("kv-heads", 5);
  c.hidden = flags.whole("hidden", 448);
  c.context = flags.whole("context", 512);
  state.seed = static_cast<uint64_t>(flags.whole("seed", 1));
  long threads = flags.whole("threads", 0);
  if (threads == 0) threads = std::max(1l, static_cast<long>(std::thread::hardware_concurrency()));
  const bool resume = flags.has("resume");
  const std::string tokens = flags.text("tokens");
  const std::string wrong = flags.fault();
  if (!wrong.empty()) return fail(wrong, kUsage);
  if (tokens.empty() || o.out.empty()) return fail("train needs --tokens and --out", kUsage);
  if (o.batch < 1 || o.batch > 4096 || threads > 1024 || o.log_every < 1 || o.check_every < 1 || o.steps < 1) {
    return fail("a number is out of range", kUsage);
  }
  Corpus corpus;
  std::string fault = read_corpus(tokens, &corpus);
  if (!fault.empty()) return fail(fault);
  c.vocab = corpus.vocab;
  if (resume) {
    fault = read_checkpoint(o.out, true, &state);
    if (!fault.empty()) return fail(fault);
  } else {
    if (const char* bad = c.fault()) return fail(bad, kUsage);
    const Layout layout = layout_of(c);
    state.parameters.resize(static_cast<size_t>(layout.count));
    state.moments.resize(2 * static_cast<size_t>(layout.count));
    initialize(c, layout, state.seed, state.parameters.data());
  }
  const Kernels<float>* k = kernels();
  if (k == nullptr) return fail("ZG_CPU names a level that this processor lacks", kUsage);
  std::string sets;
  for (const TextSet& set : corpus.sets) {
    char line[300];
    std::snprintf(line, sizeof line, "%s{\"set\":\"%s\",\"weight\":%.3f,\"tokens\":%zu,\"held_out_tokens\":%zu,\"held_out_bytes\":%llu}",
                  sets.empty() ? "" : ",", set.name.c_str(), set.weight, set.tokens.size(), set.held_out.size(),
                  static_cast<unsigned long long>(set.held_out_bytes));
    sets += line;
  }
  print("{\"event\":\"start\",\"parameters\":" + std::to_string(state.parameters.size()) + ",\"vocab\":" + std::to_string(c.vocab) +
        ",\"step\":" + std::to_string(state.step) + ",\"steps\":" + std::to_string(o.steps) + ",\"seed\":" +
        std::to_string(state.seed) + ",\"threads\":" + std::to_string(threads) + ",\"sets\":[" + sets + "]}");
  Pool pool(threads);
  fault = train(state, corpus, o, *k, pool, print);
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

int run_export(Flags& flags) {
  const std::string checkpoint = flags.text("checkpoint"), metadata = flags.text("metadata"), out = flags.text("out");
  const std::string wrong = flags.fault();
  if (!wrong.empty()) return fail(wrong, kUsage);
  if (checkpoint.empty() || metadata.empty() || out.empty()) return fail("export needs --checkpoint, --metadata and --out", kUsage);
  RunState state;
  std::string fault = read_checkpoint(checkpoint, false, &state);
  if (fault.empty()) fault = write_model(out, metadata, state.config, state.parameters);
  if (!fault.empty()) return fail(fault);
  print("{\"event\":\"written\",\"step\":" + std::to_string(state.step) + ",\"parameters\":" + std::to_string(state.parameters.size()) + "}");
  return 0;
}

int run_evaluate(Flags& flags) {
  Source source;
  const std::string tokens = flags.text("tokens");
  std::string fault = read_source(flags, &source);
  const long threads = flags.whole("threads", 2);
  const std::string wrong = flags.fault();
  if (!wrong.empty()) return fail(wrong, kUsage);
  Corpus corpus;
  if (fault.empty()) fault = read_corpus(tokens, &corpus);
  if (fault.empty() && corpus.vocab != source.config.vocab) fault = "the token file has another vocabulary size than the model";
  if (!fault.empty()) return fail(fault);
  Pool pool(std::max(1l, threads));
  std::vector<Workspace<float>> spaces(static_cast<size_t>(pool.threads()), Workspace<float>(source.config));
  const Model<float> model(source.config, *kernels());
  print("{\"event\":\"validation\",\"sets\":" + json_of(validate(model, source.parameters.data(), corpus, 0, pool, spaces)) + "}");
  return 0;
}

int run_logits(Flags& flags) {
  Source source;
  std::vector<int32_t> ids;
  const std::string prompt = flags.text("prompt");
  std::string fault = read_source(flags, &source);
  const std::string wrong = flags.fault();
  if (!wrong.empty()) return fail(wrong, kUsage);
  if (fault.empty()) fault = read_ids(prompt, source.config, &ids);
  if (!fault.empty()) return fail(fault);
  const Model<float> model(source.config, *kernels());
  Workspace<float> space(source.config);
  const auto n = static_cast<long>(ids.size());
  model.forward(source.parameters.data(), ids.data(), n, space);
  std::vector<float> logits(static_cast<size_t>(source.config.vocab));
  model.logits_at(source.parameters.data(), n - 1, space, logits.data());
  std::string text;
  for (const float x : logits) {
    char number[32];
    std::snprintf(number, sizeof number, "%s%.7g", text.empty() ? "" : ",", static_cast<double>(x));
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
  const std::string prompt = flags.text("prompt");
  const long count = flags.whole("count", 64), top = flags.whole("top-k", 40);
  const double temperature = flags.real("temperature", 0.8);
  Random random(static_cast<uint64_t>(flags.whole("seed", 1)), 0x73616d706c65);
  std::string fault = read_source(flags, &source);
  const std::string wrong = flags.fault();
  if (!wrong.empty()) return fail(wrong, kUsage);
  if (fault.empty()) fault = read_ids(prompt, source.config, &ids);
  if (!fault.empty()) return fail(fault);
  const Model<float> model(source.config, *kernels());
  Workspace<float> space(source.config);
  std::vector<float> logits(static_cast<size_t>(source.config.vocab));
  std::string text;
  for (long i = 0; i < count && static_cast<long>(ids.size()) < source.config.context; i++) {
    const auto n = static_cast<long>(ids.size());
    model.forward(source.parameters.data(), ids.data(), n, space);
    model.logits_at(source.parameters.data(), n - 1, space, logits.data());
    ids.push_back(choose(logits, temperature, top, random));
    text += (text.empty() ? "" : ",") + std::to_string(ids.back());
  }
  print("{\"event\":\"sample\",\"tokens\":[" + text + "]}");
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
  const std::string wrong = flags.parse(count > 2 ? count - 2 : 0, words + 2, {"resume", "quantized"});
  if (!wrong.empty()) return fail(wrong, kUsage);
  if (verb == "train") return run_train(flags);
  if (verb == "check") return run_check(flags);
  if (verb == "bench") return run_bench(flags);
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
