#include "vm/revision.h"

namespace zg {
namespace {

struct Name {
  std::string_view name;
  Revision revision;
};
// The first name of a revision is the one it prints with.
constexpr Name kNames[] = {
    {"Frontier", Revision::frontier},
    {"Homestead", Revision::homestead},
    {"EIP150", Revision::tangerine_whistle},
    {"TangerineWhistle", Revision::tangerine_whistle},
    {"EIP158", Revision::spurious_dragon},
    {"SpuriousDragon", Revision::spurious_dragon},
    {"Byzantium", Revision::byzantium},
    {"Constantinople", Revision::constantinople},
    {"ConstantinopleFix", Revision::petersburg},
    {"Petersburg", Revision::petersburg},
    {"Istanbul", Revision::istanbul},
    {"Berlin", Revision::berlin},
    {"London", Revision::london},
    {"Paris", Revision::paris},
    {"Merge", Revision::paris},
    {"Shanghai", Revision::shanghai},
    {"Cancun", Revision::cancun},
    {"Prague", Revision::prague},
    {"Osaka", Revision::osaka},
};

}  // namespace

std::optional<Revision> revision_named(std::string_view name) noexcept {
  for (const Name& n : kNames)
    if (n.name == name) return n.revision;
  return std::nullopt;
}

std::string_view name_of(Revision r) noexcept {
  for (const Name& n : kNames)
    if (n.revision == r) return n.name;
  return "?";
}

}  // namespace zg
