#!/bin/sh
# Builds one of this folder's store programs to build/store/NAME: sh native/evm/test/store_build.sh NAME [more compiler flags].
# Run from the root, after scripts/build-native.mjs has made the static libraries.
set -e
name=$1
shift
out=${ZG_STORE_OUT:-build/store}
mkdir -p "$out"
level=$(node -p "require('path').dirname(require.resolve('classic-level/package.json'))")/deps/leveldb/leveldb-1.20
flags="-std=c++20 -O2 -g -fno-exceptions -fno-rtti -Wall -Wextra -pthread -Inative/evm -Inative/codec -I$level/include -I$level $*"
sources="native/evm/base/types.cpp native/evm/base/keccak_batch.cpp native/evm/base/keccak_batch_avx2.cpp native/evm/base/keccak_batch_avx512.cpp
native/evm/vm/code.cpp native/codec/cpu.cpp native/codec/keccak_avx2.cpp native/codec/keccak_avx512.cpp native/codec/keccak_avx512vl.cpp
native/codec/keccak_one.cpp native/codec/keccak_scalar.cpp native/evm/crypto/parallel.cpp"
for f in native/evm/trie/*.cpp native/evm/db/*.cpp native/evm/test/fault_env.cpp; do [ -f "$f" ] && sources="$sources $f"; done
objects=
for f in $sources native/evm/test/$name.cpp; do
  o=$out/$(echo "$f" | tr / _).o
  objects="$objects $o"
  # Headers change rarely and matter everywhere: any newer one rebuilds.
  if [ ! -f "$o" ] || [ "$f" -nt "$o" ] || [ -n "$(find native/evm/db native/evm/trie native/evm/base native/evm/test native/evm/state -name '*.h' -newer "$o" -print -quit)" ]; then
    # shellcheck disable=SC2086
    g++ $flags -c "$f" -o "$o"
  fi
done
# shellcheck disable=SC2086
g++ $flags -o "$out/$name" $objects build/Release/leveldb.a build/Release/leveldb_crc.a -lpthread
