/** Recomputes what a chain claims, in a test: state root from every account and slot, hashes, links and list roots of its blocks. */
import { encodeHeader } from '../../cmd/zg-chain/core/block.ts'
import type { ZgChain } from '../../cmd/zg-chain/core/chain.ts'
import { EMPTY_CODE_HASH } from '../../cmd/zg-chain/core/hash.ts'
import { accountRoot, receiptsRoot, storageRoot, transactionsRoot } from '../../cmd/zg-chain/core/trie-root.ts'
import { accounts, slots } from '../../cmd/zg-chain/state-file.ts'
import { equalBytes } from '../../lib/base/bytes.ts'
import { ZgError } from '../../lib/base/errors.ts'
import { toHex } from '../../lib/base/hex.ts'
import { keccak256 } from '../../lib/crypto/hash.ts'

/** The root over all accounts; each account's storage root and code are checked on the way. @throws {ZgError} ERR_CORRUPT. */
export async function verifyState(
  chain: ZgChain,
  progress: (accounts: number) => void = () => {}
): Promise<{ root: Uint8Array; accounts: number; slots: number }> {
  const all: Parameters<typeof accountRoot>[0][number][] = []
  let slotCount = 0
  for await (const account of accounts(chain)) {
    const storage: { hash: Uint8Array; value: Uint8Array }[] = []
    for await (const slot of slots(chain, account)) storage.push(slot)
    slotCount += storage.length
    const name = toHex(account.address ?? account.hash)
    if (!equalBytes(storageRoot(storage), account.storageRoot)) throw wrong(`storage root of ${name}`)
    if (account.address !== undefined && !equalBytes(account.codeHash, EMPTY_CODE_HASH)) {
      const code = chain.native.code(account.address, undefined)
      if (!equalBytes(keccak256(code), account.codeHash)) throw wrong(`code of ${name}`)
    }
    all.push(account)
    if (all.length % 1_000 === 0) progress(all.length)
  }
  const root = accountRoot(all)
  // Development changes since the head have a root that no header names; the proof of any account knows it.
  const { accountProof } = await chain.state({ kind: 'block', header: chain.head() }).proof(new Uint8Array(20), [])
  const claimed = accountProof[0] === undefined ? chain.head().stateRoot : keccak256(accountProof[0])
  if (!equalBytes(root, claimed)) throw wrong(`state root ${toHex(claimed)}, computed ${toHex(root)}`)
  return { root, accounts: all.length, slots: slotCount }
}

/** The last `count` blocks, the newest first. @returns how many were there. @throws {ZgError} ERR_CORRUPT. */
export async function verifyBlocks(chain: ZgChain, count: number, signal?: AbortSignal): Promise<number> {
  let checked = 0
  for (let n = chain.head().number; n >= 0 && checked < count; n--, checked++) {
    signal?.throwIfAborted()
    const stored = await chain.stored(n)
    if (stored === undefined) throw wrong(`block ${n} (it is missing)`)
    const { header, transactions } = stored.block
    if (!equalBytes(keccak256(encodeHeader(header)), header.hash)) throw wrong(`hash of block ${n}`)
    if (n > 0 && !equalBytes(chain.header(n - 1)?.hash ?? new Uint8Array(0), header.parentHash))
      throw wrong(`parent of block ${n}`)
    if (!equalBytes(transactionsRoot(transactions), header.transactionsRoot)) throw wrong(`transactions of block ${n}`)
    if (!equalBytes(receiptsRoot(stored.receipts), header.receiptsRoot)) throw wrong(`receipts of block ${n}`)
    for (const [i, tx] of transactions.entries()) {
      const place = chain.native.locate(tx.hash)
      if (place?.number !== n || place.index !== i) throw wrong(`index of transaction ${toHex(tx.hash)}`)
    }
  }
  return checked
}

function wrong(what: string): ZgError {
  return new ZgError('ERR_CORRUPT', `wrong ${what}`, {
    hint: 'restore the data directory from a copy, or make the chain anew'
  })
}
