# The native parts. Called by scripts/build-native.mjs, never by npm itself ("gypfile": false in package.json).
# No -march: wide code sits in functions with target attributes and is chosen at load (native/codec/cpu.cpp).
{
  'variables': {'zg_sanitize%': 0},
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
        'native/napi/pora_napi.cpp',
        'native/napi/rs_napi.cpp'
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
  ]
}
