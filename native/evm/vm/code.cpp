#include "vm/code.h"

#include <list>
#include <mutex>
#include <unordered_map>

namespace zg {
namespace {

constexpr size_t kPadding = 33;
constexpr uint8_t kJumpdest = 0x5b, kPush1 = 0x60, kPush32 = 0x7f;

// What one cached code costs: its bytes, its bitmap, and the objects around them.
size_t weight(const Code& code) noexcept { return code.size() + code.size() / 8 + 256; }

// One of several parts, each with its lock, so that threads seldom meet. The oldest unused codes go first.
struct Shard {
  struct Entry {
    std::shared_ptr<const Code> code;
  };
  std::mutex lock;
  std::list<Entry> order;  // last used first
  std::unordered_map<Hash, std::list<Entry>::iterator, HashHasher> by_hash;
  size_t bytes = 0;
};
constexpr size_t kShards = 16;
constexpr size_t kCacheBytes = size_t{64} << 20;
constexpr size_t kShardBytes = kCacheBytes / kShards;

Shard* all_shards() {
  static Shard shards[kShards];
  return shards;
}
Shard& shard_of(const Hash& hash) { return all_shards()[hash.b[31] % kShards]; }

}  // namespace

std::shared_ptr<const Code> Code::make(Bytes bytes, const Hash& hash) {
  auto code = std::make_shared<Code>();
  code->size_ = bytes.size();
  code->hash_ = hash;
  code->padded_ = std::move(bytes);
  code->padded_.resize(code->size_ + kPadding, 0);
  code->jumpdests_.assign(code->size_ / 64 + 1, 0);
  const uint8_t* p = code->padded_.data();
  uint64_t* bits = code->jumpdests_.data();
  for (size_t i = 0, n = code->size_; i < n; ++i) {
    const uint8_t op = p[i];
    if (op == kJumpdest) bits[i >> 6] |= uint64_t{1} << (i & 63);
    else if (op >= kPush1 && op <= kPush32) i += op - kPush1 + 1;
  }
  return code;
}

std::shared_ptr<const Code> Code::make(Bytes bytes) {
  const Hash hash = bytes.empty() ? empty_code_hash() : keccak(bytes);
  return make(std::move(bytes), hash);
}

const std::shared_ptr<const Code>& Code::empty() {
  static const std::shared_ptr<const Code> code = make(Bytes{}, empty_code_hash());
  return code;
}

bool Code::delegation(Address& target) const noexcept {
  if (size_ != 23 || padded_[0] != 0xef || padded_[1] != 0x01 || padded_[2] != 0x00) return false;
  target = Address::from(padded_.data() + 3);
  return true;
}

CodeCache& CodeCache::instance() {
  static CodeCache cache;
  return cache;
}

std::shared_ptr<const Code> CodeCache::find(const Hash& hash) {
  Shard& s = shard_of(hash);
  const std::lock_guard hold(s.lock);
  const auto at = s.by_hash.find(hash);
  if (at == s.by_hash.end()) return nullptr;
  if (at->second != s.order.begin()) s.order.splice(s.order.begin(), s.order, at->second);
  return at->second->code;
}

void CodeCache::add(const std::shared_ptr<const Code>& code) {
  const size_t bytes = weight(*code);
  if (bytes > kShardBytes) return;
  Shard& s = shard_of(code->hash());
  const std::lock_guard hold(s.lock);
  const auto [at, fresh] = s.by_hash.try_emplace(code->hash());
  if (!fresh) return;
  s.order.push_front({code});
  at->second = s.order.begin();
  s.bytes += bytes;
  while (s.bytes > kShardBytes) {
    const auto last = std::prev(s.order.end());
    s.bytes -= weight(*last->code);
    s.by_hash.erase(last->code->hash());
    s.order.erase(last);
  }
}

size_t CodeCache::bytes() {
  size_t sum = 0;
  for (size_t i = 0; i < kShards; i++) {
    const std::lock_guard hold(all_shards()[i].lock);
    sum += all_shards()[i].bytes;
  }
  return sum;
}

}  // namespace zg
