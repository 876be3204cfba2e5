/**
 * What a block really added. While a trie is updated key by key it writes every version of the upper nodes; only those that
 * hang on the final root are kept, which cuts what is synced by about two thirds.
 */
import { RLP } from '@ethereumjs/rlp'
import { EMPTY_CODE_HASH } from '../../cmd/zg-chain/core/hash.ts'

const EMPTY_CODE_HEX = Buffer.from(EMPTY_CODE_HASH).toString('hex')
const CODE_PREFIX = '63'

type Item = Uint8Array | Item[]

/**
 * Nodes and code of `written` that are reachable from `rootHex`. Nodes not in `written` are older and complete, so the walk
 * stops there. O(nodes kept).
 */
export function reachable(written: ReadonlyMap<string, Uint8Array>, root: Uint8Array): Map<string, Uint8Array> {
  const kept = new Map<string, Uint8Array>()
  const todo: { hex: string; accounts: boolean }[] = [{ hex: hexOf(root), accounts: true }]
  for (let next = todo.pop(); next !== undefined; next = todo.pop()) {
    const value = written.get(next.hex)
    if (value === undefined || kept.has(next.hex)) continue
    kept.set(next.hex, value)
    visit(RLP.decode(value) as Item[], next.accounts)
  }
  return kept

  function visit(node: Item[], accounts: boolean): void {
    if (node.length === 17) {
      for (let i = 0; i < 16; i++) child(node[i]!, accounts)
      return
    }
    const [path, value] = node as [Uint8Array, Item]
    const isLeaf = ((path[0]! >> 4) & 2) !== 0
    if (!isLeaf) child(value, accounts)
    else if (accounts) account(value as Uint8Array)
  }

  function child(item: Item, accounts: boolean): void {
    if (Array.isArray(item)) visit(item, accounts)
    else if (item.length === 32) todo.push({ hex: hexOf(item), accounts })
  }

  function account(encoded: Uint8Array): void {
    const [, , storageRoot, codeHash] = RLP.decode(encoded) as Uint8Array[]
    todo.push({ hex: hexOf(storageRoot!), accounts: false })
    const codeHex = hexOf(codeHash!)
    const code = codeHex === EMPTY_CODE_HEX ? undefined : written.get(CODE_PREFIX + codeHex)
    if (code !== undefined) kept.set(CODE_PREFIX + codeHex, code)
  }
}

function hexOf(b: Uint8Array): string {
  return Buffer.from(b.buffer, b.byteOffset, b.byteLength).toString('hex')
}
