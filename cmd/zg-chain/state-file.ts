/**
 * `--state FILE`: the state of a devnet in a file, in the form of a genesis (geth's genesis.json), so that it also serves
 * `zg-chain init --genesis` and other nodes. A node that starts from it begins at block 0 with all accounts, code and storage.
 */
import { open, rename } from 'node:fs/promises'
import { systemCode, ZgError } from '../../lib/base/errors.ts'
import { toHex } from '../../lib/base/hex.ts'
import type { AllocEntry } from '../../lib/contracts/genesis.ts'
import type { Chain } from './core/api.ts'
import { asking } from './core/failure.ts'
import { formatGenesis, type Genesis } from './core/genesis.ts'
import { EMPTY_CODE_HASH, EMPTY_TRIE_ROOT } from './core/hash.ts'
import { decodeAccountRange, decodeStorageRange, type RangeAccount } from './core/records.ts'
import { readGenesisFile } from './genesis-file.ts'

/** Entries of one look into the engine. */
const PAGE = 1_000
const START = new Uint8Array(32)

/** The genesis in a state file; undefined when there is no file yet. @throws {ZgError} ERR_CONFIG. */
export async function readStateFile(path: string): Promise<Genesis | undefined> {
  try {
    return await readGenesisFile(path)
  } catch (err) {
    if (systemCode(err) === 'ENOENT') return undefined
    throw err
  }
}

/** Writes the head's state beside the file, syncs, renames: a crash leaves the old one. */
export async function writeStateFile(path: string, chain: Chain, genesis: Genesis): Promise<void> {
  const head = chain.head()
  const text = formatGenesis({
    ...genesis,
    timestamp: head.timestamp,
    gasLimit: head.gasLimit,
    baseFeePerGas: chain.nextBaseFee(),
    alloc: await allocOf(chain)
  })
  const part = `${path}.part`
  const file = await open(part, 'w', 0o600)
  try {
    await file.writeFile(text)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(part, path)
}

/** Every account of the head. */
export async function allocOf(chain: Chain): Promise<AllocEntry[]> {
  const { native } = chain
  const alloc: AllocEntry[] = []
  for await (const account of accounts(chain)) {
    const { address } = account
    if (address === undefined) throw noPreimage(account.hash)
    const storage: AllocEntry['storage'] = []
    for await (const { hash, slot, value } of slots(chain, account)) {
      if (slot === undefined) throw noPreimage(hash)
      storage.push([slot, value])
    }
    const hasCode = toHex(account.codeHash) !== toHex(EMPTY_CODE_HASH)
    const code = hasCode ? native.code(address, undefined) : new Uint8Array(0)
    alloc.push({ address, balance: account.balance, nonce: account.nonce, code, storage })
  }
  return alloc
}

/** The head's accounts in order of their hashes. */
export async function* accounts(chain: Pick<Chain, 'native'>): AsyncGenerator<RangeAccount> {
  for (let start: Uint8Array | undefined = START; start !== undefined; ) {
    const page = decodeAccountRange(await asking(chain.native.accountRange(start, PAGE, undefined)))
    yield* page.accounts
    start = page.next
  }
}

/** An account's storage in order of the slots' hashes; values have 32 bytes. */
export async function* slots(
  chain: Pick<Chain, 'native'>,
  account: RangeAccount
): AsyncGenerator<{ hash: Uint8Array; slot: Uint8Array | undefined; value: Uint8Array }> {
  if (toHex(account.storageRoot) === toHex(EMPTY_TRIE_ROOT)) return
  if (account.address === undefined) throw noPreimage(account.hash)
  for (let start: Uint8Array | undefined = START; start !== undefined; ) {
    const page = decodeStorageRange(await asking(chain.native.storageRange(account.address, start, PAGE, undefined)))
    for (const { hash, slot, value } of page.slots) {
      const padded = new Uint8Array(32)
      padded.set(value, 32 - value.length)
      yield { hash, slot, value: padded }
    }
    start = page.next
  }
}

function noPreimage(hash: Uint8Array): ZgError {
  return new ZgError('ERR_NOT_FOUND', `the address or slot behind ${toHex(hash)} is not known`)
}
