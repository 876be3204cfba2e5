/** Vectors below `vectors/` of the fixtures: precompiles, RLP, tries, transactions, and the small ones of evm-basics.ts. */
import { basename, sep } from 'node:path'
import { decodeRlp, encodeRlp, type RlpInput, rlpBytes, rlpList, rlpNumber } from '../../lib/codec/rlp.ts'
import { keccak256 } from '../../lib/crypto/hash.ts'
import type { Conformance } from '../../lib/native.ts'
import { runBasics } from './evm-basics.ts'
import { type Outcome, readJson } from './evm-fixtures.ts'

export async function runVectors(run: Conformance, file: string): Promise<Outcome> {
  if (file.includes(`${sep}precompiles${sep}`)) return runPrecompiles(run, file)
  if (file.includes(`${sep}RLPTests${sep}`)) return runRlp(run, file)
  if (file.includes(`${sep}TrieTests${sep}`)) return runTrie(run, file)
  if (file.includes(`${sep}TransactionTests${sep}`)) return runTransactions(run, file)
  return runBasics(run, file)
}

const fromHex = (s: string): Uint8Array => Buffer.from(s.replace(/^0x/, ''), 'hex')
const toHex = (b: Uint8Array): string => Buffer.from(b).toString('hex')
const utf8 = (s: string): Uint8Array => new TextEncoder().encode(s)

/** File name → fork whose rules and price hold, and address. */
export const PRECOMPILES: Record<string, [string, number]> = {
  ecRecover: ['Osaka', 1],
  modexp: ['Byzantium', 5],
  modexp_eip2565: ['Berlin', 5],
  modexp_eip7883: ['Osaka', 5],
  bn256Add: ['Osaka', 6],
  bn256ScalarMul: ['Osaka', 7],
  bn256Pairing: ['Osaka', 8],
  blake2F: ['Osaka', 9],
  blake2f: ['Osaka', 9],
  pointEvaluation: ['Osaka', 10],
  blsG1Add: ['Osaka', 11],
  blsG1Mul: ['Osaka', 12],
  blsG1MultiExp: ['Osaka', 12],
  blsG2Add: ['Osaka', 13],
  blsG2Mul: ['Osaka', 14],
  blsG2MultiExp: ['Osaka', 14],
  blsPairing: ['Osaka', 15],
  blsMapG1: ['Osaka', 16],
  blsMapG2: ['Osaka', 17],
  p256Verify: ['Osaka', 256]
}

function runPrecompiles(run: Conformance, file: string): Outcome {
  const out: Outcome = { cases: 0, failures: [] }
  const stem = basename(file, '.json')
  const [fork, number] = PRECOMPILES[stem.replace(/^fail-/, '')]!
  const address = new Uint8Array(20)
  address[18] = number >> 8
  address[19] = number & 255
  for (const value of readJson(file) as unknown as Record<string, string | number>[]) {
    out.cases++
    const name = `${stem} ${value.Name ?? out.cases}`
    const mustFail = stem.startsWith('fail-') || value.ExpectedError !== undefined
    const request = encodeRlp([utf8(fork), address, fromHex(value.Input as string), 0xffff_ffff_ffffn])
    const [ok, gas, output] = rlpList(decodeRlp(run('call', request)))
    if (mustFail) {
      if (rlpNumber(ok) === 1n) out.failures.push(`${name}: must fail`)
    } else if (rlpNumber(ok) !== 1n) out.failures.push(`${name}: failed`)
    else if (toHex(rlpBytes(output)) !== (value.Expected as string).replace(/^0x/, ''))
      out.failures.push(`${name}: output`)
    else if (value.Gas !== undefined && rlpNumber(gas) !== BigInt(value.Gas))
      out.failures.push(`${name}: gas ${rlpNumber(gas)}`)
  }
  return out
}

type RlpFixture = string | number | RlpFixture[]

function fixtureItem(x: RlpFixture): RlpInput {
  if (Array.isArray(x)) return x.map(fixtureItem)
  if (typeof x === 'number') return x
  return x.startsWith('#') ? BigInt(x.slice(1)) : utf8(x)
}

function runRlp(run: Conformance, file: string): Outcome {
  const out: Outcome = { cases: 0, failures: [] }
  for (const [name, value] of Object.entries(readJson(file))) {
    const test = value as { in: RlpFixture; out: string }
    out.cases++
    const bytes = fromHex(test.out)
    let decoded = true
    try {
      decodeRlp(bytes)
    } catch {
      decoded = false
    }
    const native = run('rlp', bytes).length === 1
    const invalid = test.in === 'INVALID'
    if (decoded === invalid || native === invalid) out.failures.push(`${name}: TypeScript ${decoded}, native ${native}`)
    else if (!invalid && test.in !== 'VALID' && toHex(encodeRlp(fixtureItem(test.in))) !== toHex(bytes))
      out.failures.push(`${name}: encoded otherwise`)
  }
  return out
}

function runTrie(run: Conformance, file: string): Outcome {
  const out: Outcome = { cases: 0, failures: [] }
  // Only neighbours of keys: left out, see evm-basics.ts.
  if (basename(file) === 'trietestnextprev.json') return out
  const secure = /secure/i.test(basename(file))
  const text = (x: string): Uint8Array => (x.startsWith('0x') ? fromHex(x) : utf8(x))
  for (const [name, value] of Object.entries(readJson(file))) {
    const test = value as { in: [string, string | null][] | Record<string, string | null>; root: string }
    out.cases++
    const pairs = new Map<string, Uint8Array>()
    for (const [key, x] of Array.isArray(test.in) ? test.in : Object.entries(test.in)) {
      const k = secure ? keccak256(text(key)) : text(key)
      if (x === null || x === '') pairs.delete(toHex(k))
      else pairs.set(toHex(k), text(x))
    }
    const root = toHex(run('trie', encodeRlp([...pairs].map(([k, x]) => [fromHex(k), x]))))
    if (`0x${root}` !== test.root) out.failures.push(`${name}: root ${root}`)
  }
  return out
}

function runTransactions(run: Conformance, file: string): Outcome {
  const out: Outcome = { cases: 0, failures: [] }
  for (const [name, value] of Object.entries(readJson(file))) {
    const test = value as {
      txbytes: string
      result: Record<string, { exception?: string; hash?: string; sender?: string; intrinsicGas?: string }>
    }
    for (const [fork, want] of Object.entries(test.result)) {
      out.cases++
      const answer = run('tx', encodeRlp([utf8(fork), fromHex(test.txbytes)]))
      const [error, hash, sender, gas] = rlpList(decodeRlp(answer))
      const why = new TextDecoder().decode(rlpBytes(error))
      if ((why !== '') !== (want.exception !== undefined))
        out.failures.push(`${name} ${fork}: ${why === '' ? `accepted, ${want.exception} wanted` : why}`)
      else if (
        why === '' &&
        (`0x${toHex(rlpBytes(hash))}` !== want.hash ||
          `0x${toHex(rlpBytes(sender))}` !== want.sender?.toLowerCase() ||
          rlpNumber(gas) !== BigInt(want.intrinsicGas!))
      )
        out.failures.push(`${name} ${fork}: hash, sender or gas differ`)
    }
  }
  return out
}
