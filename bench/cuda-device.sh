#!/bin/bash
# Builds the CUDA engine and its check program with g++ and nvcc alone (no Node), and runs tests and timings on the device of this machine:
#
#   bench/cuda-device.sh [PRESET…]     presets as npm run bench:cuda has them; default 1b-q8 1b-q4 8b-q4 8b-q8
#
# In this order: build; every type of weights, attention and the scheduler against the CPU, bit for bit; then read bandwidth, decode and prefill,
# also as JSON lines. With ZG_PROFILE=1 each kernel's time by ncu, where that is; with node and an installed package beside it, the addon.
# What it prints goes to $OUT, too, when that is set. Exit status: 0 equal and timed, 1 different or failed, 3 no device or no nvcc.
set -u
cd "$(dirname "$0")/.."
work=${ZG_WORK:-$(mktemp -d)}
out=${OUT:-$work}
command -v nvcc > /dev/null || { echo 'no nvcc'; exit 3; }
started=$SECONDS
say() { echo "[$((SECONDS - started)) s] $*"; }

# C++ sources of targets of binding.gyp, each once.
sources() {
  for target; do
    awk -v want="'target_name': '$target'" '/target_name/ { on = index($0, want) > 0 }
      on && match($0, /native\/[a-z0-9_\/]+\.cpp/) { print substr($0, RSTART, RLENGTH) }' binding.gyp
  done | sort -u
}
host="-std=c++20 -O2 -fno-exceptions -fno-rtti -ffp-contract=off -pthread -fPIC -Inative/infer -Inative/codec"
avx512="-mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mfma -mf16c -mbmi2 -mprefer-vector-width=512 -Wno-uninitialized -Wno-maybe-uninitialized"
cuda="-std=c++20 -O3 --fmad=false -ftz=false -prec-div=true -prec-sqrt=true -Xcompiler=-fPIC,-ffp-contract=off"
gpu="-gencode=arch=compute_90,code=sm_90"
{
  for f in native/infer/cuda/*.cu; do echo "nvcc $cuda $gpu ${ZG_NVCC:-} -c $f -o $work/$(basename "$f").o"; done
  for f in native/infer/cuda/check.cpp $(sources infer_schedule_check infer_det); do
    more=""
    case $f in *det/*) more="-mfma" ;; esac
    echo "g++ $host $more -c $f -o $work/$(echo "$f" | tr / _).o"
  done
  echo "g++ $host -mavx2 -mfma -mf16c -mbmi2 -c native/infer/cpu/avx2.cpp -o $work/avx2.o"
  echo "g++ $host $avx512 -c native/infer/cpu/avx512.cpp -o $work/avx512.o"
} | xargs -P "$(nproc)" -I{} sh -c '{} || echo "FAILED: {}"' > "$out/build.log" 2>&1
nvcc $gpu "$work"/*.o -o "$work/check" -lpthread >> "$out/build.log" 2>&1 || { tail -40 "$out/build.log"; exit 1; }
say built
[ "${1:-}" = build ] && exit 0

status=0
timeout 120 "$work/check" test 2>&1 | tee "$out/test.txt"
[ "${PIPESTATUS[0]}" = 0 ] || status=1
say tested
timeout 200 "$work/check" bench ${*:-1b-q8 1b-q4 8b-q4 8b-q8} 2>&1 | tee "$out/bench.txt"
[ "${PIPESTATUS[0]}" = 0 ] || status=1
say timed
if [ -n "${ZG_PROFILE:-}" ] && command -v ncu > /dev/null; then
  for preset in $ZG_PROFILE; do
    timeout 60 ncu --clock-control none --csv --metrics gpu__time_duration.sum,dram__bytes_read.sum,sm__inst_executed.sum "$work/check" profile "$preset" \
      > "$out/ncu-$preset.csv" 2>&1
    say "profiled $preset"
  done
fi
if command -v node > /dev/null && [ -d node_modules ]; then
  node scripts/build-native.mjs --programs && node --import tsx bench/cuda-serve.ts
  [ $? = 0 ] || status=1
  say served
else
  echo 'no node or no packages here: infer_cuda.node was not run'
fi
exit $status
