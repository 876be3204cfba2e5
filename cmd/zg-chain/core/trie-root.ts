/**
 * Merkle-Patricia roots from all entries at once: built from the sorted keys in one pass instead of by insertion, so every node is
 * hashed once. The engine computes roots on its own, incrementally; `zg-chain verify` compares the two.
 */
import { bytesToBig, compareBytes } from '../../../lib/base/bytes.ts'
import { encodeRlp, type RlpInput } from '../../../lib/codec/rlp.ts'
import { EMPTY_TRIE_ROOT, keccak256 } from './hash.ts'
import { encodeReceipt } from './receipts.ts'
import type { Receipt, Transaction, Withdrawal } from './types.ts'

export interface TrieEntry {
  key: Uint8Array
  value: Uint8Array
}

/** A node before encoding; a child under 32 bytes stands in its parent as it is. */
type TrieNode = RlpInput[]

/**
 * Root of the trie of these entries. Keys must be prefix free and differ.
 * Source: Yellow Paper, appendix D.
 */
export function trieRoot(entries: readonly TrieEntry[]): Uint8Array {
  if (entries.length === 0) return EMPTY_TRIE_ROOT
  const sorted = [...entries].sort((a, b) => compareBytes(a.key, b.key))
  return keccak256(encodeRlp(node(sorted, 0, sorted.length, 0)))
}

/** Root of the trie rlp(i) → values[i]. Source: Yellow Paper 4.4.2. */
export function orderedRoot(values: readonly Uint8Array[]): Uint8Array {
  return trieRoot(values.map((value, i) => ({ key: encodeRlp(i), value })))
}

/** Root of accounts or slots: keys are hashes already. */
export function accountRoot(
  accounts: readonly {
    hash: Uint8Array
    nonce: bigint
    balance: bigint
    storageRoot: Uint8Array
    codeHash: Uint8Array
  }[]
): Uint8Array {
  return trieRoot(
    accounts.map(a => ({ key: a.hash, value: encodeRlp([a.nonce, a.balance, a.storageRoot, a.codeHash]) }))
  )
}

/** Root of an account's storage; zero values do not exist. */
export function storageRoot(slots: readonly { hash: Uint8Array; value: Uint8Array }[]): Uint8Array {
  return trieRoot(slots.map(s => ({ key: s.hash, value: encodeRlp(bytesToBig(s.value)) })))
}

/** The header's transactionsRoot. */
export function transactionsRoot(transactions: readonly Transaction[]): Uint8Array {
  return orderedRoot(transactions.map(tx => tx.raw))
}

/** The header's receiptsRoot. */
export function receiptsRoot(receipts: readonly Receipt[]): Uint8Array {
  return orderedRoot(receipts.map(encodeReceipt))
}

/** The header's withdrawalsRoot. */
export function withdrawalsRoot(withdrawals: readonly Withdrawal[]): Uint8Array {
  return orderedRoot(withdrawals.map(w => encodeRlp([w.index, w.validatorIndex, w.address, w.amount])))
}

function nibble(key: Uint8Array, i: number): number {
  const byte = key[i >> 1]!
  return (i & 1) === 0 ? byte >> 4 : byte & 15
}

/** The node over entries[from … to − 1], which share their first `depth` nibbles. */
function node(entries: readonly TrieEntry[], from: number, to: number, depth: number): TrieNode {
  const first = entries[from]!
  if (to - from === 1) return [hexPrefix(first.key, depth, first.key.length * 2, true), first.value]
  const last = entries[to - 1]!
  let shared = depth
  // Sorted keys: what the first and the last share all share, and no key ends inside another.
  while (nibble(first.key, shared) === nibble(last.key, shared)) shared++
  if (shared > depth) return [hexPrefix(first.key, depth, shared, false), reference(node(entries, from, to, shared))]
  const branch: TrieNode = []
  let at = from
  for (let n = 0; n < 16; n++) {
    const begin = at
    while (at < to && nibble(entries[at]!.key, depth) === n) at++
    branch.push(at > begin ? reference(node(entries, begin, at, depth + 1)) : new Uint8Array(0))
  }
  branch.push(new Uint8Array(0))
  return branch
}

function reference(n: TrieNode): RlpInput {
  const encoded = encodeRlp(n)
  return encoded.length < 32 ? n : keccak256(encoded)
}

/** Nibbles as bytes with the flag nibble: bit 1 marks a leaf, bit 0 an odd count. */
function hexPrefix(key: Uint8Array, from: number, to: number, leaf: boolean): Uint8Array {
  const odd = (to - from) & 1
  const out = new Uint8Array(((to - from) >> 1) + 1)
  out[0] = ((leaf ? 2 : 0) + odd) << 4
  if (odd) out[0] |= nibble(key, from)
  for (let i = from + odd, o = 1; i < to; i += 2, o++) out[o] = (nibble(key, i) << 4) | nibble(key, i + 1)
  return out
}
