#include "chain/snapshot.h"

#include <algorithm>
#include <memory>

#include "base/rlp.h"
#include "chain/chain_impl.h"
#include "chain/files.h"
#include "chain/records.h"
#include "leveldb/env.h"

namespace zg {

namespace snapshot {

namespace {

constexpr uint64_t kFormat = 1;
constexpr uint64_t kHead = 1, kAccount = 2, kSlots = 3, kEnd = 4;
constexpr size_t kSlotsARecord = 10'000;
constexpr size_t kChangesADiff = 50'000;
constexpr size_t kHashesMax = 256;
constexpr size_t kRecordMax = 64u << 20;

class Out {
 public:
  explicit Out(leveldb::WritableFile* file) : file_(file) {}
  bool put(uint64_t tag, ByteView payload) {
    buffer_.clear();
    frame_record(tag, payload, buffer_);
    if (status.ok()) status = file_->Append(buffer_);
    return status.ok();
  }
  leveldb::Status status;

 private:
  leveldb::WritableFile* file_;
  std::string buffer_;
};

Bytes encode_head(const Head& head) {
  rlp::Writer w;
  const size_t at = w.open();
  w.u64(kFormat);
  w.u256(head.meta.chain_id);
  w.hash(head.meta.genesis_hash);
  w.hash(head.meta.identity);
  w.hash(head.state_root);
  w.bytes(encode_record(head.block, false));
  const size_t list = w.open();
  for (const auto& [number, hash] : head.hashes) {
    const size_t item = w.open();
    w.u64(number);
    w.hash(hash);
    w.close(item);
  }
  w.close(list);
  w.close(at);
  return std::move(w.out);
}

bool decode_head(ByteView in, Head& out) {
  rlp::Reader r(rlp::single(in));
  if (r.u64() != kFormat) return false;
  out.meta.chain_id = r.u256();
  out.meta.genesis_hash = r.hash();
  out.meta.identity = r.hash();
  out.state_root = r.hash();
  const ByteView record = r.bytes();
  rlp::Reader list = r.list();
  while (list.ok() && !list.empty()) {
    rlp::Reader item = list.list();
    const uint64_t number = item.u64();
    const Hash hash = item.hash();
    if (!item.done() || out.hashes.size() >= kHashesMax) return false;
    out.hashes.emplace_back(number, hash);
  }
  return list.done() && r.done() && decode_record(record, out.block);
}

}  // namespace

std::string save(leveldb::Env* env, const std::string& path, const Head& head, const StateView& state, const std::function<bool()>& go_on) {
  if (env->FileExists(path)) return "the file '" + path + "' is there already";
  leveldb::WritableFile* file = nullptr;
  if (const leveldb::Status s = env->NewWritableFile(path, &file); !s.ok()) return s.ToString();
  const std::unique_ptr<leveldb::WritableFile> owner(file);
  Out out(file);
  std::string wrong;
  uint64_t accounts = 0, slots = 0;
  bool ok = out.put(kHead, encode_head(head));
  const auto write_slots = [&](const Address& address) {
    rlp::Writer w;
    size_t at = w.open(), count = 0;
    const auto flush = [&] {
      w.close(at);
      ok = ok && out.put(kSlots, w.out);
      w.out.clear();
      at = w.open();
      count = 0;
    };
    state.each_slot(address, Hash{}, [&](const Hash& hash, const Bytes& preimage, const U256& value) {
      if (preimage.size() != 32) {
        wrong = "the slot with hash " + to_hex(hash) + " is not known by its number";
        return false;
      }
      const size_t item = w.open();
      w.u256(U256::from_be(preimage.data()));
      w.u256(value);
      w.close(item);
      ++slots;
      if (++count == kSlotsARecord) flush();
      return ok;
    });
    if (count > 0) flush();
  };
  state.each_account(Hash{}, [&](const Hash& hash, const Bytes& preimage, const AccountData& account) {
    if (!go_on()) wrong = "stopped";
    if (preimage.size() != 20) wrong = "the account with hash " + to_hex(hash) + " is not known by its address";
    if (!wrong.empty()) return false;
    rlp::Writer w;
    const size_t at = w.open();
    w.bytes(preimage);
    w.u64(account.nonce);
    w.u256(account.balance);
    w.bytes(account.code_hash == empty_code_hash() ? ByteView{} : state.code(account.code_hash)->bytes());
    w.close(at);
    ok = out.put(kAccount, w.out);
    ++accounts;
    if (ok) write_slots(Address::from(preimage.data()));
    return ok && wrong.empty();
  });
  if (wrong.empty() && ok) {
    rlp::Writer w;
    const size_t at = w.open();
    w.u64(accounts);
    w.u64(slots);
    w.close(at);
    ok = out.put(kEnd, w.out);
    if (ok) out.status = file->Sync();
    if (out.status.ok()) out.status = file->Close();
  }
  if (wrong.empty() && !out.status.ok()) wrong = out.status.ToString();
  if (!wrong.empty()) (void)env->DeleteFile(path);  // half a file is of no use
  return wrong;
}

std::string load(leveldb::Env* env, const std::string& path, const std::function<std::string(Head&&)>& begin,
                 const std::function<std::string(StateDiff&&)>& change) {
  leveldb::SequentialFile* file = nullptr;
  if (const leveldb::Status s = env->NewSequentialFile(path, &file); !s.ok()) return s.ToString();
  const std::unique_ptr<leveldb::SequentialFile> owner(file);
  const auto damaged = [&](const char* what) { return "snapshot '" + path + "': " + what; };
  std::string scratch;
  const auto read = [&](size_t n, leveldb::Slice& got) {
    scratch.resize(std::max(scratch.size(), n));
    return file->Read(n, &got, scratch.data()).ok() && got.size() == n;
  };
  StateDiff diff;
  size_t changes = 0;
  uint64_t accounts = 0, slots = 0;
  // save() writes by hashed key. What comes twice must not reach the tries, which take every key once.
  Hash last_account{}, last_slot{};
  const auto follows = [](Hash& last, const Hash& now) {
    const bool ok = last < now;
    last = now;
    return ok;
  };
  const auto flush = [&]() -> std::string {
    if (diff.accounts.empty()) return {};
    // The last account may go on in the next part, and exists then.
    AccountChange last = diff.accounts.back();
    last.existed = true;
    last.before = last.after;
    last.slots.clear();
    std::sort(diff.accounts.begin(), diff.accounts.end(), [](const auto& a, const auto& b) { return a.address < b.address; });
    for (AccountChange& a : diff.accounts) std::sort(a.slots.begin(), a.slots.end(), [](const auto& x, const auto& y) { return x.slot < y.slot; });
    // One that nothing came behind has nothing to say.
    std::erase_if(diff.accounts, [](const AccountChange& a) { return a.existed && a.slots.empty(); });
    std::string wrong = diff.accounts.empty() ? std::string{} : change(std::move(diff));
    diff = {};
    diff.accounts.push_back(std::move(last));
    changes = 0;
    return wrong;
  };
  for (bool first = true;; first = false) {
    leveldb::Slice got;
    if (!read(kRecordHead, got)) return damaged("it ends early");
    const RecordHead head = read_record_head(reinterpret_cast<const uint8_t*>(got.data()));
    if (head.length > kRecordMax || !read(head.length, got)) return damaged("it ends early");
    const ByteView payload{reinterpret_cast<const uint8_t*>(got.data()), got.size()};
    if (!record_is_sound(head, payload)) return damaged("a sum is wrong");
    if (first != (head.tag == kHead)) return damaged("it does not begin with its head");
    rlp::Reader r(rlp::single(payload));
    if (head.tag == kHead) {
      Head h;
      if (!decode_head(payload, h)) return damaged("its head is malformed, or of a newer version");
      if (std::string wrong = begin(std::move(h)); !wrong.empty()) return wrong;
    } else if (head.tag == kAccount) {
      AccountChange a;
      a.address = r.address();
      a.exists = true;
      a.after.nonce = r.u64();
      a.after.balance = r.u256();
      const ByteView code = r.bytes();
      if (!r.done()) return damaged("an account is malformed");
      if (!follows(last_account, keccak(a.address))) return damaged("its accounts are out of order");
      last_slot = {};
      if (!code.empty()) {
        auto made = Code::make(Bytes(code.begin(), code.end()));
        a.after.code_hash = made->hash();
        diff.codes.push_back(std::move(made));
      }
      ++accounts;
      ++changes;
      diff.accounts.push_back(std::move(a));
    } else if (head.tag == kSlots) {
      if (diff.accounts.empty()) return damaged("slots without an account");
      while (r.ok() && !r.empty()) {
        rlp::Reader item = r.list();
        const U256 slot = item.u256(), value = item.u256();
        if (!item.done() || value.is_zero()) return damaged("a slot is malformed");
        if (!follows(last_slot, keccak(slot.be()))) return damaged("the slots of an account are out of order");
        diff.accounts.back().slots.push_back({slot, U256{}, value});
        ++slots;
        ++changes;
      }
      if (!r.done()) return damaged("slots are malformed");
    } else if (head.tag == kEnd) {
      if (r.u64() != accounts || r.u64() != slots || !r.done()) return damaged("accounts or slots are missing");
      if (read(1, got)) return damaged("something stands behind its end");
      return flush();
    } else {
      return damaged("a record of an unknown kind");
    }
    if (changes >= kChangesADiff)
      if (std::string wrong = flush(); !wrong.empty()) return wrong;
  }
}

}  // namespace snapshot

Failure ChainImpl::save_snapshot(const std::string& path) {
  const auto now = head();
  snapshot::Head h;
  if (index::read_meta(*kv_, h.meta) != index::Found::yes) return {ChainError::corrupt, "the directory's own record is damaged"};
  std::shared_ptr<const StoredBlock> block;
  if (Failure f = read(now->header.number, block)) return f;
  h.block = *block;
  h.state_root = now->state->root();
  for (uint64_t back = 1; back < 256 && back <= now->header.number; ++back)
    h.hashes.emplace_back(now->header.number - back, block_hash(now->header.number - back));
  const std::string wrong =
      snapshot::save(options_.kv.env, path, h, *now->state, [this] { return !is_stopped_.load(std::memory_order_relaxed); });
  return wrong.empty() ? Failure{} : Failure{ChainError::io, wrong};
}

Failure ChainImpl::load_snapshot() {
  snapshot::Head head;
  Failure failure;
  std::string message;
  const auto begin = [&](snapshot::Head&& h) -> std::string {
    if (failure = check_meta(h.meta, identity()); failure) return failure.message;
    head = std::move(h);
    return {};
  };
  const auto change = [&](StateDiff&& diff) -> std::string {
    const auto layer = store_->apply(store_->head(), std::move(diff));
    const auto batch = kv_->batch();
    store_->prepare(*layer, *batch);
    if (!kv_->write(*batch, false, message)) return message;
    store_->committed(layer);
    return {};
  };
  const std::string wrong = snapshot::load(options_.kv.env, options_.snapshot, begin, change);
  if (failure) return failure;
  if (!wrong.empty()) return {ChainError::corrupt, wrong};
  if (store_->head()->root() != head.state_root)
    return {ChainError::corrupt, "snapshot '" + options_.snapshot + "': its state has root " + to_hex(store_->head()->root()) + ", not " +
                                     to_hex(head.state_root) + " as it says"};
  if (BlockLog::open(options_.kv.env, options_.dir + "/blocks", options_.log_segment_bytes, options_.sync, std::nullopt, log_, message) !=
      BlockLog::Error::none)
    return {ChainError::corrupt, message};
  const Header& h = head.block.block.header;
  index::BlockEntry entry{{}, store_->head()->version(), head.block.block.hash};
  if (!log_->append(h.number, encode_record(head.block, false), entry.place, message) || !log_->sync(message)) return {ChainError::io, message};
  const auto batch = kv_->batch();
  for (const auto& [number, hash] : head.hashes) index::put_hash_only(*batch, number, hash);
  index::put_block(*batch, head.block, entry);
  index::put_head(*batch, {h.number, head.block.block.hash, entry.version, head.state_root});
  index::put_meta(*batch, head.meta);
  if (!kv_->write(*batch, options_.sync, message)) return {ChainError::io, message};
  genesis_hash_ = head.meta.genesis_hash;
  return {};
}

}  // namespace zg
