// Mutated bytes for every decoder of native/evm that reads what others wrote: the network, files, other versions. What a decoder accepts it must write
// again as the same bytes (or, where it keeps less than it reads, as bytes that it reads alike); what it refuses it must refuse without harm, which the
// sanitizers judge. Seeded: the same seed and corpus give the same inputs.
//
//   exec_fuzz CORPUS SECONDS SEED [ITERATIONS]      corpus: records of u32 LE size and bytes of kind, seed
//
// Kinds: tx, block, header, genesis, p1 … p17 and p256 (precompiles' inputs). Seeds of the other decoders (records of blocks, accounts, tries, whole
// snapshots, block log, pool journal) are made here. Exit status 1: a decoder broke its promise; the input is printed.
#include <chrono>
#include <functional>
#include <map>

#include "chain/block_log.h"
#include "chain/files.h"
#include "chain/genesis.h"
#include "chain/journal.h"
#include "chain/records.h"
#include "db/records.h"
#include "exec/conformance.h"
#include "precompiles/ethereum.h"
#include "precompiles/precompiles.h"
#include "test/chain_scenario.h"
#include "test/exec_mutate.h"
#include "test/fault_env.h"
#include "trie/node.h"

using namespace zg;
using namespace zg::test;

namespace {

using Seeds = std::vector<Bytes>;

void broken(std::string_view what, ByteView input) {
  std::fprintf(stderr, "%.*s: its promise is broken by\n", static_cast<int>(what.size()), what.data());
  for (const uint8_t b : input) std::fprintf(stderr, "%02x", b);
  std::fprintf(stderr, "\n");
  std::exit(1);
}

bool same(ByteView a, ByteView b) { return std::equal(a.begin(), a.end(), b.begin(), b.end()); }

// ---- decoders: true when the input was accepted

bool try_tx(ByteView in) {
  Transaction tx;
  if (decode_transaction(in, tx) != nullptr) return false;
  if (!same(tx.raw, in) || tx.hash != keccak(in)) broken("tx", in);
  Transaction again = tx;
  again.raw.clear();
  if (!same(encode_transaction(again), in)) broken("tx", in);
  (void)recover_sender(tx);
  for (const Authorization& a : tx.authorizations) (void)recover_authority(a);
  (void)intrinsic_gas(tx, Revision::osaka);
  return true;
}

bool try_block(ByteView in) {
  Block block;
  if (decode_block(in, block) != nullptr) return false;
  if (!same(encode_block(block), in)) broken("block", in);
  (void)transactions_root(block.transactions);
  return true;
}

bool try_header(ByteView in) {
  Header h;
  if (!decode_header(in, h)) return false;
  if (!same(encode_header(h), in)) broken("header", in);
  (void)next_base_fee(h);
  return true;
}

bool try_genesis(ByteView in) {
  Genesis g;
  if (decode_genesis(in, g) != nullptr) return false;
  if (!same(g.config_bytes, in)) broken("genesis", in);
  return true;
}

bool try_record(ByteView in) {
  StoredBlock block;
  if (!decode_record(in, block)) return false;
  // Blooms are not kept: read again, it must be written as the same.
  const Bytes written = encode_record(block, false);
  StoredBlock again;
  if (!decode_record(written, again) || encode_record(again, true) != encode_record(block, true)) broken("record", in);
  return true;
}

bool try_account(ByteView in) {
  db::Record r, again;
  if (!db::decode_account(as_chars(in), r)) return false;
  if (!db::decode_account(db::encode_account(r), again) || again.data != r.data || again.storage_root != r.storage_root) broken("account", in);
  Bytes out;
  db::rlp_account(r, out);
  return true;
}

bool try_slot(ByteView in) {
  U256 x, again;
  if (!db::decode_slot(as_chars(in), x)) return false;
  if (!db::decode_slot(db::encode_slot(x), again) || again != x) broken("slot", in);
  return true;
}

bool try_branch(ByteView in) {
  trie::Branch b;
  if (!trie::decode_branch(as_chars(in), b)) return false;
  std::string out;
  trie::encode_branch(b, out);
  if (!same(as_bytes(out), in)) broken("branch", in);
  return true;
}

bool try_stub(ByteView in) {
  trie::Stub s;
  if (!trie::decode_stub(as_chars(in), s)) return false;
  std::string out;
  trie::encode_stub(s, out);
  if (!same(as_bytes(out), in)) broken("stub", in);
  return true;
}

bool try_rlp(ByteView in) { return !run_conformance("rlp", in).empty(); }

bool try_precompile(unsigned number, ByteView in) {
  Address address{};
  address.b[18] = static_cast<uint8_t>(number >> 8);
  address.b[19] = static_cast<uint8_t>(number);
  constexpr uint64_t kGas = 400'000;  // bounds the work
  const PrecompileFn fn = find_precompile(Revision::osaka, address);
  if (fn == nullptr) broken("precompile", in);
  const PrecompileResult r = fn(in, kGas);
  if (r.ok && r.gas_used > kGas) broken("precompile", in);
  return r.ok;
}

// ---- files

Chain::Options options_on(FaultEnv& env, const Genesis& genesis) {
  Chain::Options o;
  o.dir = "/chain";
  o.genesis = genesis;
  o.kv.env = &env;
  o.kv.write_buffer = 64 << 10;
  o.kv.block_cache = 1 << 20;
  o.state.cache_bytes = 1 << 20;
  o.log_segment_bytes = 64 << 10;
  o.threads = 1;
  return o;
}

std::string bytes_of(FaultEnv& env, const std::string& path) {
  std::string out;
  if (!leveldb::ReadFileToString(&env, path, &out).ok()) std::abort();
  return out;
}

void put_file(FaultEnv& env, const std::string& path, std::string_view bytes) {
  leveldb::WritableFile* file = nullptr;
  if (!env.NewWritableFile(path, &file).ok()) std::abort();
  const std::unique_ptr<leveldb::WritableFile> owner(file);
  if (!file->Append(leveldb::Slice(bytes.data(), bytes.size())).ok() || !file->Sync().ok() || !file->Close().ok()) std::abort();
}

// Framed records of a file, apart.
struct Framed {
  uint64_t tag;
  Bytes payload;
};
std::vector<Framed> take_apart(std::string_view bytes) {
  std::vector<Framed> out;
  ByteView rest = as_bytes(bytes);
  while (rest.size() >= kRecordHead) {
    const RecordHead head = read_record_head(rest.data());
    if (head.length > rest.size() - kRecordHead) break;
    const ByteView payload = rest.subspan(kRecordHead, head.length);
    out.push_back({head.tag, Bytes(payload.begin(), payload.end())});
    rest = rest.subspan(kRecordHead + head.length);
  }
  return out;
}

// A little chain with transfers, contracts and storage, and what it leaves: a snapshot, log segments, a journal.
struct World {
  Genesis genesis;
  std::vector<Framed> snapshot, journal;
  std::string log;
  std::vector<Bytes> records;
  BlockLog::Place place;

  World() {
    std::vector<Address> accounts;
    for (uint64_t i = 0; i < 3; ++i) accounts.push_back(*address_of_secret(secret_of(i)));
    genesis = genesis_with(accounts, 30'000'000);
    GenesisAccount contract;
    contract.address.b[0] = 0xcc;
    contract.code = {0x60, 0x01, 0x60, 0x00, 0x55, 0x60, 0x00, 0x60, 0x00, 0xa0};
    for (uint64_t i = 1; i < 40; ++i) contract.storage.emplace_back(U256{i}, U256{i * i});
    genesis.alloc.push_back(contract);
    FaultEnv env;
    std::unique_ptr<Chain> chain;
    if (Chain::open(options_on(env, genesis), chain)) std::abort();
    for (uint64_t b = 0; b < 4; ++b) {
      const Bytes tx = transfer(secret_of(b % 3), b / 3, genesis.alloc[3].address, b), wait = transfer(secret_of(2), 7 + b, accounts[0], 1);
      const ByteView both[] = {tx, wait};
      (void)chain->submit(both);
      std::shared_ptr<const StoredBlock> built, done;
      if (chain->build(attributes_of(b + 1, 30'000'000), 60'000, built) || chain->commit(built->block.hash, done)) std::abort();
      records.push_back(encode_record(*done, false));
    }
    if (chain->save_snapshot("/snapshot")) std::abort();
    chain->close();
    chain.reset();
    snapshot = take_apart(bytes_of(env, "/snapshot"));
    journal = take_apart(bytes_of(env, "/chain/pool.journal"));
    log = bytes_of(env, "/chain/blocks/000001.log");
  }
};

std::string framed(const std::vector<Framed>& records) {
  std::string out;
  for (const Framed& r : records) frame_record(r.tag, r.payload, out);
  return out;
}

// Sums are made right again most of the time: what is behind them is meant.
std::string mutated(const std::vector<Framed>& records, Mutator& m) {
  std::vector<Framed> some = records;
  Framed& one = some[m.below(some.size())];
  switch (m.below(8)) {
    case 0: one.tag = m.below(6); break;
    case 1: some.erase(some.begin() + static_cast<ptrdiff_t>(m.below(some.size()))); break;
    case 2: {
      const Framed copy = some[m.below(some.size())];
      some.insert(some.begin() + static_cast<ptrdiff_t>(m.below(some.size() + 1)), copy);
      break;
    }
    default: one.payload = m.mutate(one.payload, records[m.below(records.size())].payload);
  }
  std::string out = framed(some);
  if (m.below(8) == 0) {
    const Bytes raw = m.mutate(as_bytes(out), as_bytes(out));
    out.assign(as_chars(raw));
  }
  return out;
}

bool try_snapshot(const World& w, std::string_view file) {
  FaultEnv env;
  put_file(env, "/file", file);
  Chain::Options o = options_on(env, w.genesis);
  o.snapshot = "/file";
  std::unique_ptr<Chain> chain;
  if (Chain::open(std::move(o), chain)) return false;
  if (chain->recompute_state_root() != chain->head()->state->root()) broken("snapshot", as_bytes(file));
  return true;
}

bool try_journal(std::string_view file) {
  FaultEnv env;
  put_file(env, "/pool.journal", file);
  std::vector<Journal::Record> records;
  std::unique_ptr<Journal> journal;
  std::string message;
  if (!Journal::open(&env, "", true, records, journal, message)) return false;
  for (const auto& r : records) (void)try_tx(r.raw);
  return !records.empty();
}

bool try_log(std::string_view file, const BlockLog::Place& place, uint64_t height) {
  FaultEnv env;
  put_file(env, "/blocks/000001.log", file);
  std::unique_ptr<BlockLog> log;
  std::string message;
  if (BlockLog::open(&env, "/blocks", 64 << 10, true, place, log, message) != BlockLog::Error::none) return false;
  Bytes payload;
  if (log->read(place, height, payload, message) != BlockLog::Error::none) return false;
  return try_record(payload);
}

// ---- the loop

struct Target {
  std::string name;
  Seeds seeds;
  std::function<bool(ByteView)> run;
  uint64_t weight = 8;
  uint64_t inputs = 0, accepted = 0;
};

std::map<std::string, Seeds> read_corpus(const char* path) {
  std::map<std::string, Seeds> out;
  FILE* f = std::fopen(path, "rb");
  if (f == nullptr) return out;
  const auto part = [f](std::string& to) {
    uint8_t head[4];
    if (std::fread(head, 1, 4, f) != 4) return false;
    const size_t n = head[0] | size_t{head[1]} << 8 | size_t{head[2]} << 16;
    to.assign(n, '\0');
    return head[3] == 0 && std::fread(to.data(), 1, n, f) == n;
  };
  std::string kind, seed;
  while (part(kind) && part(seed)) out[kind].emplace_back(seed.begin(), seed.end());
  std::fclose(f);
  return out;
}

trie::Branch branch_seed(uint8_t shape) {
  trie::Branch b;
  for (uint8_t i = 0; i < 16; ++i) {
    if (i % (1 + shape % 4) != 0) continue;
    b.kind[i] = (i + shape) % 3 == 0 ? trie::Kind::branch : trie::Kind::leaf;
    b.ref[i].len = (i + shape) % 5 == 0 ? 7 : 32;
    std::memset(b.ref[i].b, i + shape, sizeof b.ref[i].b);
    if (b.kind[i] == trie::Kind::branch && shape % 2 == 0) b.ext[i].assign(1 + i, 5);
  }
  return b;
}

std::vector<Target> make_targets(const std::map<std::string, Seeds>& corpus, const World& world, Mutator& mutator) {
  std::vector<Target> out;
  const auto from_corpus = [&](const char* kind, std::function<bool(ByteView)> run) {
    const auto at = corpus.find(kind);
    if (at != corpus.end()) out.push_back({kind, at->second, std::move(run)});
  };
  from_corpus("tx", try_tx);
  from_corpus("block", try_block);
  from_corpus("header", try_header);
  from_corpus("genesis", try_genesis);
  Seeds rlp;
  for (const auto& [kind, seeds] : corpus)
    if (kind == "tx" || kind == "block") rlp.insert(rlp.end(), seeds.begin(), seeds.end());
  out.push_back({"rlp", rlp, try_rlp});
  out.push_back({"record", world.records, try_record});
  Seeds accounts, slots, branches, stubs;
  for (uint8_t i = 0; i < 16; ++i) {
    db::Record r;
    r.data.nonce = uint64_t{1} << (4 * i);
    r.data.balance = U256(i, 0, i % 3, i % 2);
    if (i % 2 == 0) r.data.code_hash.b[3] = i;
    if (i % 3 == 0) r.storage_root.b[5] = i;
    const std::string text = db::encode_account(r), slot = db::encode_slot(r.data.balance);
    accounts.emplace_back(text.begin(), text.end());
    slots.emplace_back(slot.begin(), slot.end());
    std::string node;
    trie::encode_branch(branch_seed(i), node);
    branches.emplace_back(node.begin(), node.end());
    trie::Stub stub;
    stub.kind = i % 2 == 0 ? trie::Kind::leaf : trie::Kind::branch;
    stub.ext.assign(i, i);
    trie::encode_stub(stub, node);
    stubs.emplace_back(node.begin(), node.end());
  }
  out.push_back({"account", accounts, try_account});
  out.push_back({"slot", slots, try_slot, 2});
  out.push_back({"branch", branches, try_branch});
  out.push_back({"stub", stubs, try_stub, 2});
  for (const auto& [kind, seeds] : corpus) {
    if (kind[0] != 'p') continue;
    const auto number = static_cast<unsigned>(std::atoi(kind.c_str() + 1));
    out.push_back({kind, seeds, [number](ByteView in) { return try_precompile(number, in); }, 1});
  }
  // Whole files are made from their records; the mutated bytes are only a source of chance.
  const Seeds one{Bytes(1)};
  out.push_back({"snapshot", one, [&](ByteView) { return try_snapshot(world, mutated(world.snapshot, mutator)); }, 1});
  out.push_back({"journal", one, [&](ByteView) { return try_journal(mutated(world.journal, mutator)); }, 2});
  out.push_back({"block log", one, [&](ByteView) {
                   const std::vector<Framed> all = take_apart(world.log);
                   const uint64_t pick = mutator.below(all.size());
                   BlockLog::Place place{1, static_cast<uint32_t>(all[pick].payload.size()), 0};
                   for (uint64_t i = 0; i < pick; ++i) place.offset += kRecordHead + all[i].payload.size();
                   if (mutator.below(4) == 0) place.length = static_cast<uint32_t>(mutator.below(2) == 0 ? ~0u : mutator.below(5'000));
                   if (mutator.below(8) == 0) place.offset = mutator.below(2) == 0 ? ~uint64_t{0} - mutator.below(40) : mutator.below(5'000);
                   return try_log(mutated(all, mutator), place, all[pick].tag);
                 }, 2});
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: exec_fuzz CORPUS SECONDS SEED [ITERATIONS]\n");
    return 2;
  }
  const double seconds = std::atof(argv[2]);
  const uint64_t seed = std::strtoull(argv[3], nullptr, 0), iterations = argc > 4 ? std::strtoull(argv[4], nullptr, 0) : ~uint64_t{0};
  const auto corpus = read_corpus(argv[1]);
  if (corpus.empty()) {
    std::fprintf(stderr, "exec_fuzz: the corpus '%s' does not read\n", argv[1]);
    return 2;
  }
  Mutator mutator(seed);
  const World world;
  auto targets = make_targets(corpus, world, mutator);
  // Every seed itself first; those of accepted kinds must be accepted.
  for (Target& t : targets)
    for (const Bytes& s : t.seeds) t.accepted += t.run(s), ++t.inputs;
  if (!try_snapshot(world, framed(world.snapshot)) || !try_journal(framed(world.journal))) broken("seed", {});
  // A record that comes twice once wrote beyond a path of the trie.
  for (size_t i = 0; i < world.snapshot.size(); ++i) {
    std::vector<Framed> twice = world.snapshot;
    twice.insert(twice.begin() + static_cast<ptrdiff_t>(i), world.snapshot[i]);
    if (try_snapshot(world, framed(twice))) broken("snapshot with a record twice", world.snapshot[i].payload);
  }
  std::vector<size_t> wheel;
  for (size_t i = 0; i < targets.size(); ++i) wheel.insert(wheel.end(), targets[i].weight, i);
  const auto start = std::chrono::steady_clock::now();
  uint64_t total = 0;
  for (; total < iterations; ++total) {
    if (total % 64 == 0 && std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() > seconds) break;
    Target& t = targets[wheel[mutator.below(wheel.size())]];
    const Bytes input = mutator.mutate(t.seeds[mutator.below(t.seeds.size())], t.seeds[mutator.below(t.seeds.size())]);
    t.accepted += t.run(input);
    ++t.inputs;
  }
  for (const Target& t : targets)
    std::printf("%-10s %10llu inputs %10llu accepted\n", t.name.c_str(), static_cast<unsigned long long>(t.inputs), static_cast<unsigned long long>(t.accepted));
  std::printf("seed %llu: %llu mutated inputs, 0 faults\n", static_cast<unsigned long long>(seed), static_cast<unsigned long long>(total));
  return 0;
}
