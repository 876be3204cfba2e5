// The tracers one by one; for the files of this folder.
#pragma once

#include <initializer_list>
#include <vector>

#include "trace/tracer.h"

namespace zg {

// Flags of a configuration; each tracer names those it has.
class TraceFlags {
 public:
  explicit TraceFlags(std::string_view config);
  [[nodiscard]] bool has(std::string_view flag) const noexcept;
  // Of "name=N"; 0 when absent or no number.
  [[nodiscard]] uint64_t number(std::string_view name) const noexcept;
  // Nothing but these (numbers by their name).
  [[nodiscard]] bool only(std::initializer_list<std::string_view> known) const noexcept;

 private:
  std::vector<std::string_view> flags_;
};

std::unique_ptr<JsonTracer> make_struct_logger(const TraceFlags& flags);
std::unique_ptr<JsonTracer> make_call_tracer(const TraceFlags& flags);
std::unique_ptr<JsonTracer> make_flat_call_tracer(const TraceFlags& flags);
std::unique_ptr<JsonTracer> make_prestate_tracer(const TraceFlags& flags);
std::unique_ptr<JsonTracer> make_four_byte_tracer();
std::unique_ptr<JsonTracer> make_noop_tracer();

}  // namespace zg
