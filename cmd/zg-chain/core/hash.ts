/** The one hash of the chain, in one place so that a faster one can take its place. */
import { keccak_256 } from '@noble/hashes/sha3.js'

/** keccak-256; 32 bytes. */
export function keccak256(data: Uint8Array): Uint8Array {
  return keccak_256(data)
}

/** keccak256(''): the code hash of an account without code. */
export const EMPTY_CODE_HASH = keccak256(new Uint8Array(0))
/** keccak256(rlp('')): the root of an empty trie. */
export const EMPTY_TRIE_ROOT = keccak256(Uint8Array.of(0x80))
/** keccak256(rlp([])): the ommers hash of every block. */
export const EMPTY_LIST_HASH = keccak256(Uint8Array.of(0xc0))
