// All state stands in the storage of the precompile's own account, so it is in the state root and follows every revert. Layout and rules are
// those of the reference (test/oracle/precompiles/da-signers.ts) and of lib/contracts/da-signers.ts, which builds a genesis with signers:
//
//   words         at keccak(kind ‖ parts)
//   byte strings  L = keccak(key): length at L, 32-byte chunk i at keccak(L ‖ u64be i)
//   signer        u8 length of the socket ‖ socket ‖ G1 (64) ‖ G2 (128, c0 before c1)
//   quorum        u16 count ‖ the signers that occur, 20 bytes each ‖ for each place the index of its signer, one byte up to 256 signers, else two
#include "precompiles/da_signers.h"

#include <algorithm>
#include <unordered_map>

#include "crypto/bn254.h"
#include "precompiles/abi.h"
#include "vm/evm.h"

namespace zg {
namespace {

constexpr Address kSelf{{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0x00}}};
constexpr Hash kNewSigner{{{0x67, 0x99, 0x17, 0xc2, 0x00, 0x6d, 0xf1, 0xda, 0xaa, 0x98, 0x7a, 0x56, 0xbf, 0x1d, 0x66, 0xe9,
                            0x97, 0x64, 0xd5, 0xad, 0x31, 0x78, 0x92, 0xd9, 0xe8, 0x3a, 0x6e, 0xb4, 0xe3, 0xf0, 0x51, 0xe7}}};
constexpr Hash kSocketUpdated{{{0x09, 0x61, 0x7a, 0x96, 0x61, 0x76, 0xa4, 0x0f, 0x8f, 0x14, 0x10, 0x76, 0x8b, 0x11, 0x85, 0x06,
                                0xdb, 0x00, 0x96, 0x48, 0x4a, 0xcd, 0x58, 0x11, 0x06, 0x4f, 0xcc, 0x12, 0x03, 0x87, 0x98, 0xde}}};
constexpr uint64_t kSocketMax = 96;
// Signers of one getSigner: as many as a quorum can have.
constexpr uint64_t kMaxAddresses = 3'072;

struct Point2 {
  U256 x0, x1, y0, y1;
};
struct Signer {
  Bytes socket;
  U256 x, y;
  Point2 g2;
};

struct Key {
  Bytes bytes;
  explicit Key(uint8_t kind) { bytes.push_back(kind); }
  Key& u64(uint64_t x) {
    for (int i = 7; i >= 0; --i) bytes.push_back(static_cast<uint8_t>(x >> (8 * i)));
    return *this;
  }
  Key& add(ByteView v) {
    bytes.insert(bytes.end(), v.begin(), v.end());
    return *this;
  }
  [[nodiscard]] Hash hash() const { return keccak(bytes); }
};

// A G1 point of two words; nothing for infinity or off the curve.
std::optional<bn254::G1> g1_of(const U256& x, const U256& y) {
  uint8_t in[64];
  x.to_be(in);
  y.to_be(in + 32);
  auto p = bn254::decode_g1(in);
  if (!p || p->infinity) return std::nullopt;
  return p;
}
std::optional<bn254::G2> g2_of(const Point2& p) {
  uint8_t in[128];
  p.x1.to_be(in);
  p.x0.to_be(in + 32);
  p.y1.to_be(in + 64);
  p.y0.to_be(in + 96);
  auto q = bn254::decode_g2(in);
  if (!q || q->infinity) return std::nullopt;
  return q;
}

// x = digest mod p, then the first x, x + 1, … on the curve, with the root (x³ + 3)^((p + 1) / 4).
bn254::G1 hash_to_g1(const Hash& digest) {
  using bn254::Fp;
  const U256 e = (bn254::kP + U256{1}) >> 2;
  Fp x = Fp::from(U256::from(digest));
  const Fp three = Fp::from(U256{3});
  for (;; x = x + Fp::one()) {
    const Fp square = x.squared() * x + three;
    const Fp y = square.power(e);
    if (y.squared() == square) return {x, y};
  }
}

// S of `digest` by the key of PK1, and PK2 the same key: γ = keccak(H ‖ S ‖ PK1 ‖ PK2) mod r, e(S + γ·PK1, −G2) · e(H + γ·G1, PK2) = 1.
bool possesses(const Hash& digest, const U256& sx, const U256& sy, const Signer& signer) {
  const auto s = g1_of(sx, sy), key1 = g1_of(signer.x, signer.y);
  const auto key2 = g2_of(signer.g2);
  if (!s || !key1 || !key2) return false;
  const bn254::G1 h = hash_to_g1(digest);
  Bytes bound(64);
  bn254::encode_g1(h, bound.data());
  for (const U256& word : {sx, sy, signer.x, signer.y, signer.g2.x0, signer.g2.x1, signer.g2.y0, signer.g2.y1}) abi_word(bound, word);
  const U256 gamma = divmod(U256::from(keccak(bound)), bn254::kR).remainder;
  const bn254::G1 left = bn254::add(*s, bn254::multiply(*key1, gamma));
  const bn254::G1 right = bn254::add(h, bn254::multiply(bn254::g1_generator(), gamma));
  bn254::G2 minus = bn254::g2_generator();
  minus = minus.negated();
  const bn254::Pair pairs[2] = {{left, minus}, {right, *key2}};
  return bn254::pairing_check(pairs);
}

bool is_utf8(ByteView v) {
  // A byte order mark at the start is refused with what is not UTF-8: decoders drop it, and the text would not come back as it was.
  if (v.size() >= 3 && v[0] == 0xef && v[1] == 0xbb && v[2] == 0xbf) return false;
  for (size_t i = 0; i < v.size();) {
    const uint8_t c = v[i];
    size_t n = 0;
    uint32_t point = 0;
    if (c < 0x80) {
      ++i;
      continue;
    }
    if (c >= 0xc2 && c <= 0xdf) n = 1, point = c & 0x1f;
    else if (c >= 0xe0 && c <= 0xef) n = 2, point = c & 0x0f;
    else if (c >= 0xf0 && c <= 0xf4) n = 3, point = c & 0x07;
    else return false;
    if (v.size() - i <= n) return false;
    for (size_t k = 1; k <= n; ++k) {
      if ((v[i + k] & 0xc0) != 0x80) return false;
      point = point << 6 | (v[i + k] & 0x3f);
    }
    if ((n == 2 && point < 0x800) || (n == 3 && (point < 0x10000 || point > 0x10ffff)) || (point >= 0xd800 && point <= 0xdfff)) return false;
    i += n + 1;
  }
  return true;
}

// One call: storage, arguments, what is said when it fails.
class Run {
 public:
  Run(const DaSignersParams& params, const StatefulCall& call)
      : p_(params), call_(call), account_(call.state.account(kSelf)), args_(call.input.subspan(4), error_) {}

  void params() {
    abi_word(out_, p_.tokens_per_vote);
    abi_word(out_, U256{p_.max_votes_per_signer});
    abi_word(out_, U256{p_.max_quorums});
    abi_word(out_, epoch_blocks());
    abi_word(out_, U256{p_.encoded_slices});
  }
  void epoch_number() { abi_word(out_, current_epoch()); }
  void quorum_count() {
    const uint64_t epoch = epoch_of(0);
    if (ok()) abi_word(out_, word(Key(4).u64(epoch).hash()));
  }
  void is_signer() {
    const Address who = args_.address(0);
    if (ok()) abi_word(out_, U256{string_length(Key(0).add(who).hash()) > 0 ? 1u : 0u});
  }
  void get_signer();
  void get_quorum();
  void get_quorum_row();
  void registered_epoch() {
    const U256 epoch = args_.uint(1);
    if (!ok()) return;
    if (!epoch.is_u64()) return abi_word(out_, U256{});
    const Address who = args_.address(0);
    if (ok()) abi_word(out_, U256{word(Key(2).u64(epoch.low()).add(who).hash()).is_zero() ? 0u : 1u});
  }
  void get_agg_pk_g1();
  void register_signer();
  void update_socket();
  void register_next_epoch();
  void make_epoch();

  void fail(std::string text) {
    if (error_.empty()) error_ = std::move(text);
  }
  [[nodiscard]] bool ok() const noexcept { return error_.empty(); }
  std::string error_;
  Bytes out_;

 private:
  // ---- storage
  U256 word(const Hash& at) { return call_.state.slot(account_, U256::from(at)).current; }
  void set(const Hash& at, const U256& value) { call_.state.set_slot(account_, call_.state.slot(account_, U256::from(at)), value); }
  uint64_t string_length(const Hash& at) {
    const U256 n = word(keccak(at));
    // Nothing longer is ever written.
    if (n > U256{2 + p_.encoded_slices * 22}) {
      fail("a record is damaged");
      return 0;
    }
    return n.low();
  }
  static Hash chunk(const Hash& head, uint64_t i) {
    uint8_t in[40];
    std::memcpy(in, head.b, 32);
    for (int k = 0; k < 8; ++k) in[32 + k] = static_cast<uint8_t>(i >> (56 - 8 * k));
    return keccak({in, 40});
  }
  // Bytes [from, to), reading only the slots they stand in.
  Bytes read_string(const Hash& at, uint64_t from, uint64_t to) {
    const Hash head = keccak(at);
    const uint64_t first = from / 32;
    Bytes all;
    for (uint64_t i = first; i * 32 < to; ++i) {
      const Hash h = word(chunk(head, i)).be();
      all.insert(all.end(), h.b, h.b + 32);
    }
    const auto begin = all.begin() + static_cast<std::ptrdiff_t>(from - first * 32);
    return {begin, begin + static_cast<std::ptrdiff_t>(to - from)};
  }
  void write_string(const Hash& at, ByteView v) {
    const uint64_t before = string_length(at);
    if (!ok()) return;
    const Hash head = keccak(at);
    set(head, U256{v.size()});
    for (uint64_t i = 0; i * 32 < std::max<uint64_t>(before, v.size()); ++i) {
      uint8_t piece[32] = {};
      if (i * 32 < v.size()) std::memcpy(piece, v.data() + i * 32, std::min<size_t>(32, v.size() - i * 32));
      set(chunk(head, i), U256::from_be(piece));
    }
  }

  // ---- records
  std::optional<Signer> read_signer(const Address& who) {
    const Hash at = Key(0).add(who).hash();
    const uint64_t length = string_length(at);
    if (length == 0) return std::nullopt;
    const Bytes b = read_string(at, 0, length);
    const size_t end = 1 + size_t{b[0]};
    if (b.size() != end + 192) {
      fail("a record is damaged");
      return std::nullopt;
    }
    const auto number = [&](size_t i) { return U256::from_be(b.data() + end + 32 * i); };
    return Signer{Bytes(b.begin() + 1, b.begin() + static_cast<std::ptrdiff_t>(end)), number(0), number(1),
                  {number(2), number(3), number(4), number(5)}};
  }
  void write_signer(const Address& who, const Signer& s) {
    Bytes b{static_cast<uint8_t>(s.socket.size())};
    b.insert(b.end(), s.socket.begin(), s.socket.end());
    for (const U256& n : {s.x, s.y, s.g2.x0, s.g2.x1, s.g2.y0, s.g2.y1}) abi_word(b, n);
    write_string(Key(0).add(who).hash(), b);
  }
  struct Quorum {
    std::vector<Address> signers;
    std::vector<uint16_t> places;
  };
  std::optional<Quorum> read_quorum(const Hash& at) {
    const uint64_t length = string_length(at);
    if (!ok()) return std::nullopt;
    const Bytes b = read_string(at, 0, length);
    const size_t count = b.size() < 2 ? 0 : size_t{b[0]} * 256 + b[1];
    const size_t start = 2 + 20 * count, width = count > 256 ? 2 : 1;
    if (b.size() != start + width * p_.encoded_slices) {
      fail("a record is damaged");
      return std::nullopt;
    }
    Quorum q;
    for (size_t i = 0; i < count; ++i) q.signers.push_back(Address::from(b.data() + 2 + 20 * i));
    for (size_t i = 0; i < p_.encoded_slices; ++i) {
      const size_t k = start + width * i;
      const uint16_t index = static_cast<uint16_t>(width == 1 ? b[k] : b[k] * 256 + b[k + 1]);
      if (index >= count) {
        fail("a record is damaged");
        return std::nullopt;
      }
      q.places.push_back(index);
    }
    return q;
  }

  // ---- epochs
  U256 current_epoch() { return word(Key(5).hash()); }
  U256 epoch_blocks() {
    const U256 set = word(Key(9).hash());
    return set.is_zero() ? U256{p_.epoch_blocks} : set;
  }
  // The last block of an epoch's time, whose hash is mixed into the ballots of the next one.
  U256 mix_block(const U256& epoch) { return word(Key(6).u64(epoch.low()).hash()) + epoch_blocks() - U256{1}; }
  // Argument i as an epoch that has begun.
  uint64_t epoch_of(uint64_t i) {
    const U256 epoch = args_.uint(i);
    if (ok() && epoch > current_epoch()) fail("epoch has not begun");
    return epoch.low();
  }
  // Arguments 0 and 1 as the key of a quorum that exists.
  std::optional<Hash> quorum_of() {
    const uint64_t epoch = epoch_of(0);
    const U256 id = args_.uint(1);
    if (ok() && id >= word(Key(4).u64(epoch).hash())) fail("quorum not found");
    if (!ok()) return std::nullopt;
    return Key(1).u64(epoch).u64(id.low()).hash();
  }
  Bytes socket_of(AbiReader& from, uint64_t i) {
    const ByteView v = from.bytes(i, kSocketMax);
    if (ok() && !is_utf8(v)) fail("socket is not UTF-8");
    return {v.begin(), v.end()};
  }
  void log(Hash topic, const Address& who, Bytes data) {
    Log entry{kSelf, {topic, U256::from(who).be()}, std::move(data)};
    call_.state.add_log(std::move(entry));
  }
  void log_socket(const Address& who, const Bytes& socket) {
    Bytes data;
    abi_word(data, U256{32});
    abi_bytes(data, socket);
    log(kSocketUpdated, who, std::move(data));
  }
  [[nodiscard]] bool from_registry() {
    if (call_.caller != p_.registry) fail("caller is not the DA registry");
    return ok();
  }
  std::vector<std::vector<Address>> draw(uint64_t epoch, const Hash& seed);
  Bytes encode_quorum(const std::vector<Address>& quorum);

  const DaSignersParams& p_;
  const StatefulCall& call_;
  Account& account_;
  AbiReader args_;
};

void Run::get_signer() {
  const std::vector<Address> wanted = args_.addresses(0, kMaxAddresses);
  std::unordered_map<Address, Bytes, AddressHasher> known;
  for (const Address& who : wanted) {
    if (!ok()) return;
    if (known.contains(who)) continue;
    const auto s = read_signer(who);
    if (!s) return fail("signer " + to_hex(who) + " not found");
    Bytes item;
    // Address, offset of the socket, 2 + 4 coordinates, then the socket.
    for (const U256& n : {U256::from(who), U256{256}, s->x, s->y, s->g2.x0, s->g2.x1, s->g2.y0, s->g2.y1}) abi_word(item, n);
    abi_bytes(item, s->socket);
    known.emplace(who, std::move(item));
  }
  if (!ok()) return;
  abi_word(out_, U256{32});
  abi_word(out_, U256{wanted.size()});
  uint64_t offset = 32 * wanted.size();
  for (const Address& who : wanted) {
    abi_word(out_, U256{offset});
    offset += known[who].size();
  }
  for (const Address& who : wanted) {
    const Bytes& item = known[who];
    out_.insert(out_.end(), item.begin(), item.end());
  }
}

void Run::get_quorum() {
  const auto at = quorum_of();
  if (!at) return;
  const auto q = read_quorum(*at);
  if (!q) return;
  abi_word(out_, U256{32});
  abi_word(out_, U256{q->places.size()});
  for (const uint16_t i : q->places) abi_word(out_, U256::from(q->signers[i]));
}

void Run::get_quorum_row() {
  const auto at = quorum_of();
  if (!at) return;
  const U256 row = args_.uint_bits(2, 32);
  if (!ok()) return;
  if (row >= U256{p_.encoded_slices}) return fail("row index out of bound");
  const Bytes head = read_string(*at, 0, 2);
  const uint64_t count = uint64_t{head[0]} * 256 + head[1], width = count > 256 ? 2 : 1, from = 2 + 20 * count + width * row.low();
  const Bytes place = read_string(*at, from, from + width);
  const uint64_t index = width == 1 ? place[0] : uint64_t{place[0]} * 256 + place[1];
  abi_word(out_, U256::from_be(read_string(*at, 2 + 20 * index, 22 + 20 * index)));
}

// The sum of the keys whose places are marked. A signer's key comes in once, at its first marked place; from there on each of its places counts as hit, marked or
// not: it signed with one key for all of them.
void Run::get_agg_pk_g1() {
  const auto at = quorum_of();
  if (!at) return;
  const uint64_t bitmap_bytes = p_.encoded_slices / 8;
  const ByteView bitmap = args_.bytes(2, bitmap_bytes);
  if (!ok()) return;
  if (bitmap.size() != bitmap_bytes) return fail("quorum bitmap length mismatch");
  const auto q = read_quorum(*at);
  if (!q) return;
  std::vector<bool> in(q->signers.size());
  std::vector<uint16_t> order;
  uint64_t hit = 0;
  for (size_t place = 0; place < q->places.size(); ++place) {
    const uint16_t who = q->places[place];
    if (((bitmap[place >> 3] >> (place & 7)) & 1) != 0 && !in[who]) {
      in[who] = true;
      order.push_back(who);
    }
    if (in[who]) ++hit;
  }
  std::vector<bn254::G1> keys;
  for (const uint16_t who : order) {
    const auto s = read_signer(q->signers[who]);
    if (!s) return fail("signer " + to_hex(q->signers[who]) + " not found");
    const auto key = g1_of(s->x, s->y);
    if (!key) return fail("a record is damaged");
    keys.push_back(*key);
  }
  uint8_t sum[64] = {};
  bn254::encode_g1(bn254::sum(keys), sum);
  out_.assign(sum, sum + 64);
  abi_word(out_, U256{q->places.size()});
  abi_word(out_, U256{hit});
}

void Run::register_signer() {
  if (!from_registry()) return;
  AbiReader detail = args_.tuple(0);
  const U256 sx = args_.uint(1), sy = args_.uint(2);
  const Address who = detail.address(0);
  Signer s;
  s.socket = socket_of(detail, 1);
  s.x = detail.uint(2);
  s.y = detail.uint(3);
  s.g2 = {detail.uint(4), detail.uint(5), detail.uint(6), detail.uint(7)};
  if (!ok()) return;
  if (string_length(Key(0).add(who).hash()) > 0) return fail("signer already exists");
  if (!g1_of(s.x, s.y) || !g2_of(s.g2)) return fail("invalid public key");
  Bytes message(who.b, who.b + 20);
  abi_word(message, call_.block.chain_id);
  const std::string_view purpose = "0G_BN254_Pubkey_Registration";
  message.insert(message.end(), purpose.begin(), purpose.end());
  if (!possesses(keccak(message), sx, sy, s)) return fail("invalid signature");
  write_signer(who, s);
  Bytes data;
  for (const U256& n : {s.x, s.y, s.g2.x0, s.g2.x1, s.g2.y0, s.g2.y1}) abi_word(data, n);
  log(kNewSigner, who, std::move(data));
  log_socket(who, s.socket);
}

void Run::update_socket() {
  if (call_.caller != call_.tx.origin) return fail("sender is not the origin");
  Bytes socket = socket_of(args_, 0);
  if (!ok()) return;
  auto s = read_signer(call_.caller);
  if (!s) return fail("signer not found");
  s->socket = socket;
  write_signer(call_.caller, *s);
  log_socket(call_.caller, socket);
}

void Run::register_next_epoch() {
  if (!from_registry()) return;
  const Address who = args_.address(0);
  const U256 sx = args_.uint(1), sy = args_.uint(2), votes = args_.uint(3);
  if (!ok()) return;
  const auto s = read_signer(who);
  if (!s) return fail("signer not found");
  const U256 current = current_epoch(), next = current + U256{1};
  const Hash registration = Key(2).u64(next.low()).add(who).hash();
  if (!word(registration).is_zero()) return fail("signer already registered for the epoch");
  if (votes.is_zero()) return fail("no votes");
  if (U256{call_.block.number} >= mix_block(current)) return fail("registration for the epoch is over");
  Bytes message = Key(0).add(who).u64(next.low()).bytes;
  message.erase(message.begin());
  abi_word(message, call_.block.chain_id);
  if (!possesses(keccak(message), sx, sy, *s)) return fail("invalid signature");
  Bytes signature;
  abi_word(signature, sx);
  abi_word(signature, sy);
  const Hash count_at = Key(7).u64(next.low()).hash();
  const U256 count = word(count_at);
  set(registration, U256::from(keccak(signature)));
  set(Key(3).u64(next.low()).add(who).hash(), votes);
  set(Key(8).u64(next.low()).u64(count.low()).hash(), U256::from(who));
  set(count_at, count + U256{1});
}

// Each vote is a ballot, its content a chain of hashes; sorted by content, cut into quorums, the last one filled from before it.
std::vector<std::vector<Address>> Run::draw(uint64_t epoch, const Hash& seed) {
  struct Ballot {
    Hash content;
    Address who;
  };
  std::vector<Ballot> ballots;
  const uint64_t count = word(Key(7).u64(epoch).hash()).low();
  for (uint64_t i = 0; i < count; ++i) {
    const Address who = word(Key(8).u64(epoch).u64(i).hash()).address();
    const U256 votes = word(Key(3).u64(epoch).add(who).hash());
    uint8_t start[64];
    word(Key(2).u64(epoch).add(who).hash()).to_be(start);
    std::memcpy(start + 32, seed.b, 32);
    Hash content = keccak({start, 64});
    const uint64_t most = votes > U256{p_.max_votes_per_signer} ? p_.max_votes_per_signer : votes.low();
    for (uint64_t v = 0; v < most; ++v) {
      ballots.push_back({content, who});
      content = keccak(content);
    }
  }
  std::stable_sort(ballots.begin(), ballots.end(), [](const Ballot& a, const Ballot& b) { return a.content < b.content; });
  std::vector<std::vector<Address>> quorums;
  if (ballots.empty()) return quorums;
  const size_t places = p_.encoded_slices;
  if (ballots.size() < places) {
    std::vector<Address>& only = quorums.emplace_back();
    for (size_t i = 0; i < places; ++i) only.push_back(ballots[i % ballots.size()].who);
    return quorums;
  }
  for (size_t at = 0; at < ballots.size() && quorums.size() < p_.max_quorums; at += places) {
    const size_t first = at + places <= ballots.size() ? at : ballots.size() - places;
    std::vector<Address>& quorum = quorums.emplace_back();
    for (size_t i = 0; i < places; ++i) quorum.push_back(ballots[first + i].who);
  }
  return quorums;
}

Bytes Run::encode_quorum(const std::vector<Address>& quorum) {
  std::unordered_map<Address, size_t, AddressHasher> index;
  std::vector<Address> signers;
  std::vector<size_t> places;
  for (const Address& who : quorum) {
    const auto [it, fresh] = index.emplace(who, signers.size());
    if (fresh) signers.push_back(who);
    places.push_back(it->second);
  }
  Bytes b{static_cast<uint8_t>(signers.size() >> 8), static_cast<uint8_t>(signers.size())};
  for (const Address& who : signers) b.insert(b.end(), who.b, who.b + 20);
  for (const size_t p : places) {
    if (signers.size() > 256) b.push_back(static_cast<uint8_t>(p >> 8));
    b.push_back(static_cast<uint8_t>(p));
  }
  return b;
}

void Run::make_epoch() {
  const U256 current = current_epoch(), mix = mix_block(current), number{call_.block.number};
  if (number <= mix) return;
  // An epoch that comes later than BLOCKHASH reaches takes the newest hash: it was not known at the deadline either.
  const U256 at = number - mix <= U256{256} ? mix : number - U256{1};
  const Hash seed = call_.block.hashes != nullptr ? call_.block.hashes->block_hash(at.low()) : Hash{};
  const uint64_t next = current.low() + 1;
  const auto quorums = draw(next, seed);
  for (size_t id = 0; id < quorums.size(); ++id) write_string(Key(1).u64(next).u64(id).hash(), encode_quorum(quorums[id]));
  set(Key(4).u64(next).hash(), U256{quorums.size()});
  set(Key(5).hash(), U256{next});
  set(Key(6).u64(next).hash(), number);
}

struct Method {
  uint32_t selector;
  uint64_t gas;
  bool mutates;
  void (Run::*run)();
};
constexpr Method kMethods[] = {
    {0xcff0ab96, 1'000, false, &Run::params},           {0xf4145a83, 1'000, false, &Run::epoch_number},
    {0x5ecba503, 1'000, false, &Run::quorum_count},     {0x7df73e27, 10'000, false, &Run::is_signer},
    {0xd1f5e5f8, 100'000, false, &Run::get_signer},     {0x6ab6f654, 100'000, false, &Run::get_quorum},
    {0xfa6fcba6, 10'000, false, &Run::get_quorum_row},  {0x6c9e560c, 10'000, false, &Run::registered_epoch},
    {0x50b73739, 1'000'000, false, &Run::get_agg_pk_g1}, {0x7ca4dd5e, 100'000, true, &Run::register_signer},
    {0x0cf4b767, 50'000, true, &Run::update_socket},    {0x0f62bda5, 100'000, true, &Run::register_next_epoch},
    {0x5a889f0c, 100'000, true, &Run::make_epoch}};

class DaSigners final : public StatefulPrecompile {
 public:
  explicit DaSigners(const DaSignersParams& params) : params_(params) {}
  [[nodiscard]] Address address() const override { return kSelf; }

  PrecompileResult run(const StatefulCall& call) const override {
    const Method* method = nullptr;
    if (call.input.size() >= 4) {
      const uint32_t selector = static_cast<uint32_t>(call.input[0]) << 24 | static_cast<uint32_t>(call.input[1]) << 16 |
                                static_cast<uint32_t>(call.input[2]) << 8 | call.input[3];
      for (const Method& m : kMethods)
        if (m.selector == selector) method = &m;
    }
    if (method == nullptr) return refused("unknown selector");
    if (call.gas < method->gas) return {true, method->gas, {}};
    // By DELEGATECALL and CALLCODE it would act on the caller's account.
    if (call.is_delegate) return refused("precompile must be called directly");
    if (method->mutates && call.is_static) return refused("write protection");
    Run run(params_, call);
    (run.*method->run)();
    if (!run.ok()) return refused(run.error_);
    return {true, method->gas, std::move(run.out_)};
  }

 private:
  static PrecompileResult refused(std::string_view why) {
    PrecompileResult r;
    r.reverts = true;
    r.output = abi_error(why);
    return r;
  }
  DaSignersParams params_;
};

}  // namespace

std::shared_ptr<const StatefulPrecompile> make_da_signers(const DaSignersParams& params) { return std::make_shared<const DaSigners>(params); }

}  // namespace zg
