#include "trace/tracer.h"

#include <algorithm>

#include "trace/tracers.h"

namespace zg {

namespace {

// Several tracers on one execution: {"name": result, …}.
class MuxTracer final : public JsonTracer {
 public:
  struct Part {
    std::string name;
    std::unique_ptr<JsonTracer> tracer;
  };
  explicit MuxTracer(std::vector<Part> parts) : parts_(std::move(parts)) {
    for (const Part& p : parts_) steps_ = steps_ || p.tracer->wants_steps();
  }
  [[nodiscard]] bool wants_steps() const override { return steps_; }
  void begin(WorkingState& state, const TraceSubject& subject, std::atomic<bool>& stop) override {
    for (Part& p : parts_) p.tracer->begin(state, subject, stop);
  }
  void on_step(const Step& step) override {
    for (Part& p : parts_)
      if (p.tracer->wants_steps()) p.tracer->on_step(step);
  }
  void on_step_end(uint64_t gas_left, Status status) override {
    for (Part& p : parts_)
      if (p.tracer->wants_steps()) p.tracer->on_step_end(gas_left, status);
  }
  void on_enter(const Message& message, ByteView code) override {
    for (Part& p : parts_) p.tracer->on_enter(message, code);
  }
  void on_exit(const Message& message, const Result& result, uint64_t gas_used) override {
    for (Part& p : parts_) p.tracer->on_exit(message, result, gas_used);
  }
  void on_log(const Log& log) override {
    for (Part& p : parts_) p.tracer->on_log(log);
  }
  void end(const TxOutcome& outcome, JsonText& out) override {
    out.raw("{");
    const char* between = "";
    for (Part& p : parts_) {
      out.raw(between).string(p.name).raw(":");
      p.tracer->end(outcome, out);
      overflow_ = overflow_ || p.tracer->overflow();
      between = ",";
    }
    out.raw("}");
  }

 private:
  std::vector<Part> parts_;
  bool steps_ = false;
};

std::string_view trimmed(std::string_view s) noexcept {
  while (!s.empty() && s.front() == ' ') s.remove_prefix(1);
  while (!s.empty() && s.back() == ' ') s.remove_suffix(1);
  return s;
}

std::unique_ptr<JsonTracer> make_mux(std::string_view config) {
  constexpr size_t kMost = 16;
  std::vector<MuxTracer::Part> parts;
  while (!trimmed(config).empty()) {
    const size_t cut = std::min(config.find(';'), config.size());
    const std::string_view part = trimmed(config.substr(0, cut));
    config.remove_prefix(std::min(cut + 1, config.size()));
    const size_t space = std::min(part.find(' '), part.size());
    const std::string_view name = part.substr(0, space);
    if (name == "muxTracer" || parts.size() == kMost) return nullptr;
    auto tracer = make_tracer(name, part.substr(space));
    if (tracer == nullptr) return nullptr;
    parts.push_back({std::string(name), std::move(tracer)});
  }
  // Go writes maps in the order of their keys.
  std::sort(parts.begin(), parts.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return std::make_unique<MuxTracer>(std::move(parts));
}

}  // namespace

std::unique_ptr<JsonTracer> make_tracer(std::string_view name, std::string_view config) {
  if (name == "muxTracer") return make_mux(config);
  const TraceFlags flags(config);
  if (name.empty() || name == "structLogs") return make_struct_logger(flags);
  if (name == "callTracer") return make_call_tracer(flags);
  if (name == "flatCallTracer") return make_flat_call_tracer(flags);
  if (name == "prestateTracer") return make_prestate_tracer(flags);
  if (!flags.only({})) return nullptr;
  if (name == "4byteTracer") return make_four_byte_tracer();
  if (name == "noopTracer") return make_noop_tracer();
  return nullptr;
}

TraceFlags::TraceFlags(std::string_view config) {
  while (!(config = trimmed(config)).empty()) {
    const size_t cut = std::min(config.find(' '), config.size());
    flags_.push_back(config.substr(0, cut));
    config.remove_prefix(cut);
  }
}

bool TraceFlags::has(std::string_view flag) const noexcept { return std::find(flags_.begin(), flags_.end(), flag) != flags_.end(); }

uint64_t TraceFlags::number(std::string_view name) const noexcept {
  for (std::string_view f : flags_) {
    if (f.size() <= name.size() || f.substr(0, name.size()) != name || f[name.size()] != '=') continue;
    uint64_t n = 0;
    for (const char c : f.substr(name.size() + 1)) {
      if (c < '0' || c > '9' || n > (uint64_t{1} << 53)) return 0;
      n = 10 * n + static_cast<uint64_t>(c - '0');
    }
    return n;
  }
  return 0;
}

bool TraceFlags::only(std::initializer_list<std::string_view> known) const noexcept {
  return std::all_of(flags_.begin(), flags_.end(), [&](std::string_view f) {
    return std::find(known.begin(), known.end(), f.substr(0, f.find('='))) != known.end();
  });
}

bool revert_reason(ByteView output, std::string& reason) {
  if (output.size() < 4) return false;
  const ByteView body = output.subspan(4);
  static constexpr uint8_t kError[4] = {0x08, 0xc3, 0x79, 0xa0}, kPanic[4] = {0x4e, 0x48, 0x7b, 0x71};
  const auto word = [&](size_t at, size_t& n) {
    if (body.size() < 32 || at > body.size() - 32) return false;
    const U256 x = U256::from_be(body.data() + at);
    n = static_cast<size_t>(x.saturated());
    return x.is_u64() && n <= body.size();
  };
  if (std::memcmp(output.data(), kError, 4) == 0) {
    size_t offset = 0, size = 0;
    if (!word(0, offset) || !word(offset, size) || size > body.size() - offset - 32) return false;
    reason.assign(as_chars(body.subspan(offset + 32, size)));
    return true;
  }
  if (std::memcmp(output.data(), kPanic, 4) != 0 || body.size() < 32) return false;
  const U256 code = U256::from_be(body.data());
  static constexpr struct {
    uint64_t code;
    const char* text;
  } kPanics[] = {{0x00, "generic panic"},
                 {0x01, "assert(false)"},
                 {0x11, "arithmetic underflow or overflow"},
                 {0x12, "division or modulo by zero"},
                 {0x21, "enum overflow"},
                 {0x22, "invalid encoded storage byte array accessed"},
                 {0x31, "out-of-bounds array access; popping on an empty array"},
                 {0x32, "out-of-bounds access of an array or bytesN"},
                 {0x41, "out of memory"},
                 {0x51, "uninitialized function"}};
  for (const auto& p : kPanics)
    if (code == U256(p.code)) {
      reason = p.text;
      return true;
    }
  JsonText number;
  number.quantity(code);
  reason = "unknown panic code: " + number.text().substr(1, number.size() - 2);
  return true;
}

std::string opcode_name(uint8_t op) {
  static constexpr struct {
    uint8_t op;
    const char* name;
  } kNames[] = {
      {0x00, "STOP"},         {0x01, "ADD"},          {0x02, "MUL"},         {0x03, "SUB"},          {0x04, "DIV"},
      {0x05, "SDIV"},         {0x06, "MOD"},          {0x07, "SMOD"},        {0x08, "ADDMOD"},       {0x09, "MULMOD"},
      {0x0a, "EXP"},          {0x0b, "SIGNEXTEND"},   {0x10, "LT"},          {0x11, "GT"},           {0x12, "SLT"},
      {0x13, "SGT"},          {0x14, "EQ"},           {0x15, "ISZERO"},      {0x16, "AND"},          {0x17, "OR"},
      {0x18, "XOR"},          {0x19, "NOT"},          {0x1a, "BYTE"},        {0x1b, "SHL"},          {0x1c, "SHR"},
      {0x1d, "SAR"},          {0x1e, "CLZ"},          {0x20, "KECCAK256"},   {0x30, "ADDRESS"},      {0x31, "BALANCE"},
      {0x32, "ORIGIN"},       {0x33, "CALLER"},       {0x34, "CALLVALUE"},   {0x35, "CALLDATALOAD"}, {0x36, "CALLDATASIZE"},
      {0x37, "CALLDATACOPY"}, {0x38, "CODESIZE"},     {0x39, "CODECOPY"},    {0x3a, "GASPRICE"},     {0x3b, "EXTCODESIZE"},
      {0x3c, "EXTCODECOPY"},  {0x3d, "RETURNDATASIZE"}, {0x3e, "RETURNDATACOPY"}, {0x3f, "EXTCODEHASH"}, {0x40, "BLOCKHASH"},
      {0x41, "COINBASE"},     {0x42, "TIMESTAMP"},    {0x43, "NUMBER"},      {0x44, "DIFFICULTY"},   {0x45, "GASLIMIT"},
      {0x46, "CHAINID"},      {0x47, "SELFBALANCE"},  {0x48, "BASEFEE"},     {0x49, "BLOBHASH"},     {0x4a, "BLOBBASEFEE"},
      {0x50, "POP"},          {0x51, "MLOAD"},        {0x52, "MSTORE"},      {0x53, "MSTORE8"},      {0x54, "SLOAD"},
      {0x55, "SSTORE"},       {0x56, "JUMP"},         {0x57, "JUMPI"},       {0x58, "PC"},           {0x59, "MSIZE"},
      {0x5a, "GAS"},          {0x5b, "JUMPDEST"},     {0x5c, "TLOAD"},       {0x5d, "TSTORE"},       {0x5e, "MCOPY"},
      {0x5f, "PUSH0"},        {0xf0, "CREATE"},       {0xf1, "CALL"},        {0xf2, "CALLCODE"},     {0xf3, "RETURN"},
      {0xf4, "DELEGATECALL"}, {0xf5, "CREATE2"},      {0xfa, "STATICCALL"},  {0xfd, "REVERT"},       {0xfe, "INVALID"},
      {0xff, "SELFDESTRUCT"}};
  static const std::vector<std::string> all = [] {
    std::vector<std::string> names(256);
    for (unsigned i = 0; i < 256; ++i) names[i] = "opcode " + to_hex(Bytes{static_cast<uint8_t>(i)}) + " not defined";
    for (const auto& n : kNames) names[n.op] = n.name;
    for (unsigned i = 1; i <= 32; ++i) names[0x5f + i] = "PUSH" + std::to_string(i);
    for (unsigned i = 1; i <= 16; ++i) {
      names[0x7f + i] = "DUP" + std::to_string(i);
      names[0x8f + i] = "SWAP" + std::to_string(i);
    }
    for (unsigned i = 0; i <= 4; ++i) names[0xa0 + i] = "LOG" + std::to_string(i);
    return names;
  }();
  return all[op];
}

}  // namespace zg
