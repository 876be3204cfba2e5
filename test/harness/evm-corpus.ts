/** Seeds for the decoder fuzzer out of the fixtures, as native/evm/test/exec_fuzz.cpp reads them: u32 LE size and bytes of kind, then of seed. */
import { readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { parseGenesis } from '../../cmd/zg-chain/core/genesis.ts'
import { decodeRlp, encodeRlp, rlpBytes, rlpList } from '../../lib/codec/rlp.ts'
import { encodeGenesis } from '../../lib/evm/genesis.ts'
import { jsonFiles, readJson } from './evm-fixtures.ts'
import { PRECOMPILES } from './evm-vectors.ts'

/** A few of each kind are enough, and small ones mutate faster. */
const EACH = 120
const SEED_BYTES_MAX = 6_000

export function decoderCorpus(dir: string): Uint8Array {
  const seeds = new Map<string, Uint8Array[]>()
  const add = (kind: string, bytes: Uint8Array): void => {
    const of = seeds.get(kind) ?? []
    seeds.set(kind, of)
    if (of.length < EACH && bytes.length > 0 && bytes.length <= SEED_BYTES_MAX) of.push(bytes)
  }
  for (const file of jsonFiles(join(dir, 'vectors', 'TransactionTests')))
    for (const test of Object.values(readJson(file))) add('tx', hex((test as { txbytes: string }).txbytes))
  for (const file of jsonFiles(join(dir, 'blockchain', 'eest-v5.4.0')))
    for (const test of Object.values(readJson(file)).slice(0, 2))
      for (const { rlp } of (test as { blocks: { rlp: string }[] }).blocks.slice(0, 2)) {
        const block = hex(rlp)
        add('block', block)
        try {
          const parts = rlpList(decodeRlp(block))
          add('header', encodeRlp(rlpList(parts[0]!).map(field => rlpBytes(field))))
          for (const tx of rlpList(parts[1]!)) if (!Array.isArray(tx)) add('typed', rlpBytes(tx))
        } catch {
          // Some blocks are malformed on purpose.
        }
      }
  const genesis = parseGenesis(readFileSync(join(dir, 'rpc-compat', 'genesis.json'), 'utf8'))
  add('genesis', encodeGenesis({ ...genesis, alloc: genesis.alloc.slice(0, 12) }))
  for (const file of jsonFiles(join(dir, 'vectors', 'precompiles'))) {
    const known = PRECOMPILES[basename(file, '.json').replace(/^fail-/, '')]!
    for (const { Input } of readJson(file) as unknown as { Input: string }[]) add(`p${known[1]}`, hex(Input))
  }
  const parts: Uint8Array[] = []
  for (const [kind, of] of seeds)
    for (const seed of of)
      for (const part of [new TextEncoder().encode(kind === 'typed' ? 'tx' : kind), seed]) {
        const head = new Uint8Array(4)
        new DataView(head.buffer).setUint32(0, part.length, true)
        parts.push(head, part)
      }
  return Buffer.concat(parts)
}

function hex(text: string): Uint8Array {
  return Buffer.from(text.replace(/^0x/, ''), 'hex')
}
