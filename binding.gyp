# The native parts. Called by scripts/build-native.mjs, never by npm itself ("gypfile": false in package.json).
# No -march: wide code sits in functions with target attributes and is chosen at load (native/codec/cpu.cpp).
{
  'variables': {
    'zg_sanitize%': 0,
    # '' without CUDA's compiler, without a device unless ZG_CUDA is set, or when ZG_NO_CUDA is set.
    'nvcc%': '<!(node -p "require(\'./native/find-nvcc.cjs\').nvcc")',
    'cudart%': '<!(node -p "require(\'./native/find-nvcc.cjs\').cudart")'
  },
  'target_defaults': {
    'defines': ['NAPI_VERSION=9', 'NAPI_DISABLE_CPP_EXCEPTIONS'],
    'cflags!': ['-O2'],
    'cflags': ['-O3', '-fvisibility=hidden', '-ffunction-sections'],
    'cflags_cc!': ['-std=gnu++17', '-std=gnu++20', '-fno-rtti'],
    'cflags_cc': ['-std=c++20', '-fno-exceptions', '-Wall', '-Wextra'],
    'conditions': [
      ['zg_sanitize==1', {
        'cflags': ['-fsanitize=address,undefined', '-fno-omit-frame-pointer', '-g', '-O1'],
        'ldflags': ['-fsanitize=address,undefined']
      }]
    ],
    'ldflags': ['-Wl,--exclude-libs,ALL', '-Wl,-z,now', '-Wl,--gc-sections'],
    'xcode_settings': {
      'CLANG_CXX_LANGUAGE_STANDARD': 'c++20',
      'GCC_ENABLE_CPP_EXCEPTIONS': 'NO',
      'GCC_OPTIMIZATION_LEVEL': '3',
      'GCC_SYMBOLS_PRIVATE_EXTERN': 'YES',
      'MACOSX_DEPLOYMENT_TARGET': '12.0'
    }
  },
  'targets': [
    {
      'target_name': 'codec',
      'include_dirs': ['<!(node -p "require(\'node-addon-api\').include_dir")', 'native/codec'],
      'sources': [
        'native/codec/base64.cpp',
        'native/codec/base64_avx2.cpp',
        'native/codec/blake2b.cpp',
        'native/codec/cpu.cpp',
        'native/codec/da_blob.cpp',
        'native/codec/da_code.cpp',
        'native/codec/da_field.cpp',
        'native/codec/da_hash.cpp',
        'native/codec/da_lanes.cpp',
        'native/codec/da_lanes_avx2.cpp',
        'native/codec/da_lanes_gfni.cpp',
        'native/codec/da_lanes_ssse3.cpp',
        'native/codec/da_sums.cpp',
        'native/codec/keccak_avx2.cpp',
        'native/codec/keccak_avx512.cpp',
        'native/codec/keccak_avx512vl.cpp',
        'native/codec/keccak_one.cpp',
        'native/codec/keccak_scalar.cpp',
        'native/codec/merkle.cpp',
        'native/codec/pora.cpp',
        'native/codec/pora_avx2.cpp',
        'native/codec/pora_avx512vl.cpp',
        'native/codec/rs.cpp',
        'native/codec/rs_avx2.cpp',
        'native/codec/rs_gfni.cpp',
        'native/codec/rs_gfni512.cpp',
        'native/codec/rs_sum.cpp',
        'native/napi/codec_napi.cpp',
        'native/napi/da_napi.cpp',
        'native/napi/disk_napi.cpp',
        'native/napi/pora_napi.cpp',
        'native/napi/rs_napi.cpp'
      ]
    },
    {
      'target_name': 'infer',
      'dependencies': ['infer_avx2', 'infer_avx512', 'infer_neon'],
      'include_dirs': ['<!(node -p "require(\'node-addon-api\').include_dir")', 'native/infer'],
      # Every level of CPU gives the same bits: the compiler must not join a product and a sum on its own.
      'cflags_cc': ['-ffp-contract=off', '-fno-math-errno', '-fno-trapping-math', '-pthread'],
      'xcode_settings': {'OTHER_CFLAGS': ['-ffp-contract=off', '-fno-math-errno', '-fno-trapping-math']},
      'sources': [
        'native/infer/cpu/adapt.cpp',
        'native/infer/cpu/adapter.cpp',
        'native/infer/cpu/engine.cpp',
        'native/infer/cpu/generic.cpp',
        'native/infer/cpu/levels.cpp',
        'native/infer/cpu/load.cpp',
        'native/infer/cpu/packed.cpp',
        'native/infer/cpu/pages.cpp',
        'native/infer/cpu/tokens.cpp',
        'native/infer/cpu/workers.cpp',
        'native/infer/det/blocks.cpp',
        'native/infer/det/det_model.cpp',
        'native/infer/det/rope_table.cpp',
        'native/infer/backend.cpp',
        'native/infer/constraint.cpp',
        'native/infer/convert.cpp',
        'native/infer/draft.cpp',
        'native/infer/gguf.cpp',
        'native/infer/gguf_parts.cpp',
        'native/infer/grammar.cpp',
        'native/infer/mapping.cpp',
        'native/infer/prefix.cpp',
        'native/infer/quantize.cpp',
        'native/infer/quantize_super.cpp',
        'native/infer/sampler.cpp',
        'native/infer/placement.cpp',
        'native/infer/scheduler.cpp',
        'native/infer/tensor_type.cpp',
        'native/infer/token_trie.cpp',
        'native/infer/tokenizer.cpp',
        'native/infer/tokenizer_merge.cpp',
        'native/infer/tokenizer_special.cpp',
        'native/infer/tokenizer_split.cpp',
        'native/infer/largest.cpp',
        'native/infer/trace.cpp',
        'native/infer/unicode.cpp',
        'native/infer/unicode_table.cpp',
        'native/codec/keccak_one.cpp',
        'native/codec/keccak_scalar.cpp',
        'native/napi/gguf_napi.cpp',
        'native/napi/infer_napi.cpp',
        'native/napi/model_files_napi.cpp',
        'native/napi/tokenizer_napi.cpp'
      ]
    },
    # Levels of CPU, each with its own flags; they share no inline function with other files (native/infer/cpu/layout.h).
    {
      'target_name': 'infer_avx2',
      'type': 'static_library',
      'sources': ['native/infer/cpu/avx2.cpp'],
      'cflags': ['-fPIC'],
      'cflags_cc': ['-ffp-contract=off', '-fno-math-errno'],
      'xcode_settings': {'OTHER_CFLAGS': ['-ffp-contract=off', '-fno-math-errno']},
      'conditions': [['target_arch=="x64"', {'cflags_cc': ['-mavx2', '-mfma', '-mf16c', '-mbmi2']}]]
    },
    {
      'target_name': 'infer_avx512',
      'type': 'static_library',
      'sources': ['native/infer/cpu/avx512.cpp'],
      'cflags': ['-fPIC'],
      # GCC 12 warns of its own header.
      'cflags_cc': ['-ffp-contract=off', '-fno-math-errno', '-Wno-uninitialized', '-Wno-maybe-uninitialized'],
      'xcode_settings': {'OTHER_CFLAGS': ['-ffp-contract=off', '-fno-math-errno']},
      'conditions': [['target_arch=="x64"', {
        'cflags_cc': [
          '-mavx512f', '-mavx512bw', '-mavx512vl', '-mavx512dq', '-mavx512vnni', '-mfma', '-mf16c', '-mbmi2',
          '-mprefer-vector-width=512'
        ]
      }]]
    },
    # For benchmarks alone: the same without the rules of the deterministic mode.
    {
      'target_name': 'infer_free',
      'type': 'static_library',
      'sources': ['native/infer/cpu/free.cpp'],
      'cflags': ['-fPIC'],
      'cflags_cc': ['-ffast-math', '-ffp-contract=fast', '-Wno-uninitialized', '-Wno-maybe-uninitialized'],
      'xcode_settings': {'OTHER_CFLAGS': ['-ffast-math']},
      'conditions': [['target_arch=="x64"', {
        'cflags_cc': [
          '-mavx512f', '-mavx512bw', '-mavx512vl', '-mavx512dq', '-mavx512vnni', '-mfma', '-mf16c', '-mbmi2',
          '-mprefer-vector-width=512'
        ]
      }]]
    },
    {
      'target_name': 'infer_neon',
      'type': 'static_library',
      'sources': ['native/infer/cpu/neon.cpp'],
      'cflags': ['-fPIC'],
      'cflags_cc': ['-ffp-contract=off', '-fno-math-errno'],
      'xcode_settings': {'OTHER_CFLAGS': ['-ffp-contract=off', '-fno-math-errno']},
      'conditions': [['target_arch=="arm64" and OS!="mac"', {'cflags_cc': ['-march=armv8.2-a+dotprod']}]]
    },
    # ---- the trainer: a program of its own (native/infer/train, docs/decisions/0093). Its kernels may fuse products and sums.
    {
      'target_name': 'train_kernels',
      'type': 'static_library',
      'include_dirs': ['native/infer'],
      # GCC 12 warns of its own header of AVX-512.
      'cflags_cc': [
        '-ffp-contract=fast', '-fno-math-errno', '-fno-trapping-math', '-Wno-uninitialized', '-Wno-maybe-uninitialized', '-pthread'
      ],
      'xcode_settings': {'OTHER_CFLAGS': ['-ffp-contract=fast', '-fno-math-errno', '-fno-trapping-math']},
      'sources': [
        'native/infer/train/bench.cpp',
        'native/infer/train/kernels.cpp',
        'native/infer/train/kernels_avx2.cpp',
        'native/infer/train/kernels_avx512.cpp',
        'native/infer/train/kernels_bf16.cpp',
        'native/infer/train/kernels_generic.cpp',
        'native/infer/train/model.cpp',
        'native/infer/train/model_back.cpp',
        'native/infer/train/model_experts.cpp'
      ]
    },
    {
      'target_name': 'zg_train',
      'product_name': 'zg-train',
      'type': 'executable',
      'dependencies': ['train_kernels'],
      'include_dirs': ['native/infer'],
      'cflags_cc': ['-ffp-contract=off', '-pthread'],
      'xcode_settings': {'OTHER_CFLAGS': ['-ffp-contract=off']},
      'libraries': ['-lpthread'],
      'sources': [
        'native/infer/train/check.cpp',
        'native/infer/train/checkpoint.cpp',
        'native/infer/train/corpus.cpp',
        'native/infer/train/main.cpp',
        'native/infer/train/model_file.cpp',
        'native/infer/train/shape.cpp',
        'native/infer/train/trainer.cpp',
        'native/infer/convert.cpp',
        'native/infer/gguf.cpp',
        'native/infer/gguf_parts.cpp',
        'native/infer/mapping.cpp',
        'native/infer/pool.cpp',
        'native/infer/quantize.cpp',
        'native/infer/quantize_super.cpp',
        'native/infer/tensor_type.cpp',
        'native/infer/cpu/workers.cpp',
        'native/infer/det/blocks.cpp',
        'native/infer/det/det_model.cpp',
        'native/infer/det/forward_det.cpp',
        'native/infer/det/rope_table.cpp'
      ]
    },
    # Tests and timings of the engine for CPUs against the deterministic reference.
    {
      'target_name': 'infer_cpu_check',
      'type': 'executable',
      'dependencies': ['infer_det', 'infer_avx2', 'infer_avx512', 'infer_free', 'infer_neon'],
      'cflags_cc': ['-ffp-contract=off', '-pthread'],
      'xcode_settings': {'OTHER_CFLAGS': ['-ffp-contract=off']},
      'libraries': ['-lpthread'],
      'sources': [
        'native/infer/cpu/check.cpp',
        'native/infer/cpu/bench.cpp',
        'native/infer/cpu/adapt.cpp',
        'native/infer/cpu/adapter.cpp',
        'native/infer/cpu/engine.cpp',
        'native/infer/cpu/generic.cpp',
        'native/infer/cpu/levels.cpp',
        'native/infer/cpu/load.cpp',
        'native/infer/cpu/packed.cpp',
        'native/infer/cpu/pages.cpp',
        'native/infer/cpu/tokens.cpp',
        'native/infer/cpu/workers.cpp',
        'native/infer/constraint.cpp',
        'native/infer/grammar.cpp',
        'native/infer/largest.cpp',
        'native/infer/sampler.cpp',
        'native/infer/sampler_check.cpp',
        'native/infer/token_trie.cpp',
        'native/infer/trace.cpp',
        'native/codec/keccak_one.cpp',
        'native/codec/keccak_scalar.cpp'
      ]
    },
    # The scheduler over both engines, for the programs that test the CUDA one.
    {
      'target_name': 'infer_schedule_check',
      'type': 'static_library',
      'include_dirs': ['native/infer'],
      'cflags': ['-fPIC'],
      'cflags_cc': ['-ffp-contract=off', '-fno-math-errno', '-fno-trapping-math', '-pthread'],
      'xcode_settings': {'OTHER_CFLAGS': ['-ffp-contract=off']},
      'sources': [
        'native/infer/cuda/schedule_check.cpp',
        'native/infer/cuda/split_check.cpp',
        'native/infer/cuda/backend.cpp',
        'native/infer/cuda/plan.cpp',
        'native/infer/cuda/split.cpp',
        'native/infer/backend.cpp',
        'native/infer/constraint.cpp',
        'native/infer/draft.cpp',
        'native/infer/grammar.cpp',
        'native/infer/prefix.cpp',
        'native/infer/sampler.cpp',
        'native/infer/placement.cpp',
        'native/infer/scheduler.cpp',
        'native/infer/token_trie.cpp',
        'native/infer/largest.cpp',
        'native/infer/trace.cpp',
        'native/infer/cpu/adapt.cpp',
        'native/infer/cpu/adapter.cpp',
        'native/infer/cpu/engine.cpp',
        'native/infer/cpu/generic.cpp',
        'native/infer/cpu/levels.cpp',
        'native/infer/cpu/load.cpp',
        'native/infer/cpu/packed.cpp',
        'native/infer/cpu/pages.cpp',
        'native/infer/cpu/tokens.cpp',
        'native/infer/cpu/workers.cpp',
        'native/codec/keccak_one.cpp',
        'native/codec/keccak_scalar.cpp'
      ]
    },
    # ---- the deterministic reference, and the CUDA engine's kernels under emulation as a program that tests them against it.
    {
      'target_name': 'infer_det',
      'type': 'static_library',
      'include_dirs': ['native/infer'],
      'cflags_cc': ['-ffp-contract=off', '-pthread'],
      'cflags': ['-fPIC'],
      'xcode_settings': {'OTHER_CFLAGS': ['-ffp-contract=off']},
      'sources': [
        'native/infer/det/blocks.cpp',
        'native/infer/det/det_model.cpp',
        'native/infer/det/forward_det.cpp',
        'native/infer/det/rope_table.cpp',
        'native/infer/gguf.cpp',
        'native/infer/gguf_parts.cpp',
        'native/infer/mapping.cpp',
        'native/infer/pool.cpp',
        'native/infer/tensor_type.cpp'
      ],
      # Without it every fma is a call of the library: same bits, five times slower. The programs below are for tests.
      'conditions': [['target_arch=="x64"', {'cflags_cc': ['-mfma']}]]
    },
    {
      'target_name': 'infer_det_check',
      'type': 'executable',
      'dependencies': ['infer_det'],
      'cflags_cc': ['-ffp-contract=off', '-pthread'],
      'xcode_settings': {'OTHER_CFLAGS': ['-ffp-contract=off']},
      'libraries': ['-lpthread'],
      'sources': ['native/infer/det/det_check.cpp'],
      'conditions': [['target_arch=="x64"', {'cflags_cc': ['-mfma']}]]
    },
    {
      'target_name': 'infer_emulation_kernels',
      'type': 'static_library',
      'cflags': ['-fPIC'],
      'cflags_cc': ['-ffp-contract=off', '-pthread', '-O2'],
      'xcode_settings': {'OTHER_CFLAGS': ['-ffp-contract=off']},
      'sources': [
        'native/infer/cuda/device_host.cpp',
        'native/infer/cuda/engine.cpp',
        'native/infer/cuda/engine_load.cpp',
        'native/infer/cuda/heap_host.cpp',
        'native/infer/cuda/simt_host.cpp',
        'native/infer/cuda/tiles.cpp',
        'native/infer/cuda/types_host_a.cpp',
        'native/infer/cuda/types_host_b.cpp'
      ],
      'conditions': [['target_arch=="x64"', {'cflags_cc': ['-mfma', '-mf16c']}]]
    },
    {
      'target_name': 'infer_emulation',
      'type': 'executable',
      'dependencies': ['infer_emulation_kernels', 'infer_schedule_check', 'infer_det', 'infer_avx2', 'infer_avx512'],
      'cflags_cc': ['-ffp-contract=off', '-pthread', '-O2'],
      'xcode_settings': {'OTHER_CFLAGS': ['-ffp-contract=off']},
      'libraries': ['-lpthread'],
      'sources': ['native/infer/cuda/check.cpp'],
      'conditions': [['target_arch=="x64"', {'cflags_cc': ['-mfma', '-mf16c']}]]
    },
    # Mistakes with several devices that the emulation must find.
    {
      'target_name': 'infer_emulation_mix_up',
      'type': 'executable',
      'dependencies': ['infer_emulation_kernels', 'infer_det'],
      'cflags_cc': ['-ffp-contract=off', '-pthread', '-O1'],
      'xcode_settings': {'OTHER_CFLAGS': ['-ffp-contract=off']},
      'libraries': ['-lpthread'],
      'sources': ['native/infer/cuda/mix_up.cpp'],
      'conditions': [['target_arch=="x64"', {'cflags_cc': ['-mfma', '-mf16c']}]]
    },
    # The same engine over the emulated device as an addon: tests run the scheduler over it. Not part of what is installed.
    {
      'target_name': 'infer_emulated',
      'dependencies': ['infer_emulation_kernels', 'infer_det'],
      'include_dirs': ['<!(node -p "require(\'node-addon-api\').include_dir")'],
      'cflags_cc': ['-ffp-contract=off', '-pthread', '-O2'],
      'xcode_settings': {'OTHER_CFLAGS': ['-ffp-contract=off']},
      'sources': [
        'native/napi/infer_cuda_napi.cpp',
        'native/infer/cpu/pages.cpp',
        'native/infer/cuda/backend.cpp',
        'native/infer/cuda/plan.cpp',
        'native/infer/cuda/split.cpp'
      ]
    },
    # ---- the chain's engine. C sources that packages carry (native/THIRD_PARTY.md); none of the packages' JavaScript is loaded.
    {
      'target_name': 'secp256k1',
      'type': 'static_library',
      'variables': {'secp%': '<!(node -p "require(\'path\').relative(\'.\', require(\'path\').dirname(require.resolve(\'bcrypto/package.json\')))")/deps/secp256k1'},
      'sources': ['native/evm/crypto/secp256k1_core.c'],
      'include_dirs': ['<(secp)', '<(secp)/include', '<(secp)/src', 'native/evm/crypto'],
      'direct_dependent_settings': {'include_dirs': ['<(secp)', '<(secp)/include', '<(secp)/src']},
      'defines': [
        'USE_NUM_NONE=1', 'USE_FIELD_INV_BUILTIN=1', 'USE_SCALAR_INV_BUILTIN=1', 'USE_ENDOMORPHISM=1', 'ECMULT_WINDOW_SIZE=15',
        'ECMULT_GEN_PREC_BITS=4', 'ENABLE_MODULE_RECOVERY=1'
      ],
      'cflags': ['-w', '-fPIC'],
      'conditions': [['target_arch=="x64" and OS!="win" and zg_sanitize==0', {'defines': ['USE_ASM_X86_64=1']}]]
    },
    {
      'target_name': 'blst',
      'type': 'static_library',
      'variables': {'kzg%': '<!(node -p "require(\'path\').relative(\'.\', require(\'path\').dirname(require.resolve(\'c-kzg/package.json\')))")/deps/blst'},
      'sources': ['<(kzg)/src/server.c', '<(kzg)/build/assembly.S'],
      'defines': ['__BLST_PORTABLE__'],
      'direct_dependent_settings': {'include_dirs': ['<(kzg)/bindings']},
      'cflags': ['-w', '-fPIC']
    },
    {
      'target_name': 'leveldb_crc',
      'type': 'static_library',
      'variables': {'ldb%': '<!(node -p "require(\'path\').relative(\'.\', require(\'path\').dirname(require.resolve(\'classic-level/package.json\')))")/deps/leveldb/leveldb-1.20'},
      'sources': ['<(ldb)/port/port_posix_sse.cc'],
      'include_dirs': ['<(ldb)', '<(ldb)/include'],
      'defines': ['LEVELDB_PLATFORM_POSIX=1'],
      'cflags': ['-w', '-fPIC'],
      'conditions': [
        ['OS=="linux"', {'defines': ['OS_LINUX=1']}],
        ['OS=="mac"', {'defines': ['OS_MACOSX=1']}],
        ['target_arch=="x64"', {'cflags': ['-msse4.2'], 'xcode_settings': {'OTHER_CFLAGS': ['-msse4.2']}}]
      ]
    },
    {
      'target_name': 'leveldb',
      'type': 'static_library',
      'variables': {'ldb%': '<!(node -p "require(\'path\').relative(\'.\', require(\'path\').dirname(require.resolve(\'classic-level/package.json\')))")/deps/leveldb/leveldb-1.20'},
      'dependencies': ['leveldb_crc'],
      'sources': ['<!@(node native/evm/sources.cjs leveldb <(ldb))'],
      'include_dirs': ['<(ldb)', '<(ldb)/include'],
      'direct_dependent_settings': {'include_dirs': ['<(ldb)/include', '<(ldb)']},
      'defines': ['LEVELDB_PLATFORM_POSIX=1'],
      'cflags': ['-w', '-fPIC'],
      'conditions': [
        ['OS=="linux"', {'defines': ['OS_LINUX=1']}],
        ['OS=="mac"', {'defines': ['OS_MACOSX=1']}]
      ]
    },
    {
      'target_name': 'evm_core',
      'type': 'static_library',
      'dependencies': ['secp256k1', 'blst', 'leveldb'],
      'export_dependent_settings': ['secp256k1', 'blst', 'leveldb'],
      'include_dirs': ['native/evm', 'native/codec'],
      'direct_dependent_settings': {'include_dirs': ['native/evm', 'native/codec']},
      'cflags_cc': ['-pthread'],
      'sources': ['<!@(node native/evm/sources.cjs)']
    },
    {
      'target_name': 'evm',
      'dependencies': ['evm_core'],
      'include_dirs': ['<!(node -p "require(\'node-addon-api\').include_dir")'],
      'cflags_cc': ['-pthread'],
      'libraries': ['-lpthread'],
      'sources': ['<!@(node -p "require(\'fs\').readdirSync(\'native/napi\').filter(n => /^evm_.*cpp$/.test(n)).map(n => \'native/napi/\' + n).join(\' \')")']
    }
  ],
  # The engine for CUDA devices: an addon of its own, which loads anywhere and says so where there is no device, and the program that
  # tests and times it. Built only where nvcc is.
  'conditions': [['nvcc!="" and zg_sanitize==0', {'targets': [
    {
      'target_name': 'infer_cuda_kernels',
      'type': 'static_library',
      'sources': ['<!@(node -p "require(\'fs\').readdirSync(\'native/infer/cuda\').filter(n => /[.]cu$/.test(n)).map(n => \'native/infer/cuda/\' + n).join(\' \')")'],
      'rules': [{
        'rule_name': 'nvcc',
        'extension': 'cu',
        'inputs': ['<!@(node -p "[\'det\', \'cuda\'].flatMap(d => require(\'fs\').readdirSync(\'native/infer/\' + d).filter(n => /[.](h|inl)$|^(engine|engine_load|tiles)[.]cpp$/.test(n)).map(n => \'native/infer/\' + d + \'/\' + n)).join(\' \')")'],
        'outputs': ['<(INTERMEDIATE_DIR)/<(RULE_INPUT_ROOT).cu.o'],
        'process_outputs_as_sources': 1,
        'action': [
          '<(nvcc)', '-c', '<(RULE_INPUT_PATH)', '-o', '<(INTERMEDIATE_DIR)/<(RULE_INPUT_ROOT).cu.o', '-std=c++20', '-O3', '--threads=0',
          '--fmad=false', '-ftz=false', '-prec-div=true', '-prec-sqrt=true', '-Xcompiler=-fPIC,-fvisibility=hidden,-ffp-contract=off',
          '-gencode=arch=compute_80,code=sm_80', '-gencode=arch=compute_90,code=[sm_90,compute_90]'
        ]
      }]
    },
    {
      'target_name': 'infer_cuda',
      'dependencies': ['infer_cuda_kernels', 'infer_det'],
      'include_dirs': ['<!(node -p "require(\'node-addon-api\').include_dir")'],
      'cflags_cc': ['-ffp-contract=off', '-pthread'],
      'sources': [
        'native/napi/infer_cuda_napi.cpp',
        'native/infer/cuda/backend.cpp',
        'native/infer/cuda/plan.cpp',
        'native/infer/cuda/split.cpp',
        'native/infer/cpu/pages.cpp'
      ],
      'libraries': ['<(cudart)', '-ldl', '-lrt', '-lpthread']
    },
    {
      'target_name': 'infer_cuda_check',
      'type': 'executable',
      'dependencies': ['infer_schedule_check', 'infer_cuda_kernels', 'infer_det', 'infer_avx2', 'infer_avx512'],
      'cflags_cc': ['-ffp-contract=off', '-pthread'],
      'sources': ['native/infer/cuda/check.cpp'],
      'libraries': ['<(cudart)', '-ldl', '-lrt', '-lpthread']
    }
  ]}]]
}
