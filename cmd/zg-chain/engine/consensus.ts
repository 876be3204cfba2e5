/**
 * zg-chain's consensus side over an external execution client. The one validator's turn, block after block: name the head and what the
 * next block should be made of, fetch the block, hand it back to be checked, make it the head. Everything here can fail half way and
 * begins anew from the client's own head: that is the only state there is.
 */
import { RpcError } from '../../../lib/adapters/jsonrpc/types.ts'
import { concat } from '../../../lib/base/bytes.ts'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { fromHex, type Hex, toHex, toQuantity } from '../../../lib/base/hex.ts'
import { keccak256 } from '../../../lib/crypto/hash.ts'
import type { Logger } from '../../../lib/ops/log.ts'
import type { Clock } from '../../../lib/ports/clock.ts'
import type { Random } from '../../../lib/ports/random.ts'
import type { EngineClient } from './client.ts'
import { ENGINE } from './methods.ts'

export interface ConsensusOptions {
  client: EngineClient
  clock: Clock
  random: Random
  log: Logger
  blockTimeMs: number
  feeRecipient: Uint8Array
  onBlock?: (block: { number: number; hash: Hex; transactions: number }) => void
}

const NO_ROOT: Hex = `0x${'00'.repeat(32)}`
/** Wait after a failure, doubled up to the bound. */
const RETRY_MS = 250
const MAX_RETRY_MS = 8_000
/** How long before its time a block is begun: clients that build in the background need some. */
const AHEAD_MS = 200

/** How the consensus side stands. */
export interface ConsensusState {
  height: number
  head: Hex | undefined
  lastBlockMs: number | undefined
  /** Why the last turn failed; undefined when it did not. */
  trouble: string | undefined
}

/** Makes blocks until the signal fires; outages of the client are waited out. @throws {ZgError} ERR_PROTOCOL when it calls its own block invalid. */
export async function runConsensus(opts: ConsensusOptions, state: ConsensusState, signal: AbortSignal): Promise<void> {
  let wait = RETRY_MS
  let due = opts.clock.monotonic() + opts.blockTimeMs
  while (!signal.aborted) {
    try {
      await turn(opts, state, due, signal)
      if (state.trouble !== undefined) opts.log.info('the execution client answers again')
      state.trouble = undefined
      wait = RETRY_MS
      // Beats missed while a block took long are not made up for.
      due = Math.max(due + opts.blockTimeMs, opts.clock.monotonic())
    } catch (err) {
      if (signal.aborted) return
      if (err instanceof ZgError && err.code === 'ERR_REJECTED') throw err
      if (state.trouble === undefined) opts.log.warn('no block could be made', { reason: messageOf(err) })
      state.trouble = messageOf(err)
      await sleep(opts.clock, wait, signal)
      wait = Math.min(wait * 2, MAX_RETRY_MS)
      due = opts.clock.monotonic() + opts.blockTimeMs
    }
  }
}

async function turn(opts: ConsensusOptions, state: ConsensusState, due: number, signal: AbortSignal): Promise<void> {
  const { client, clock } = opts
  const head = await client.head()
  state.height = Number(head.number)
  state.head = head.hash
  const prevRandao = toHex(keccak256(concat(fromHex(head.hash), opts.random.bytes(32))))
  const parentTime = Number(head.timestamp)
  await sleep(clock, due - clock.monotonic() - Math.min(AHEAD_MS, opts.blockTimeMs / 2), signal)
  const wall = Math.floor((clock.now() + Math.max(0, due - clock.monotonic())) / 1000)
  const begun = await begin(opts, head.hash, prevRandao, Math.max(wall, parentTime), parentTime, signal)
  await sleep(clock, due - clock.monotonic(), signal)
  if (signal.aborted) return
  const built = await client.getPayload(begun)
  const { payload } = built
  const status = await client.newPayload(built, NO_ROOT)
  mustBeValid(status, payload.blockHash)
  const chosen = await client.forkchoice(payload.blockHash)
  mustBeValid(chosen.payloadStatus, payload.blockHash)
  state.height = Number(payload.blockNumber)
  state.head = payload.blockHash
  state.lastBlockMs = clock.now()
  opts.onBlock?.({ number: state.height, hash: payload.blockHash, transactions: payload.transactions.length })
}

/** Starts a build. Clients that want growing seconds (geth) get the next one, once it has come. */
async function begin(
  opts: ConsensusOptions,
  head: Hex,
  prevRandao: Hex,
  timestamp: number,
  parentTime: number,
  signal: AbortSignal
): Promise<Hex> {
  const attributes = (seconds: number) => ({
    timestamp: toQuantity(seconds),
    prevRandao,
    suggestedFeeRecipient: toHex(opts.feeRecipient),
    withdrawals: [],
    parentBeaconBlockRoot: NO_ROOT
  })
  let answer: Awaited<ReturnType<EngineClient['forkchoice']>>
  try {
    answer = await opts.client.forkchoice(head, attributes(timestamp))
  } catch (err) {
    if (!(err instanceof RpcError) || err.code !== ENGINE.attributes || timestamp > parentTime) throw err
    await sleep(opts.clock, (parentTime + 1) * 1000 - opts.clock.now(), signal)
    answer = await opts.client.forkchoice(head, attributes(parentTime + 1))
  }
  if (answer.payloadStatus.status === 'SYNCING') throw new ZgError('ERR_UNAVAILABLE', 'the execution client is syncing')
  mustBeValid(answer.payloadStatus, head)
  if (answer.payloadId === null) throw new ZgError('ERR_PROTOCOL', 'the execution client began no payload')
  return answer.payloadId
}

function mustBeValid(status: { status: string; validationError: string | null }, hash: Hex): void {
  if (status.status === 'VALID') return
  if (status.status === 'SYNCING' || status.status === 'ACCEPTED')
    throw new ZgError('ERR_UNAVAILABLE', `the execution client has not checked ${hash}: ${status.status}`)
  throw new ZgError('ERR_REJECTED', `the execution client calls block ${hash} invalid`, {
    facts: status.validationError === null ? [] : [status.validationError.slice(0, 500)]
  })
}

function sleep(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  if (ms <= 0 || signal.aborted) return Promise.resolve()
  return new Promise(resolve => {
    const done = (): void => {
      cancel()
      signal.removeEventListener('abort', done)
      resolve()
    }
    const cancel = clock.after(ms, done)
    signal.addEventListener('abort', done, { once: true })
  })
}
