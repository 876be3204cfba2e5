/** keccak-256, and its values for nothing, which stand in headers and accounts. */
import { fromHex } from '../../../lib/base/hex.ts'

export { keccak256 } from '../../../lib/crypto/hash.ts'

// Written out: hashing at import would load the native part before the command line has said where warnings go.

/** keccak256(''): the code hash of an account without code. */
export const EMPTY_CODE_HASH = fromHex('0xc5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470')
/** keccak256(rlp('')): the root of an empty trie. */
export const EMPTY_TRIE_ROOT = fromHex('0x56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421')
/** keccak256(rlp([])): the ommers hash of every block. */
export const EMPTY_LIST_HASH = fromHex('0x1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347')
