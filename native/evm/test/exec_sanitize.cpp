// Repeats recorded requests of conformance.h and compares the answers byte for byte: under sanitizers, where Node cannot go. The recording comes from
// scripts/sanitize-evm.ts, which checks the same answers against the fixtures with the addon.
//
//   exec_sanitize FILE      records: u32 LE size and bytes of kind, request, answer
//
// Exit status 0: all equal, at least one; 1: an answer differs; 2: the file does not read.
#include <cstdio>
#include <cstring>
#include <string>

#include "exec/conformance.h"

namespace {

bool read_part(FILE* f, zg::Bytes& out, bool& at_end) {
  uint8_t head[4];
  const size_t got = std::fread(head, 1, 4, f);
  at_end = got == 0;
  if (got != 4) return false;
  const size_t n = head[0] | size_t{head[1]} << 8 | size_t{head[2]} << 16 | size_t{head[3]} << 24;
  if (n > (size_t{256} << 20)) return false;
  // A new one each time, exactly as large as its content: a byte too far is found.
  zg::Bytes fresh(n);
  fresh.shrink_to_fit();
  out.swap(fresh);
  return n == 0 || std::fread(out.data(), 1, n, f) == n;
}

}  // namespace

int main(int argc, char** argv) {
  FILE* f = argc == 2 ? std::fopen(argv[1], "rb") : nullptr;
  if (f == nullptr) {
    std::fprintf(stderr, "usage: exec_sanitize FILE\n");
    return 2;
  }
  zg::Bytes kind, request, answer;
  size_t count = 0, differences = 0;
  for (bool at_end = false;;) {
    if (!read_part(f, kind, at_end)) {
      if (at_end) break;
      std::fprintf(stderr, "record %zu does not read\n", count);
      return 2;
    }
    if (!read_part(f, request, at_end) || !read_part(f, answer, at_end)) {
      std::fprintf(stderr, "record %zu does not read\n", count);
      return 2;
    }
    const zg::Bytes got = zg::run_conformance(zg::as_chars(kind), request);
    if (got != answer) {
      std::fprintf(stderr, "record %zu (%.*s) has another answer\n", count, static_cast<int>(kind.size()), reinterpret_cast<const char*>(kind.data()));
      ++differences;
    }
    ++count;
  }
  std::fclose(f);
  std::printf("%zu requests, %zu differences\n", count, differences);
  return differences == 0 && count > 0 ? 0 : 1;
}
