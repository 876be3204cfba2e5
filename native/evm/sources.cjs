// Prints every source of native/evm, and of the parts of native/codec that it stands on, for binding.gyp: one line, relative to the root.
const { readdirSync } = require('node:fs')
const { join } = require('node:path')

const root = join(__dirname, '..', '..')
const folders = ['base', 'crypto', 'precompiles', 'vm', 'state', 'trie', 'db', 'exec', 'pool', 'chain', 'trace']
const own = folders.flatMap(folder => {
  const dir = join(root, 'native', 'evm', folder)
  let names = []
  try {
    names = readdirSync(dir)
  } catch {
    return []
  }
  return names.filter(n => n.endsWith('.cpp')).map(n => `native/evm/${folder}/${n}`)
})
const codec = ['cpu', 'keccak_avx2', 'keccak_avx512', 'keccak_avx512vl', 'keccak_one', 'keccak_scalar'].map(
  n => `native/codec/${n}.cpp`
)
const leveldb = process.argv[2] === 'leveldb'
if (!leveldb) console.log([...own, ...codec].join(' '))
else {
  const base = process.argv[3]
  const skip =
    /_test\.cc$|_bench\.cc$|^c\.cc$|leveldbutil|leveldb_main|testharness|testutil|port_posix_sse|port_uv|env_win|win_logger/
  const dirs = ['db', 'helpers/memenv', 'port', 'table', 'util']
  const found = dirs.flatMap(d =>
    readdirSync(join(root, base, d))
      .filter(n => n.endsWith('.cc') && !skip.test(n))
      .map(n => `${base}/${d}/${n}`)
  )
  console.log(found.join(' '))
}
