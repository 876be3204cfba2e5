// A state in one file, for a node that begins from it (`zg-chain snapshot`).
//
//   records (files.h) by tag   1  [format, chain id, genesis hash, identity, state root, block record, [[number, hash]…]]
//                              2  account [address, nonce, balance, code]      3  slots of the account before [[slot, value]…]
//                              4  end [accounts, slots]
//
// Every record has a sum, and the state's root must come out as the block says: a damaged or forged file is refused. Who loads a file trusts whoever named its
// block, as with any snapshot.
#pragma once

#include <functional>
#include <string>

#include "chain/index.h"

namespace zg::snapshot {

struct Head {
  index::MetaEntry meta;
  Hash state_root{};
  StoredBlock block;
  std::vector<std::pair<uint64_t, Hash>> hashes;
};

// Empty: written and synced. The file must not exist.
std::string save(leveldb::Env* env, const std::string& path, const Head& head, const StateView& state, const std::function<bool()>& go_on);

// Calls `begin` once, then `change` with parts of the state (accounts that did not exist, and more slots of the last one). Each answers what is wrong, or
// nothing.
std::string load(leveldb::Env* env, const std::string& path, const std::function<std::string(Head&&)>& begin,
                 const std::function<std::string(StateDiff&&)>& change);

}  // namespace zg::snapshot
