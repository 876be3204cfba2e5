// The trie vectors of the fixtures against trie_root: node native/evm/test/store_trie.mjs FOLDER (of TrieTests), after building store_trie.
// Keys of the "secure" files are hashed first. Prints how many roots agreed.
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { keccak_256 } from '@noble/hashes/sha3.js'

const dir = process.argv[2]
const bytes = s => (s.startsWith('0x') ? Buffer.from(s.slice(2), 'hex') : Buffer.from(s))
const want = []
let input = ''
for (const file of readdirSync(dir)) {
  if (file.includes('nextprev')) continue // iteration, not roots
  for (const [name, test] of Object.entries(JSON.parse(readFileSync(join(dir, file), 'utf8')))) {
    const state = new Map()
    for (const [k, v] of Array.isArray(test.in) ? test.in : Object.entries(test.in)) {
      const key = bytes(k)
      const hex = Buffer.from(/secure/i.test(file) ? keccak_256(key) : key).toString('hex')
      if (v === null) state.delete(hex)
      else state.set(hex, bytes(v).toString('hex'))
    }
    for (const [k, v] of state) input += `${k} ${v}\n`
    input += '\n'
    want.push([`${file} ${name}`, test.root])
  }
}
const got = execFileSync('build/store/store_trie', { input }).toString().trim().split('\n')
let bad = 0
want.forEach(([name, root], i) => {
  if (got[i] === root) return
  bad++
  console.log(`${name}: ${got[i]}, not ${root}`)
})
console.log(`${want.length - bad} of ${want.length} roots agree`)
process.exit(bad ? 1 : 0)
