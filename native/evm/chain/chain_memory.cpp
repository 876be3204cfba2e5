// Where the chain's memory is: every structure that grows with blocks or transactions, so that a slope has a name.
//
//   bounded by the cache setting     accounts, slots, nodes, tableBlocks, tableWrites
//   bounded by themselves            dirty nodes (12 MiB), blocks (16 MiB), codes (64 MiB), senders (32,768), the pool by its limits
//   by the open files                index and filter of each table of the database, about 3 % of it: 500 tables of 8 MiB at most
#include "chain/chain_impl.h"
#include "db/pread_env.h"
#include "vm/code.h"
#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace zg {

std::vector<std::pair<std::string, double>> ChainImpl::memory() {
  const auto n = [](size_t x) { return static_cast<double>(x); };
  const StateStore::Memory state = store_->memory();
  const KvStore::Memory kv = kv_->memory();
  size_t kept = 0;
  {
    const std::lock_guard lock(kept_mutex_);
    kept = kept_.size();
  }
  std::vector<std::pair<std::string, double>> out = {
      {"memAccounts", n(state.accounts)}, {"memSlots", n(state.slots)},       {"memNodes", n(state.nodes)},
      {"memDirtyNodes", n(state.dirty)},  {"memTableBlocks", n(kv.blocks)},   {"memTableWrites", n(kv.writes)},
      {"memBlocks", n(cache_.bytes())},   {"memCodes", n(CodeCache::instance().bytes())},
      {"cachedSenders", n(senders_.count())}, {"keptBlocks", n(kept)},        {"openTables", n(open_pread_files())}};
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 33)
  // The whole process, V8's heap not: it maps its own. `free` is what was given back to the allocator and not to the system.
  const struct mallinfo2 m = mallinfo2();
  out.emplace_back("mallocArenas", n(m.arena));
  out.emplace_back("mallocMapped", n(m.hblkhd));
  out.emplace_back("mallocUsed", n(m.uordblks));
  out.emplace_back("mallocFree", n(m.fordblks));
#endif
  return out;
}

}  // namespace zg
