// LevelDB's environment of this system, except that tables are read by system calls into the bounded block cache instead of being mapped.
//
// Mapped tables count as memory of the process as soon as they are touched, and nothing in the process bounds them: with a million accounts
// they were 100 MB of what `ps` shows. The kernel's page cache holds the same pages either way.
#pragma once

#include <cstddef>

namespace leveldb {
class Env;
}

namespace zg {

// One for the process, never deleted; thread safe as every environment.
leveldb::Env* pread_env();
// Files open for reading through it, in the whole process: tables of databases, segments of block logs.
size_t open_pread_files();

// Whether an environment works on the files of this system, so that locks and syncs of directories mean something; a simulated disk does not.
bool on_real_files(const leveldb::Env* env);

}  // namespace zg
