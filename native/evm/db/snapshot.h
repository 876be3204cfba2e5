// The whole state in one file, for fast starts: `zg-chain snapshot save|load`.
//
//   "zg snapshot 1\n", then chunks: u8 kind, u32 LE size, payload, 8 bytes of checksum
//   H  root (32), header bytes          the first chunk
//   K  entries of accounts, slots and codes: varint key size, key, varint value size, value (records.h)
//   E  u64 LE number of entries         the last; nothing follows
//
// A checksum is keccak over the one before, kind, size and payload, cut to 8 bytes: no chunk can be damaged, missing, doubled or moved.
// The tries are not in the file: they are rebuilt, and their root must be the stated one.
#pragma once

#include <string>

#include "db/state_store.h"

namespace zg {

// Writes what `view` (a head of its store) holds to `path`, by way of `path`.part; synced before it takes its name.
bool save_snapshot(KvStore& kv, const StateView& view, ByteView header, const std::string& path, std::string& message);

struct LoadedSnapshot {
  Bytes header;
  Hash root{};
  uint64_t accounts = 0, slots = 0, codes = 0;
};
// Fills an empty store, whose version is 1 then and whose past begins there. False: damaged, or the store is not empty; the store
// has no head then and what it holds is to be thrown away.
bool load_snapshot(const std::string& path, KvStore& kv, LoadedSnapshot& out, std::string& message);

}  // namespace zg
