// Roots of whole tries for store_trie.mjs: lines "key value" in hex (sorted here), an empty line ends a trie; prints its root.
// Build: native/evm/test/store_build.sh store_trie
#include <iostream>

#include "test/store_env.h"

int main() {
  const auto bytes = [](const std::string& hex) {
    zg::Bytes b;
    for (size_t i = 0; i + 1 < hex.size(); i += 2) b.push_back(static_cast<uint8_t>(std::stoul(hex.substr(i, 2), nullptr, 16)));
    return b;
  };
  std::map<zg::Bytes, zg::Bytes> pairs;
  std::string line;
  while (std::getline(std::cin, line)) {
    if (line.empty()) {
      const std::vector<std::pair<zg::Bytes, zg::Bytes>> sorted(pairs.begin(), pairs.end());
      const zg::Hash root = zg::trie_root(sorted);
      std::cout << zg::to_hex(root) << "\n";
      pairs.clear();
      continue;
    }
    const size_t space = line.find(' ');
    pairs[bytes(line.substr(0, space))] = bytes(line.substr(space + 1));
  }
}
