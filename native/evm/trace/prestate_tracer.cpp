// prestateTracer: the accounts and slots a transaction needs, as they were before it; with diffMode only what it changed, before and after.
#include <map>

#include "trace/tracers.h"

namespace zg {

namespace {

struct Seen {
  bool existed = false;
  U256 balance;
  uint64_t nonce = 0;
  std::shared_ptr<const Code> code;  // null: none
  std::map<U256, U256> slots;
};

class PrestateTracer final : public JsonTracer {
 public:
  explicit PrestateTracer(const TraceFlags& flags)
      : diff_(flags.has("diffMode")),
        code_(!flags.has("disableCode")),
        storage_(!flags.has("disableStorage")),
        empty_(flags.has("includeEmpty")) {}

  void begin(WorkingState& state, const TraceSubject& s, std::atomic<bool>& stop) override {
    state_ = &state;
    stop_ = &stop;
    seen_.clear();
    created_.clear();
    bytes_ = 0;
    overflow_ = false;
    look_up(s.from);
    if (s.tx->to) look_up(*s.tx->to);
    else {
      const uint64_t nonce = state.account(s.from).nonce();
      look_up_new(create_address(s.from, nonce));
    }
    look_up(s.coinbase);
    for (const Authorization& a : s.tx->authorizations)
      if (const auto authority = recover_authority(a)) look_up(*authority);
  }

  void on_step(const Step& s) override {
    constexpr uint8_t kBalance = 0x31, kExtcodesize = 0x3b, kExtcodecopy = 0x3c, kExtcodehash = 0x3f, kSload = 0x54, kSstore = 0x55, kCall = 0xf1,
                      kCallcode = 0xf2, kDelegatecall = 0xf4, kStaticcall = 0xfa, kSelfdestruct = 0xff;
    if (overflow_) return;
    const auto top = [&](size_t i) -> const U256& { return s.stack[s.stack_size - 1 - i]; };
    switch (s.op) {
      case kSload:
      case kSstore:
        if (s.stack_size >= 1 && storage_) look_up(*s.address, top(0));
        break;
      case kBalance:
      case kExtcodesize:
      case kExtcodecopy:
      case kExtcodehash:
      case kSelfdestruct:
        if (s.stack_size >= 1) look_up(top(0).address());
        break;
      case kCall:
      case kCallcode:
      case kDelegatecall:
      case kStaticcall:
        if (s.stack_size >= 5) {
          const Address to = top(1).address();
          look_up(to);
          // The code of a delegated account (EIP-7702) is another account's.
          Address target;
          if (state_->code(state_->account(to)).delegation(target)) look_up(target);
        }
        break;
      default: break;
    }
  }

  void on_enter(const Message& m, ByteView) override {
    if (overflow_) return;
    if (m.kind == CallKind::create || m.kind == CallKind::create2) look_up_new(m.recipient);
  }

  void end(const TxOutcome&, JsonText& out) override {
    if (diff_) {
      write_diff(out);
    } else {
      JsonText pre(kLimit);
      for (const auto& [address, seen] : seen_) {
        if (created_.contains(address) && is_empty(seen)) continue;
        write_account(pre, address, seen, seen.slots, true);
      }
      out.raw("{").raw(pre.text()).raw("}");
      if (pre.full()) overflow_ = true;
    }
    if (out.full()) overflow_ = true;
  }

 private:
  static bool is_empty(const Seen& s) noexcept { return s.nonce == 0 && s.balance.is_zero() && s.code == nullptr && s.slots.empty(); }

  Seen& look_up(const Address& address) {
    const auto [at, added] = seen_.try_emplace(address);
    if (!added) return at->second;
    Account& account = state_->account(address);
    Seen& s = at->second;
    s.existed = account.exists;
    s.balance = account.balance();
    s.nonce = account.nonce();
    if (account.exists && account.code_hash() != empty_code_hash()) {
      (void)state_->code(account);
      s.code = account.code;
    }
    weigh(200 + (s.code != nullptr && code_ ? 2 * s.code->size() : 0));
    return s;
  }

  void look_up(const Address& address, const U256& key) {
    Seen& s = look_up(address);
    const auto [at, added] = s.slots.try_emplace(key);
    if (!added) return;
    at->second = state_->slot(state_->account(address), key).current;
    weigh(140);
  }

  void look_up_new(const Address& address) {
    (void)look_up(address);
    created_[address] = true;
  }

  void weigh(size_t bytes) {
    bytes_ += bytes;
    if (bytes_ > kLimit) overflowed(*stop_);
  }

  void write_account(JsonText& out, const Address& address, const Seen& s, const std::map<U256, U256>& slots, bool always_balance) const {
    if (out.size() != 0) out.raw(",");
    out.hex(address).raw(":{");
    const char* comma = "";
    if (always_balance) {
      out.raw("\"balance\":").quantity(s.balance);
      comma = ",";
    }
    if (s.code != nullptr && code_) {
      out.raw(comma).raw("\"code\":").hex(s.code->bytes());
      comma = ",";
    }
    if (s.code != nullptr) {
      out.raw(comma).raw("\"codeHash\":").hex(s.code->hash());
      comma = ",";
    }
    if (s.nonce != 0) {
      out.raw(comma).raw("\"nonce\":").number(s.nonce);
      comma = ",";
    }
    write_slots(out, comma, slots);
    out.raw("}");
  }

  static void write_slots(JsonText& out, const char* comma, const std::map<U256, U256>& slots) {
    if (slots.empty()) return;
    out.raw(comma).raw("\"storage\":{");
    bool first = true;
    for (const auto& [slot, value] : slots) {
      out.raw(first ? "" : ",").word(slot).raw(":").word(value);
      first = false;
    }
    out.raw("}");
  }

  void write_diff(JsonText& out) {
    JsonText pre(kLimit), post(kLimit);
    for (auto& [address, before] : seen_) {
      Account& account = state_->account(address);
      const bool fresh = created_.contains(address) && is_empty(before);
      std::map<U256, U256> from, to;
      for (const auto& [slot, value] : before.slots) {
        const U256 now = account.exists ? state_->slot(account, slot).current : U256{};
        if (now == value) continue;
        if (!value.is_zero()) from[slot] = value;
        if (!now.is_zero()) to[slot] = now;
      }
      const bool gone = before.existed && !account.exists;
      const Hash old_code = before.code != nullptr ? before.code->hash() : empty_code_hash();
      const bool balance = account.balance() != before.balance, nonce = account.nonce() != before.nonce, code = account.code_hash() != old_code;
      if (!gone && !balance && !nonce && !code && from.empty() && to.empty()) continue;
      if (!fresh) write_account(pre, address, before, from, before.existed || empty_);
      if (gone || !account.exists) continue;
      write_after(post, account, {balance, nonce, code}, to);
    }
    out.raw("{\"post\":{").raw(post.text()).raw("},\"pre\":{").raw(pre.text()).raw("}}");
    if (pre.full() || post.full()) overflow_ = true;
  }

  struct Changed {
    bool balance, nonce, code;
  };
  void write_after(JsonText& out, Account& account, const Changed& changed, const std::map<U256, U256>& slots) const {
    if (out.size() != 0) out.raw(",");
    out.hex(account.address).raw(":{");
    const char* comma = "";
    if (changed.balance) {
      out.raw("\"balance\":").quantity(account.balance());
      comma = ",";
    }
    if (changed.code && code_) {
      out.raw(comma).raw("\"code\":").hex(state_->code(account).bytes());
      comma = ",";
    }
    if (changed.code) {
      out.raw(comma).raw("\"codeHash\":").hex(account.code_hash());
      comma = ",";
    }
    if (changed.nonce) {
      out.raw(comma).raw("\"nonce\":").number(account.nonce());
      comma = ",";
    }
    write_slots(out, comma, slots);
    out.raw("}");
  }

  const bool diff_, code_, storage_, empty_;
  WorkingState* state_ = nullptr;
  std::atomic<bool>* stop_ = nullptr;
  std::map<Address, Seen> seen_;
  std::map<Address, bool> created_;
  size_t bytes_ = 0;
};

}  // namespace

std::unique_ptr<JsonTracer> make_prestate_tracer(const TraceFlags& flags) {
  if (!flags.only({"diffMode", "disableCode", "disableStorage", "includeEmpty"})) return nullptr;
  return std::make_unique<PrestateTracer>(flags);
}

}  // namespace zg
