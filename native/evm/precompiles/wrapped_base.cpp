// A minter's record is three words from keccak(00 ‖ minter) on: cap, initial supply, supply.
#include "precompiles/wrapped_base.h"

#include "precompiles/abi.h"
#include "vm/evm.h"

namespace zg {
namespace {

constexpr Address kSelf{{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0x02}}};

struct Method {
  uint32_t selector;
  uint64_t gas;
  bool mutates;
};
constexpr uint32_t kGetToken = 0xa9283a7a, kMinterSupply = 0x95609212, kMint = 0x40c10f19, kBurn = 0x9dc29fac, kSetMinterCap = 0xdddba6c8;
constexpr Method kMethods[] = {
    {kGetToken, 5'000, false}, {kMinterSupply, 10'000, false}, {kMint, 100'000, true}, {kBurn, 100'000, true}, {kSetMinterCap, 100'000, true}};

class WrappedBase final : public StatefulPrecompile {
 public:
  WrappedBase(const Address& w0g, const Address& agency) : w0g_(w0g), agency_(agency) {}
  [[nodiscard]] Address address() const override { return kSelf; }

  PrecompileResult run(const StatefulCall& call) const override {
    const Method* method = nullptr;
    if (call.input.size() >= 4) {
      const uint32_t selector = static_cast<uint32_t>(call.input[0]) << 24 | static_cast<uint32_t>(call.input[1]) << 16 |
                                static_cast<uint32_t>(call.input[2]) << 8 | call.input[3];
      for (const Method& m : kMethods)
        if (m.selector == selector) method = &m;
    }
    std::string error;
    Bytes out;
    if (method == nullptr) error = "unknown selector";
    else if (call.gas < method->gas) return {true, method->gas, {}};
    else if (call.is_delegate) error = "precompile must be called directly";
    else if (method->mutates && call.is_static) error = "write protection";
    else perform(*method, call, out, error);
    if (error.empty()) return {true, method->gas, std::move(out)};
    PrecompileResult refused;
    refused.reverts = true;
    refused.output = abi_error(error);
    return refused;
  }

 private:
  void perform(const Method& method, const StatefulCall& call, Bytes& out, std::string& error) const {
    AbiReader args{call.input.subspan(4), error};
    if (method.selector == kGetToken) return abi_word(out, U256::from(w0g_));
    const Address minter = args.address(0);
    Account& self = call.state.account(kSelf);
    Bytes key{0};
    key.insert(key.end(), minter.b, minter.b + 20);
    const U256 at = U256::from(keccak(key));
    const auto word = [&](uint64_t i) -> Slot& { return call.state.slot(self, at + U256{i}); };
    if (method.selector == kMinterSupply) {
      if (!error.empty()) return;
      for (uint64_t i = 0; i < 3; ++i) abi_word(out, word(i).current);
      return;
    }
    const U256 amount = args.uint(1);
    const U256 initial = method.selector == kSetMinterCap ? args.uint(2) : U256{};
    if (!error.empty()) return;
    if (call.caller != (method.selector == kSetMinterCap ? agency_ : w0g_)) {
      error = method.selector == kSetMinterCap ? "caller is not the agency" : "caller is not the wrapped token";
      return;
    }
    const U256 cap = word(0).current, before = word(1).current, supply = word(2).current;
    if (method.selector == kMint) {
      U256 sum;
      if (!add_checked(supply, amount, sum) || sum > cap) {
        error = "insufficient mint cap";
        return;
      }
      Account& token = call.state.account(w0g_);
      U256 balance;
      if (!add_checked(token.balance(), amount, balance)) {
        error = "balance overflow";
        return;
      }
      call.state.set_slot(self, word(2), sum);
      call.state.add_balance(token, amount);
    } else if (method.selector == kBurn) {
      if (amount > supply) {
        error = "insufficient mint supply";
        return;
      }
      Account& token = call.state.account(w0g_);
      if (!call.state.sub_balance(token, amount)) {
        error = "insufficient balance";
        return;
      }
      call.state.set_slot(self, word(2), supply - amount);
    } else {
      // The supply moves by the change of the initial supply, not below zero.
      U256 next;
      if (initial >= before) {
        if (!add_checked(supply, initial - before, next)) {
          error = "supply overflow";
          return;
        }
      } else {
        next = supply > before - initial ? supply - (before - initial) : U256{};
      }
      call.state.set_slot(self, word(0), amount);
      call.state.set_slot(self, word(1), initial);
      call.state.set_slot(self, word(2), next);
    }
  }

  Address w0g_, agency_;
};

}  // namespace

std::shared_ptr<const StatefulPrecompile> make_wrapped_base(const Address& w0g, const Address& agency) {
  return std::make_shared<const WrappedBase>(w0g, agency);
}

}  // namespace zg
