// Whole ranges of an older state: what is there now and what history remembers, merged by key.
#include <algorithm>

#include "db/state_core.h"

namespace zg::db {

void HistoryView::each_key(const std::string& prefix, const Hash& start, const std::function<bool(const Hash&, std::string_view)>& fn) const {
  const auto now = core_->kv.iterator(head_->snapshot.get(), false), past = core_->kv.iterator(head_->snapshot.get(), false);
  const std::string past_prefix = "h" + prefix;
  const auto key_of = [&prefix](const Hash& h) {
    std::string k = prefix;
    append(k, h);
    return k;
  };
  const size_t size = prefix.size() + 32, past_size = 1 + size + 8;
  now->seek(key_of(start));
  past->seek(history_key(key_of(start), 0));
  std::string value;
  for (;;) {
    const bool has_now = now->valid() && now->key().size() == size && now->key().starts_with(prefix);
    const bool has_past = past->valid() && past->key().size() == past_size && past->key().starts_with(past_prefix);
    if (!has_now && !has_past) return;
    const Hash a = has_now ? hash_at(now->key(), prefix.size()) : Hash{}, b = has_past ? hash_at(past->key(), past_prefix.size()) : Hash{};
    const Hash h = !has_past || (has_now && a < b) ? a : b;
    const bool is_now = has_now && a == h;
    value.clear();
    if (is_now) value.assign(now->value());
    if (has_past && b == h) {
      // The first change behind the version says what was there; then on to the next key.
      const std::string key = key_of(h);
      const auto same = [&] { return past->valid() && past->key().size() == past_size && past->key().substr(1, size) == key; };
      past->seek(history_key(key, version_ + 1));
      if (same()) value.assign(past->value());
      past->seek(history_key(key, ~uint64_t{0}));
      if (same()) past->next();
    }
    if (is_now) now->next();
    if (!value.empty() && !fn(h, value)) return;
  }
}

bool HistoryView::each_account(const Hash& start, const std::function<bool(const Hash&, const Bytes&, const AccountData&)>& fn) const {
  std::string preimage;
  each_key("a", start, [&](const Hash& h, std::string_view value) {
    Record r;
    if (!decode_account(value, r)) fatal("an account's record is damaged");
    if (!core_->kv.get(key1('p', h), preimage, head_->snapshot.get())) preimage.clear();
    return fn(h, Bytes(preimage.begin(), preimage.end()), r.data);
  });
  return true;
}

bool HistoryView::each_slot(const Address& address, const Hash& start, const std::function<bool(const Hash&, const Bytes&, const U256&)>& fn) const {
  std::string preimage;
  each_key(key1('s', keccak(address)), start, [&](const Hash& h, std::string_view value) {
    U256 x;
    if (!decode_slot(value, x)) fatal("a slot's record is damaged");
    if (!core_->kv.get(key1('p', h), preimage, head_->snapshot.get())) preimage.clear();
    return fn(h, Bytes(preimage.begin(), preimage.end()), x);
  });
  return true;
}

}  // namespace zg::db
