/** `zg-store repair` and `scrub`: long work of the operator's own nodes, asked for on their admin sockets and followed to its end. */
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { dataDir } from '../../../lib/adapters/paths.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import { formatSize } from '../../../lib/base/units.ts'
import type { Options, VerbContext, VerbFn } from '../../../lib/cli/types.ts'
import { readNetwork } from '../../../lib/clients/network.ts'
import { repairNode, scrubNode } from '../../../lib/clients/store/admin.ts'
import { parseRoot } from './common.ts'

export const repair: VerbFn = (ctx, args, opts) => {
  const roots: string[] = args.map(a => toHex(parseRoot(a)))
  return onEach(ctx, opts, async socket => {
    const bar = ctx.progress('repair', { unit: 'items' })
    const r = await repairNode(socket, roots, { signal: ctx.signal, onProgress: (done, all) => bar.update(done, all) })
    bar.done()
    const lost = Object.keys(r.alarms).filter(root => roots.length === 0 || roots.includes(root))
    const traffic = r.trafficPerLostByte === null ? '' : `, ${r.trafficPerLostByte.toFixed(2)} bytes moved for each`
    ctx.print(
      {
        type: 'repair',
        socket,
        waited: r.waited,
        pending: r.pending,
        repaired_bytes: r.repairedBytes,
        traffic_per_lost_byte: r.trafficPerLostByte,
        unrepairable: lost
      },
      `${socket}  ${formatSize(r.repairedBytes)} restored${traffic}, ${r.pending} stripes wait`
    )
    for (const root of lost) ctx.warn(`${ctx.tool}: ${root} cannot be repaired: ${String(r.alarms[root])}`)
    return lost.length === 0
  })
}

export const scrub: VerbFn = (ctx, _args, opts) =>
  onEach(ctx, opts, async socket => {
    const bar = ctx.progress('scrub', { unit: 'items' })
    const r = await scrubNode(socket, { signal: ctx.signal })
    bar.done(`${r.shards} shards`)
    ctx.print(
      { type: 'scrub', socket, shards: r.shards, damaged: r.damaged, stripes: r.stripes, sums_wrong: r.sumsWrong },
      `${socket}  ${r.shards} shards read, ${r.damaged} damaged, ${r.sumsWrong} of ${r.stripes} stripes with wrong parity`
    )
    return r.damaged + r.sumsWrong === 0
  })

/** Does something on every node at once; 1 when any of them says no or does not answer. */
async function onEach(ctx: VerbContext, opts: Options, work: (socket: string) => Promise<boolean>): Promise<number> {
  const sockets = await findSockets(ctx, opts.socket as string[] | undefined)
  if (sockets.length === 0) {
    throw new ZgError('ERR_NO_NETWORK', 'no storage node is running here', {
      hint: "give '--socket PATH' of a node, or run 'zg-devnet up'"
    })
  }
  const results = await Promise.allSettled(sockets.map(work))
  const failed = results.filter(r => r.status === 'rejected')
  // With several nodes one that is down must not hide what the others did.
  if (failed.length === results.length) throw failed[0]!.reason
  for (const f of failed) {
    if (ctx.signal.aborted || !(f.reason instanceof ZgError)) throw f.reason
    ctx.warn(`${ctx.tool}: ${f.reason.message}`)
  }
  return failed.length === 0 && results.every(r => r.status === 'fulfilled' && r.value) ? 0 : 1
}

/** The sockets named by flag, else those of all nodes of the running network, else that of a node with the default directory. */
export async function findSockets(ctx: VerbContext, given: string[] | undefined): Promise<string[]> {
  if (given !== undefined && given.length > 0) return given
  const network = await readNetwork(ctx.network)
  const dirs = network === undefined ? [] : readdirSync(network.dataDir).filter(n => /^store-[0-9]+$/.test(n))
  const found = dirs.map(n => join(network!.dataDir, n, 'admin.sock')).filter(p => existsSync(p))
  const own = dataDir(ctx.network, 'store-node', 'admin.sock')
  if (found.length === 0 && existsSync(own)) found.push(own)
  return found
}
