#!/bin/sh
# Builds one of the chain's programs of this folder to build/chain/NAME: sh native/evm/test/chain_build.sh NAME [more compiler flags].
# ZG_BUILD_AS=OTHER names the program otherwise. Run from the root, after scripts/build-native.mjs has made the static libraries.
set -e
name=$1
shift
mkdir -p build/chain
level=$(node -p "require('path').dirname(require.resolve('classic-level/package.json'))")/deps/leveldb/leveldb-1.20
# shellcheck disable=SC2086
g++ -std=c++20 -O2 -g -fno-exceptions -fno-rtti -Wall -Wextra -pthread -Inative/evm -Inative/codec -I"$level" -I"$level/include" "$@" \
  native/evm/test/"$name".cpp native/evm/test/fault_env.cpp build/Release/evm_core.a build/Release/secp256k1.a build/Release/blst.a \
  build/Release/leveldb.a build/Release/leveldb_crc.a -lpthread -o build/chain/"${ZG_BUILD_AS:-$name}"
