/** The oldest vectors of the fixtures: keys and addresses, signed transactions, key stores, ABI encodings, genesis blocks. What zg does not have is left out. */
import { basename, sep } from 'node:path'
import { encodeCall } from '../../cmd/zg-chain/abi.ts'
import { decodeBlockAnswer, encodeBlockRequest, type Json } from '../../cmd/zg-chain/conformance/request.ts'
import { decodeRlp, encodeRlp, rlpBytes, rlpList, rlpNumber } from '../../lib/codec/rlp.ts'
import { keccak256 } from '../../lib/crypto/hash.ts'
import { decryptKey } from '../../lib/crypto/keystore.ts'
import { addressOf } from '../../lib/crypto/secp256k1.ts'
import type { Conformance } from '../../lib/native.ts'
import { type Outcome, readJson } from './evm-fixtures.ts'

/** File below `vectors/` → why it is not run. */
export const LEFT_OUT_VECTORS: Readonly<Record<string, string>> = {
  'BasicTests/blockgenesistest.json':
    'genesis blocks of a proof of concept before Frontier, whose headers have 13 other fields',
  'BasicTests/crypto.json':
    "AES and ECIES of the peer-to-peer protocol, which zg does not speak (the key stores' AES is in KeyStoreTests)",
  'BasicTests/genesishashestest.json': 'a state root whose accounts are not among the fixtures',
  'BasicTests/hexencodetest.json': 'a step within the tries that has no entry of its own; all TrieTests go through it',
  'BasicTests/keyaddrtest.json: signatures':
    'of a digest that is not stated: none that we know of the empty string gives the address back (key and address are checked)',
  'TrieTests/trietestnextprev.json':
    'neighbours of keys in a plain trie; the store walks hashed keys in flat order, without a trie'
}

export async function runBasics(run: Conformance, file: string): Promise<Outcome> {
  const name = file.split(sep).slice(-2).join('/')
  const out: Outcome = { cases: 0, failures: [] }
  const check = (what: string, got: unknown, want: unknown): void => {
    if (got !== want) out.failures.push(`${basename(file)} ${what}: ${got}, ${want} wanted`)
  }
  const all = readJson(file) as unknown
  if (name === 'BasicTests/keyaddrtest.json') {
    for (const x of all as {
      seed: string
      key: string
      addr: string
      sig_of_emptystring: Record<'v' | 'r' | 's', string>
    }[]) {
      out.cases++
      check(x.seed, toHex(addressOf(fromHex(x.key))), x.addr)
    }
  } else if (name === 'BasicTests/txtest.json') {
    for (const x of all as { key: string; signed: string; startgas: number }[]) {
      out.cases++
      const [error, hash, sender] = rlpList(decodeRlp(run('tx', encodeRlp([utf8('Frontier'), fromHex(x.signed)]))))
      check('sender', toHex(rlpBytes(sender)), toHex(addressOf(fromHex(x.key))))
      check('hash', toHex(rlpBytes(hash)), toHex(keccak256(fromHex(x.signed))))
      // Their gas is from a time of other prices.
      check('error', new TextDecoder().decode(rlpBytes(error)), x.startgas < 21_000 ? 'intrinsic gas too low' : '')
    }
  } else if (name.startsWith('KeyStoreTests/')) {
    for (const [test, x] of Object.entries(all as Record<string, { json: Json; password: string; priv: string }>)) {
      out.cases++
      try {
        check(test, toHex(await decryptKey(JSON.stringify(x.json), x.password)), x.priv)
      } catch (err) {
        out.failures.push(`${test}: ${(err as Error).message}`)
      }
    }
  } else if (name.startsWith('ABITests/')) {
    for (const [test, x] of Object.entries(
      all as Record<string, { args: unknown[]; types: string[]; result: string }>
    )) {
      out.cases++
      const { data } = await encodeCall(
        `f(${x.types.join(',')})`,
        x.args.map((arg, i) => argument(arg, x.types[i]!))
      )
      check(test, toHex(data.subarray(4)), x.result)
    }
  } else if (name.startsWith('GenesisTests/')) {
    for (const [test, value] of Object.entries(all as Record<string, Json>)) {
      out.cases++
      const rlp = value.result as string
      const got = decodeBlockAnswer(
        run('block', encodeBlockRequest({ network: 'Frontier', genesisRLP: rlp, pre: value.alloc, blocks: [] }))
      )
      const header = rlpList(rlpList(decodeRlp(fromHex(rlp)))[0]!)
      check(`${test} error`, got.error, undefined)
      check(`${test} hash`, got.lastblockhash, `0x${toHex(keccak256(encodeRlp(header.map(field => rlpBytes(field)))))}`)
      check(`${test} nonce`, `0x${toHex(rlpBytes(header[14]))}`, value.nonce)
      check(`${test} extra data`, `0x${toHex(rlpBytes(header[12]))}`, value.extraData)
      check(`${test} parent`, `0x${toHex(rlpBytes(header[0]))}`, value.parentHash)
      check(`${test} time`, rlpNumber(header[11]), BigInt(value.timestamp as string))
      check(`${test} gas limit`, rlpNumber(header[9]), BigInt(value.gasLimit as string))
      check(`${test} difficulty`, rlpNumber(header[7]), BigInt(value.difficulty as string))
    }
  }
  return out
}

/** As a command line has it; the vectors write bytes as text. */
function argument(value: unknown, type: string): string {
  if (type.startsWith('bytes')) return `0x${toHex(utf8(value as string))}`
  return Array.isArray(value) ? JSON.stringify(value) : String(value)
}

const fromHex = (s: string): Uint8Array => Buffer.from(s.replace(/^0x/, ''), 'hex')
const toHex = (b: Uint8Array): string => Buffer.from(b).toString('hex')
const utf8 = (s: string): Uint8Array => new TextEncoder().encode(s)
