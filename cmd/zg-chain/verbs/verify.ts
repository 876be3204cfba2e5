/**
 * `zg-chain verify`: is what lies in a data directory what it says it is? The block log from end to end (hashes link, bodies and receipts
 * give the roots of their headers), and the state root of the head computed anew from every account and slot, by other code than the
 * engine's.
 */
import { equalBytes } from '../../../lib/base/bytes.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import type { VerbContext, VerbFn } from '../../../lib/cli/types.ts'
import { keccak256 } from '../../../lib/crypto/hash.ts'
import type { ZgChain } from '../core/chain.ts'
import { EMPTY_TRIE_ROOT } from '../core/hash.ts'
import { decodeAccountRange, decodeRecord, decodeStorageRange, type RangeAccount } from '../core/records.ts'
import { accountRoot, receiptsRoot, storageRoot, transactionsRoot, withdrawalsRoot } from '../core/trie-root.ts'
import { number } from '../print.ts'
import { openDirectory } from './directory.ts'

/** Entries of one page of the state. */
const PAGE = 4_096

export const verify: VerbFn = async (ctx, _args, opts) => {
  const at = await openDirectory(ctx, opts)
  try {
    const head = at.chain.head()
    const from = (opts.fromBlock as number | undefined) ?? 0
    const transactions = await verifyBlocks(ctx, at.chain, Math.min(from, head.number), head.number)
    const state = await verifyState(ctx, at.chain)
    const good = equalBytes(state.root, head.stateRoot)
    ctx.print(
      {
        type: 'verify',
        dir: at.dir,
        blockNumber: head.number,
        hash: toHex(head.hash),
        stateRoot: toHex(head.stateRoot),
        computed: toHex(state.root),
        accounts: state.accounts,
        slots: state.slots,
        transactions,
        good
      },
      good
        ? `block ${number(ctx, head.number)} is whole: ${number(ctx, transactions)} transactions, ${number(ctx, state.accounts)} accounts, ${number(ctx, state.slots)} slots`
        : `the state of block ${head.number} has root ${toHex(state.root)}, its header says ${toHex(head.stateRoot)}`
    )
    return good ? 0 : 1
  } finally {
    await at.close()
  }
}

async function verifyBlocks(ctx: VerbContext, chain: ZgChain, from: number, to: number): Promise<number> {
  const progress = ctx.progress('blocks', { total: to - from + 1, unit: 'items' })
  let transactions = 0
  let parent: Uint8Array | undefined
  for (let n = from; n <= to; n++) {
    ctx.signal.throwIfAborted()
    const bad = (what: string): ZgError => new ZgError('ERR_CORRUPT', `block ${n}: ${what}`)
    const record = await chain.native.block(n)
    if (record === undefined) throw bad('it is missing')
    const { block, receipts } = decodeRecord(record)
    const { header } = block
    if (header.number !== n) throw bad(`its header says ${header.number}`)
    if (parent !== undefined && !equalBytes(parent, header.parentHash))
      throw bad('it does not follow on the one before')
    if (chain.native.numberOf(header.hash) !== n) throw bad('its hash is not in the index')
    // The genesis has neither.
    if (n > 0) {
      if (!equalBytes(transactionsRoot(block.transactions), header.transactionsRoot))
        throw bad('its transactions have another root')
      if (!equalBytes(receiptsRoot(receipts), header.receiptsRoot)) throw bad('its receipts have another root')
      const withdrawals = block.withdrawals ?? []
      if (header.withdrawalsRoot !== undefined && !equalBytes(withdrawalsRoot(withdrawals), header.withdrawalsRoot))
        throw bad('its withdrawals have another root')
    }
    parent = header.hash
    transactions += block.transactions.length
    progress.update(n - from + 1)
  }
  progress.done()
  return transactions
}

async function verifyState(
  ctx: VerbContext,
  chain: ZgChain
): Promise<{ root: Uint8Array; accounts: number; slots: number }> {
  const progress = ctx.progress('state', { unit: 'items' })
  const all: RangeAccount[] = []
  let slots = 0
  const number = chain.head().number
  let start: Uint8Array | undefined = new Uint8Array(32)
  while (start !== undefined) {
    ctx.signal.throwIfAborted()
    const page: ReturnType<typeof decodeAccountRange> = decodeAccountRange(
      await chain.native.accountRange(start, PAGE, number)
    )
    for (const account of page.accounts) {
      if (!equalBytes(account.storageRoot, EMPTY_TRIE_ROOT)) slots += await verifyStorage(chain, account, number)
      all.push(account)
    }
    progress.update(all.length)
    start = page.next
  }
  progress.done()
  return { root: accountRoot(all), accounts: all.length, slots }
}

async function verifyStorage(chain: ZgChain, account: RangeAccount, number: number): Promise<number> {
  if (account.address === undefined || !equalBytes(keccak256(account.address), account.hash))
    throw new ZgError('ERR_CORRUPT', `the address of account ${toHex(account.hash)} is not known`)
  const slots: { hash: Uint8Array; value: Uint8Array }[] = []
  let start: Uint8Array | undefined = new Uint8Array(32)
  while (start !== undefined) {
    const page: ReturnType<typeof decodeStorageRange> = decodeStorageRange(
      await chain.native.storageRange(account.address, start, PAGE, number)
    )
    slots.push(...page.slots)
    start = page.next
  }
  if (!equalBytes(storageRoot(slots), account.storageRoot))
    throw new ZgError('ERR_CORRUPT', `the storage of ${toHex(account.address)} has another root than its account says`)
  return slots.length
}
