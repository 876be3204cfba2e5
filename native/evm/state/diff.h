// What a block did to the state: the one form that execution hands to storage, tries and history.
#pragma once

#include <memory>
#include <vector>

#include "state/reader.h"

namespace zg {

struct SlotChange {
  U256 slot;
  U256 before;
  U256 after;
};

struct AccountChange {
  Address address;
  bool existed = false;
  AccountData before;
  bool exists = false;
  AccountData after;
  // All slots of before are gone (the account was destroyed, or destroyed and made again); `slots` applies to empty storage then, with
  // `before` of each as it stood at the start.
  bool storage_cleared = false;
  // Sorted by slot; before != after (or the storage was cleared).
  std::vector<SlotChange> slots;
};

struct StateDiff {
  // Sorted by address. Only accounts that differ, or whose slots do.
  std::vector<AccountChange> accounts;
  // Codes that accounts have after and did not have before.
  std::vector<std::shared_ptr<const Code>> codes;
};

}  // namespace zg
