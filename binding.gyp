# The native parts. Called by scripts/build-native.mjs, never by npm itself ("gypfile": false in package.json).
# No -march: wide code sits in functions with target attributes and is chosen at load (native/codec/cpu.cpp).
{
  'target_defaults': {
    'defines': ['NAPI_VERSION=9', 'NAPI_DISABLE_CPP_EXCEPTIONS'],
    'cflags!': ['-O2'],
    'cflags': ['-O3', '-fvisibility=hidden', '-ffunction-sections'],
    'cflags_cc!': ['-std=gnu++17', '-std=gnu++20', '-fno-rtti'],
    'cflags_cc': ['-std=c++20', '-fno-exceptions', '-Wall', '-Wextra'],
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
        'native/napi/codec_napi.cpp',
        'native/napi/da_napi.cpp'
      ]
    },
    {
      'target_name': 'infer',
      'include_dirs': ['<!(node -p "require(\'node-addon-api\').include_dir")', 'native/infer'],
      # Every level of CPU gives the same bits: the compiler must not join a product and a sum on its own.
      'cflags_cc': ['-ffp-contract=off', '-fno-math-errno', '-fno-trapping-math', '-pthread'],
      'xcode_settings': {'OTHER_CFLAGS': ['-ffp-contract=off', '-fno-math-errno', '-fno-trapping-math']},
      'sources': [
        'native/infer/forward.cpp',
        'native/infer/gguf.cpp',
        'native/infer/kernels.cpp',
        'native/infer/kernels_avx2.cpp',
        'native/infer/kernels_avx512.cpp',
        'native/infer/kernels_scalar.cpp',
        'native/infer/mapping.cpp',
        'native/infer/model.cpp',
        'native/infer/pool.cpp',
        'native/infer/sampler.cpp',
        'native/infer/scheduler.cpp',
        'native/infer/tensor_type.cpp',
        'native/infer/tokenizer.cpp',
        'native/infer/tokenizer_merge.cpp',
        'native/infer/tokenizer_special.cpp',
        'native/infer/tokenizer_split.cpp',
        'native/infer/unicode.cpp',
        'native/infer/unicode_table.cpp',
        'native/napi/infer_napi.cpp',
        'native/napi/tokenizer_napi.cpp'
      ]
    }
  ]
}
