/**
 * The Merkle-Patricia root of a list (transactions, receipts, withdrawals): the trie of rlp(index) → value, built from the sorted keys in
 * one pass instead of by insertion, so every node is hashed once.
 */
import { compareBytes } from '../base/bytes.ts'
import { keccak256 } from '../crypto/hash.ts'
import { encodeRlp } from './rlp.ts'

const EMPTY_TRIE_ROOT = keccak256(Uint8Array.of(0x80))

/** A node before encoding; a child under 32 bytes stands in its parent as it is. */
type TrieNode = (Uint8Array | TrieNode)[]
interface Entry {
  nibbles: number[]
  value: Uint8Array
}

/** Root of the trie rlp(i) → values[i]; O(n) hashes. Source: Yellow Paper, appendix D and section 4.4.2. */
export function orderedRoot(values: readonly Uint8Array[]): Uint8Array {
  if (values.length === 0) return EMPTY_TRIE_ROOT
  const entries = values
    .map((value, i) => ({ key: encodeRlp(i), value }))
    .sort((a, b) => compareBytes(a.key, b.key))
    .map(({ key, value }) => ({ nibbles: [...key].flatMap(b => [b >> 4, b & 15]), value }))
  return keccak256(encodeRlp(node(entries, 0)))
}

function node(entries: Entry[], depth: number): TrieNode {
  const first = entries[0]!
  if (entries.length === 1) return [hexPrefix(first.nibbles.slice(depth), true), first.value]
  const last = entries[entries.length - 1]!
  let shared = depth
  // Sorted keys: what the first and the last share all share. rlp(index) is prefix free, so no key ends inside another.
  while (first.nibbles[shared] === last.nibbles[shared]) shared++
  if (shared > depth) return [hexPrefix(first.nibbles.slice(depth, shared), false), reference(node(entries, shared))]
  const branch: TrieNode = []
  let at = 0
  for (let n = 0; n < 16; n++) {
    const from = at
    while (at < entries.length && entries[at]!.nibbles[depth] === n) at++
    branch.push(at > from ? reference(node(entries.slice(from, at), depth + 1)) : new Uint8Array(0))
  }
  branch.push(new Uint8Array(0))
  return branch
}

function reference(n: TrieNode): Uint8Array | TrieNode {
  const encoded = encodeRlp(n)
  return encoded.length < 32 ? n : keccak256(encoded)
}

/** Nibbles as bytes with the flag nibble: bit 1 marks a leaf, bit 0 an odd count. */
function hexPrefix(nibbles: number[], leaf: boolean): Uint8Array {
  const odd = nibbles.length & 1
  const flag = (leaf ? 2 : 0) + odd
  const all = odd ? [flag, ...nibbles] : [flag, 0, ...nibbles]
  return Uint8Array.from({ length: all.length / 2 }, (_, i) => (all[2 * i]! << 4) | all[2 * i + 1]!)
}
