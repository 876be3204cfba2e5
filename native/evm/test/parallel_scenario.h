// Random blocks for parallel_test.cpp: accounts that meet on purpose, small random programs that ask the state everything it can be asked, transactions of every
// kind, valid or not.
#pragma once

#include <memory>
#include <random>
#include <string>

#include "base/rlp.h"
#include "crypto/secp256k1.h"
#include "exec/block_parts.h"
#include "precompiles/da_signers.h"
#include "precompiles/wrapped_base.h"
#include "state/memory_state.h"
#include "test/chain_scenario.h"

namespace zg::test {

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  uint64_t below(uint64_t n) { return engine_() % n; }
  bool one_in(uint64_t n) { return below(n) == 0; }

 private:
  std::mt19937_64 engine_;
};

// EVM code, byte by byte.
struct Assembly {
  Bytes code;
  Assembly& op(std::initializer_list<int> ops) {
    for (const int o : ops) code.push_back(static_cast<uint8_t>(o));
    return *this;
  }
  Assembly& push(uint64_t n) { return push(U256{n}.be().view()); }
  Assembly& push(const Address& a) { return push(a.view()); }
  Assembly& push(ByteView bytes) {
    while (bytes.size() > 1 && bytes[0] == 0) bytes = bytes.subspan(1);
    code.push_back(static_cast<uint8_t>(0x5f + bytes.size()));
    code.insert(code.end(), bytes.begin(), bytes.end());
    return *this;
  }
};

inline Address numbered(uint8_t kind, uint64_t n) {
  Address a{};
  a.b[0] = 0xa0;
  a.b[1] = kind;
  a.b[19] = static_cast<uint8_t>(n);
  a.b[18] = static_cast<uint8_t>(n >> 8);
  return a;
}
inline Address low(uint64_t n) {
  Address a{};
  a.b[18] = static_cast<uint8_t>(n >> 8);
  a.b[19] = static_cast<uint8_t>(n);
  return a;
}

struct Scenario {
  static constexpr size_t kUsers = 20, kKeys = 6, kPrograms = 8, kFresh = 6;
  static constexpr uint64_t kBaseFee = 1'000'000'000;

  Random random;
  Revision rev;
  ChainConfig config;
  Precompiles precompiles;
  MemoryState state;
  Header parent;
  BlockAttributes attributes;
  std::vector<Transaction> txs;

  explicit Scenario(uint64_t seed) : random(seed) {
    static constexpr Revision kRevisions[] = {Revision::byzantium, Revision::istanbul, Revision::london, Revision::shanghai, Revision::cancun, Revision::prague, Revision::osaka};
    rev = kRevisions[random.below(std::size(kRevisions))];
    config = ChainConfig::all_at(rev, U256{31337});
    if (random.one_in(4)) config.min_gas_charge_bps = 5'000;
    fill_state();
    DaSignersParams signers;
    signers.epoch_blocks = 10;
    signers.registry = users_[0];
    precompiles.add(make_da_signers(signers));
    precompiles.add(make_wrapped_base(users_[1], users_[2]));
    parent.number = 41;
    parent.timestamp = 1000;
    parent.gas_limit = 30'000'000;
    parent.ommers_hash = empty_ommers_hash();
    if (rev >= Revision::london) parent.base_fee = U256{kBaseFee};
    if (rev >= Revision::cancun) parent.blob_gas_used = parent.excess_blob_gas = 0;
    parent.gas_used = 15'000'000;  // the base fee stays
    parent.state_root = state.root();
    attributes.timestamp = 1012;
    attributes.gas_limit = 30'000'000;
    coinbase_ = random.one_in(3) ? any_address() : numbered(9, 1);
    attributes.fee_recipient = coinbase_;
    if (random.one_in(3)) {
      // A block that is full before its transactions are out.
      parent.gas_limit = attributes.gas_limit = 1'500'000;
      parent.gas_used = 750'000;
    }
    if (rev >= Revision::shanghai) attributes.withdrawals.push_back({1, 2, any_address(), 5});
    const size_t count = 10 + random.below(90);
    for (size_t i = 0; i < count; ++i) txs.push_back(transaction());
  }

 private:
  std::vector<Address> users_, programs_;
  std::vector<uint64_t> nonces_;
  Address token_ = numbered(3, 1), pool_ = numbered(3, 2), burner_ = numbered(3, 3), coinbase_{};
  uint64_t made_ = 0;

  // Whom programs and transfers meet: few, so that they do.
  Address any_address() {
    switch (random.below(10)) {
      case 0: return coinbase_;
      case 1: return numbered(8, random.below(kFresh));
      case 2: return low(1 + random.below(4));
      case 3: return random.one_in(2) ? token_ : pool_;
      case 4: return create2_address(programs_.empty() ? token_ : programs_[random.below(programs_.size())], Hash{}, child_code());
      case 5: return users_.empty() ? numbered(8, 0) : create_address(users_[random.below(users_.size())], random.below(3));
      case 6:
      case 7: return programs_.empty() ? numbered(8, 0) : programs_[random.below(programs_.size())];
      default: return users_.empty() ? numbered(8, 0) : users_[random.below(users_.size())];
    }
  }

  // A contract that counts in slot 2 and destroys itself in favour of whoever calls it.
  static Bytes child_runtime() {
    Assembly a;
    a.push(2).op({0x54}).push(1).op({0x01}).push(2).op({0x55, 0x33, 0xff});
    return a.code;
  }
  // Init code: stores, and returns that contract.
  static Bytes child_code() {
    const Bytes runtime = child_runtime();
    Assembly a;
    a.push(7).push(1).op({0x55}).push(runtime).push(uint64_t{0}).op({0x52}).push(runtime.size()).push(32 - runtime.size()).op({0xf3});
    return a.code;
  }

  Bytes program(bool is_init) {
    Assembly a;
    const auto store = [&] { a.push(random.below(4)).op({0x55}); };
    const size_t statements = 2 + random.below(9);
    for (size_t i = 0; i < statements; ++i) {
      switch (random.below(22)) {
        case 0: a.push(random.below(3)); store(); break;
        case 1:
        case 2: a.push(random.below(4)).op({0x54}).push(1).op({0x01}); store(); break;
        case 3: a.push(any_address()).op({0x31}); store(); break;
        case 4: a.op({rev >= Revision::istanbul ? 0x47 : 0x34}); store(); break;
        case 5: a.push(any_address()).op({rev >= Revision::istanbul ? 0x3f : 0x3b}); store(); break;
        case 6: a.push(any_address()).op({0x3b}); store(); break;
        case 7:
        case 8:
        case 9:
        case 10:
          // CALL with a value now and then; some of its success into storage.
          a.push(uint64_t{0}).push(uint64_t{0}).push(uint64_t{0}).push(uint64_t{0}).push(random.one_in(2) ? random.below(3) : 0).push(any_address()).push(60'000).op({0xf1});
          if (random.one_in(2)) store();
          else a.op({0x50});
          break;
        case 11: {
          // Its own child, so that it goes and comes again.
          a.push(uint64_t{0}).push(uint64_t{0}).push(uint64_t{0}).push(uint64_t{0}).push(uint64_t{0}).push(programs_.empty() ? low(4) : create2_address(programs_[random.below(programs_.size())], Hash{}, child_code())).push(60'000).op({0xf1, 0x50});
          break;
        }
        case 12:
        case 21: {
          // A child by CREATE or CREATE2 from its init code in memory.
          const Bytes child = child_code();
          Bytes word(32, 0);
          std::copy(child.begin(), child.end(), word.begin());
          a.code.push_back(0x7f);
          a.code.insert(a.code.end(), word.begin(), word.end());
          a.push(uint64_t{0}).op({0x52});
          const bool two = random.one_in(2);
          if (two) a.push(uint64_t{0});
          a.push(child.size()).push(uint64_t{0}).push(random.below(2)).op({two ? 0xf5 : 0xf0});
          store();
          break;
        }
        case 13: a.push(random.below(9)).push(uint64_t{0}).push(uint64_t{0}).op({0xa1}); break;
        case 14: a.op({0x5a}); store(); break;
        case 15: a.push(1).op({0x43, 0x03, 0x40}); store(); break;
        case 16: a.op({0x41, 0x31}); store(); break;
        case 17:
          if (rev >= Revision::cancun) a.push(random.below(4)).op({0x54}).push(1).op({0x5d}).push(1).op({0x5c}).push(2).op({0x55});
          break;
        case 18:
          if (random.one_in(3)) a.push(any_address()).op({0xff});
          break;
        case 19:
          if (random.one_in(4)) a.push(uint64_t{0}).push(uint64_t{0}).op({random.one_in(2) ? 0xfd : 0xfe});
          break;
        default: a.op({0x3a, 0x32, 0x01}); store(); break;
      }
    }
    if (is_init && random.one_in(2)) {
      const Bytes runtime = child_runtime();
      a.push(runtime).push(uint64_t{0}).op({0x52}).push(runtime.size()).push(32 - runtime.size()).op({0xf3});
    }
    return a.code;
  }

  void put(const Address& at, uint64_t nonce, const U256& balance, Bytes code, std::vector<std::pair<U256, U256>> slots = {}) {
    state.put(at, nonce, balance, Code::make(std::move(code)), slots);
  }

  void fill_state() {
    const U256 ether{1'000'000'000'000'000'000};
    std::vector<std::pair<U256, U256>> balances;
    for (size_t i = 0; i < kUsers; ++i) {
      const Address a = i < kKeys ? *address_of_secret(secret_of(i)) : numbered(1, i);
      users_.push_back(a);
      // Some can pay for a transaction or two.
      put(a, 0, i % 7 == 6 ? U256{300'000 * kBaseFee} : ether * U256{1 + i}, {});
      balances.emplace_back(U256::from(a), U256{1'000});
      nonces_.push_back(0);
    }
    for (size_t i = 0; i < kPrograms; ++i) {
      const Address a = numbered(2, i);
      put(a, 1, U256{5}, program(false), {{U256{1}, U256{9}}, {U256{2}, U256{1}}});
      programs_.push_back(a);
      // Some have their child of CREATE2 already, with storage that goes when it does and is another's when it comes again.
      if (random.one_in(2)) put(create2_address(a, Hash{}, child_code()), 1, U256{1}, child_runtime(), {{U256{1}, U256{3}}, {U256{2}, U256{4}}});
    }
    // Token: CALLDATA to, amount. Slot of an account is its address.
    Assembly token;
    token.push(32).op({0x35, 0x33, 0x54, 0x81, 0x81, 0x10});  // amount, have, have < amount
    token.push(42).op({0x57});                                 // to the end: revert
    token.op({0x03, 0x33, 0x55});                              // slot[caller] = have − amount
    token.push(32).op({0x35}).push(uint64_t{0}).op({0x35, 0x54, 0x01}).push(uint64_t{0}).op({0x35, 0x55});
    token.push(uint64_t{0}).op({0x35, 0x33}).push(32).push(uint64_t{0}).op({0xa2, 0x00});
    while (token.code.size() < 42) token.op({0x00});
    token.op({0x5b}).push(uint64_t{0}).push(uint64_t{0}).op({0xfd});
    put(token_, 1, {}, token.code, balances);
    // Pool: reserves in slots 0 and 1 move with every call.
    Assembly pool;
    pool.push(uint64_t{0}).op({0x54}).push(uint64_t{0}).op({0x35, 0x01}).push(uint64_t{0}).op({0x55});
    pool.push(1000).push(1).op({0x54}).push(997).op({0x02, 0x04}).push(1).op({0x55, 0x00});
    put(pool_, 1, {}, pool.code, {{U256{}, U256{1'000'000}}, {U256{1}, U256{1'000'000}}});
    // Burner: counts down, then keeps what is left.
    Assembly burner;
    burner.push(300).op({0x5b}).push(1).op({0x90, 0x03, 0x80}).push(3).op({0x57}).push(uint64_t{0}).op({0x54, 0x01, 0x33, 0x55, 0x00});
    put(burner_, 1, {}, burner.code);
    // An account with storage and nothing else (EIP-7610), where a creation goes.
    put(create_address(users_[3], 1), 0, U256{1}, {}, {{U256{5}, U256{5}}});
    put(numbered(8, 1), 0, {}, {});  // empty and there
    // What requests are collected from (EIP-7002, 7251), and EIP-2935's.
    static constexpr uint8_t kRequests[2][20] = {
        {0x00, 0x00, 0x09, 0x61, 0xef, 0x48, 0x0e, 0xb5, 0x5e, 0x80, 0xd1, 0x9a, 0xd8, 0x35, 0x79, 0xa6, 0x4c, 0x00, 0x70, 0x02},
        {0x00, 0x00, 0xbb, 0xdd, 0xc7, 0xce, 0x48, 0x86, 0x42, 0xfb, 0x57, 0x9f, 0x8b, 0x00, 0xf3, 0xa5, 0x90, 0x00, 0x72, 0x51}};
    for (const auto& at : kRequests) put(Address::from(at), 1, {}, {0x00});
  }

  Transaction transaction() {
    Transaction tx;
    const size_t user = random.one_in(4) ? 0 : random.below(kUsers);
    tx.sender = users_[user];
    tx.sender_known = true;
    tx.chain_id = config.chain_id;
    tx.nonce = nonces_[user]++;
    tx.gas_limit = 100'000 + random.below(4) * 100'000;
    tx.gas_price = U256{kBaseFee + random.below(3) * 1'000};
    tx.max_priority_fee = tx.gas_price;
    tx.to = any_address();
    if (rev >= Revision::london && random.one_in(2)) {
      tx.type = 2;
      tx.gas_price = U256{3 * kBaseFee};
      tx.max_priority_fee = U256{random.below(3) * 1'000};
    }
    const auto word = [&](const U256& x) {
      const Hash h = x.be();
      tx.data.insert(tx.data.end(), h.b, h.b + 32);
    };
    switch (random.below(16)) {
      case 0:
      case 1: tx.to = users_[4], tx.value = U256{1}; break;
      case 2: tx.value = U256{random.below(3)}; break;
      case 3:
      case 4:
        tx.to.reset();
        tx.data = program(true);
        tx.value = U256{random.below(2)};
        tx.gas_limit = 500'000;
        break;
      case 5:
      case 6:
        tx.to = token_;
        word(U256::from(users_[random.below(kUsers)]));
        word(U256{random.below(1'200)});
        break;
      case 7:
        tx.to = pool_;
        word(U256{random.below(100)});
        break;
      case 8:
        if (rev >= Revision::prague) set_code(tx);
        break;
      case 9: stateful(tx, user); break;
      case 10: tx.to = burner_; break;
      case 11:
        if (rev >= Revision::berlin) {
          tx.type = std::max<uint8_t>(tx.type, 1);
          tx.to = programs_[random.below(kPrograms)];
          tx.access_list.push_back({*tx.to, {U256{1}, U256{3}}});
          tx.access_list.push_back({any_address(), {}});
        }
        break;
      case 12: spoil(tx, user); break;
      default: tx.to = programs_[random.below(kPrograms)], tx.value = U256{random.below(3)}; break;
    }
    ++made_;
    tx.r = U256{made_};
    tx.s = U256{2};
    tx.v = tx.type == 0 ? tx.chain_id * U256{2} + U256{35} : U256{};
    tx.raw = encode_transaction(tx);
    tx.hash = keccak(tx.raw);
    return tx;
  }

  void set_code(Transaction& tx) {
    tx.type = 4;
    for (size_t i = 0; i <= random.below(2); ++i) {
      const size_t who = random.below(kKeys);
      Authorization a;
      a.chain_id = random.one_in(2) ? config.chain_id : U256{};
      a.address = random.one_in(4) ? Address{} : programs_[random.below(kPrograms)];
      a.nonce = random.one_in(3) ? nonces_[who]++ : nonces_[who];
      rlp::Writer w;
      w.out.push_back(0x05);
      const size_t at = w.open();
      w.u256(a.chain_id);
      w.address(a.address);
      w.u64(a.nonce);
      w.close(at);
      const auto signature = sign(keccak(w.out), secret_of(who));
      if (!signature) std::abort();
      a.r = signature->r;
      a.s = signature->s;
      a.y_parity = signature->y_parity ? 1 : 0;
      tx.authorizations.push_back(a);
    }
  }

  // 0G's precompiles: mint, burn and caps of the wrapped base; the epoch of DASigners, which may be made.
  void stateful(Transaction& tx, size_t user) {
    const auto call = [&](uint32_t selector, std::initializer_list<U256> words) {
      for (int i = 3; i >= 0; --i) tx.data.push_back(static_cast<uint8_t>(selector >> (8 * i)));
      for (const U256& x : words) {
        const Hash h = x.be();
        tx.data.insert(tx.data.end(), h.b, h.b + 32);
      }
    };
    tx.gas_limit = 300'000;
    tx.to = low(0x1002);
    const U256 minter = U256::from(users_[5]);
    const U256 amount{random.below(50)};
    if (user == 2) return call(0xdddba6c8, {minter, U256{1'000}, amount});
    switch (random.below(4)) {
      case 0: return call(0x40c10f19, {minter, amount});
      case 1: return call(0x9dc29fac, {minter, amount});
      case 2: return call(0x95609212, {minter});
      default:
        tx.to = low(0x1000);
        return call(random.one_in(2) ? 0xf4145a83 : 0x5a889f0c, {});
    }
  }

  void spoil(Transaction& tx, size_t user) {
    switch (random.below(7)) {
      case 0: tx.nonce += 1 + random.below(2); break;
      case 1: tx.nonce = 0; break;
      case 2: tx.value = U256{~uint64_t{0}} * U256{~uint64_t{0}}; break;
      case 3: tx.gas_limit = 20'000; break;
      case 4: tx.gas_limit = 1'400'000; break;
      case 5: tx.gas_price = U256{5}; tx.max_priority_fee = U256{1}; break;
      default:
        if (rev >= Revision::cancun) {
          tx.type = 3;
          tx.max_blob_fee = U256{1'000};
          Hash h{};
          h.b[0] = 1;
          tx.blob_hashes.assign(1 + random.below(4), h);
        }
        break;
    }
    if (tx.type < 2 || random.one_in(2)) --nonces_[user];
  }
};

}  // namespace zg::test
