/**
 * eth_subscribe over WebSocket and Unix socket. Events come from the chain after the state is readable, so a client that asks
 * about a block on its notification finds it. A subscription ends with its connection.
 */
import { randomBytes } from 'node:crypto'
import { RPC, type RpcContext, RpcError, type RpcMethods } from '../../../lib/adapters/jsonrpc/types.ts'
import { toHex } from '../../../lib/base/hex.ts'
import { LIMITS } from '../../../lib/base/limits.ts'
import type { RpcSetup } from './context.ts'
import { arg, asBoolean, asString, optional } from './decode.ts'
import { encodeHeader, encodeLog, encodeTransaction, placedLogs } from './encode.ts'
import { asLogQuery, matches } from './logs.ts'

/** Starts a stream of results; the answer stops it. */
type Source = (push: (result: unknown) => void) => () => void

const SESSION_KEY = 'eth_subscriptions'

export function subscriptionMethods(s: RpcSetup): RpcMethods {
  const { chain } = s

  function source(kind: string, params: readonly unknown[]): Source {
    switch (kind) {
      case 'newHeads':
        return push =>
          chain.onHead(e => {
            if (!e.removed) push(encodeHeader(e.header))
          })
      case 'logs': {
        const query = asLogQuery(params[1] ?? {}, 'filter')
        return push =>
          chain.onBlock(e => {
            for (const log of placedLogs(e.block, e.receipts)) if (matches(query, log)) push(encodeLog(log, e.removed))
          })
      }
      case 'newPendingTransactions': {
        const full = optional(params, 1, 'full', asBoolean) ?? false
        return push => chain.onPending(tx => push(full ? encodeTransaction(tx) : toHex(tx.hash)))
      }
      case 'syncing':
        // Blocks are made here, so there is nothing to catch up with: one answer, then silence.
        return push => {
          push(false)
          return () => {}
        }
      default:
        throw new RpcError(RPC.params, `no "${kind.slice(0, 40)}" subscription in eth namespace`)
    }
  }

  return {
    eth_subscribe: (params, ctx) => {
      const notify = ctx.notify
      if (notify === undefined) throw new RpcError(RPC.method, 'notifications not supported over this connection')
      const open = source(arg(params, 0, 'subscription name', asString), params)
      const running = sessionOf(ctx)
      if (running.size >= LIMITS.wsSubscriptions) {
        throw new RpcError(RPC.limit, `at most ${LIMITS.wsSubscriptions} subscriptions a connection`)
      }
      const id = toHex(randomBytes(16))
      const stop = open(answeredFirst(result => notify('eth_subscription', { subscription: id, result })))
      running.set(id, stop)
      return id
    },
    eth_unsubscribe: (params, ctx) => {
      const id = arg(params, 0, 'subscription id', asString)
      const running = sessionOf(ctx)
      const stop = running.get(id)
      if (stop === undefined) throw new RpcError(RPC.server, 'subscription not found')
      stop()
      return running.delete(id)
    }
  }
}

/** The running subscriptions of a connection, by id; all stop when it closes. */
function sessionOf(ctx: RpcContext): Map<string, () => void> {
  const known = ctx.session.get(SESSION_KEY) as Map<string, () => void> | undefined
  if (known !== undefined) return known
  const running = new Map<string, () => void>()
  ctx.session.set(SESSION_KEY, running)
  ctx.onClose(() => {
    for (const stop of running.values()) stop()
    running.clear()
  })
  return running
}

/** Holds results back until the answer with the subscription's id is on its way: clients drop ids they do not know yet. */
function answeredFirst(push: (result: unknown) => void): (result: unknown) => void {
  let held: unknown[] | undefined = []
  setImmediate(() => {
    const results = held ?? []
    held = undefined
    for (const result of results) push(result)
  })
  return result => {
    if (held === undefined) push(result)
    else held.push(result)
  }
}
