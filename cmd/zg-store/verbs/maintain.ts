/** `zg-store repair` and `scrub`: long work of the operator's own nodes, asked for on their admin sockets and followed to its end. */
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { dataDir } from '../../../lib/adapters/paths.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import type { Options, VerbContext, VerbFn } from '../../../lib/cli/types.ts'
import { readNetwork } from '../../../lib/clients/network.ts'
import { type JobState, runJob } from '../../../lib/clients/store/admin.ts'
import { parseRoot } from './common.ts'

export const repair: VerbFn = (ctx, args, opts) => maintain(ctx, args, opts, 'repair')
export const scrub: VerbFn = (ctx, args, opts) => maintain(ctx, args, opts, 'scrub')

async function maintain(ctx: VerbContext, args: string[], opts: Options, kind: 'repair' | 'scrub'): Promise<number> {
  const keys = args.length === 0 ? [null] : args.map(keyOf)
  const sockets = await findSockets(ctx, opts)
  let exit = 0
  for (const key of keys) {
    const results = await Promise.allSettled(sockets.map(socket => follow(ctx, socket, kind, key)))
    for (const r of results) {
      if (r.status === 'rejected') {
        // With several nodes one that is down must not hide what the others did.
        if (sockets.length === 1 || ctx.signal.aborted || !(r.reason instanceof ZgError)) throw r.reason
        ctx.warn(`${ctx.tool}: ${r.reason.message}`)
        exit = 1
      } else if (!clean(r.value)) exit = 1
    }
    if (results.every(r => r.status === 'rejected')) throw (results[0] as PromiseRejectedResult).reason
  }
  return exit
}

async function follow(
  ctx: VerbContext,
  socket: string,
  kind: 'repair' | 'scrub',
  key: string | number | null
): Promise<JobState> {
  const bar = ctx.progress(kind, { unit: 'items' })
  const state = await runJob(socket, kind === 'repair' ? 'admin_repair' : 'admin_scrub', key, {
    signal: ctx.signal,
    onProgress: s => bar.update(count(s.done), typeof s.total === 'number' ? s.total : undefined)
  })
  bar.done()
  const { id, type: _, ...rest } = state
  const record = { socket, key, job: id, ...rest }
  if (kind === 'repair') ctx.print({ type: 'repair', ...record }, line(kind, socket, state))
  else ctx.print({ type: 'scrub', ...record }, line(kind, socket, state))
  return state
}

/** Nothing is left that is damaged. */
function clean(s: JobState): boolean {
  return s.state !== 'failed' && count(s.unrepairable) === 0
}

function line(kind: string, socket: string, s: JobState): string {
  const facts = Object.entries(s)
    .filter(([name, v]) => typeof v === 'number' && name !== 'id')
    .map(([name, v]) => `${name.replaceAll('_', ' ')} ${v}`)
  const end = s.message === undefined ? '' : `: ${s.message}`
  return `${kind} ${s.state}  ${facts.join(', ')}  ${socket}${end}`
}

function count(v: unknown): number {
  return typeof v === 'number' ? v : 0
}

function keyOf(text: string): string | number {
  return /^[0-9]{1,15}$/.test(text) ? Number(text) : toHex(parseRoot(text))
}

/** The sockets named by flag, else those of all nodes of the running network, else that of a node with the default directory. */
async function findSockets(ctx: VerbContext, opts: Options): Promise<string[]> {
  const given = opts.socket as string[] | undefined
  if (given !== undefined && given.length > 0) return given
  const network = await readNetwork(ctx.network)
  const dirs = network === undefined ? [] : readdirSync(network.dataDir).filter(n => /^store-[0-9]+$/.test(n))
  const found = dirs.map(n => join(network!.dataDir, n, 'admin.sock')).filter(p => existsSync(p))
  const own = dataDir(ctx.network, 'store-node', 'admin.sock')
  if (found.length === 0 && existsSync(own)) found.push(own)
  if (found.length > 0) return found
  throw new ZgError('ERR_NO_NETWORK', 'no storage node is running here', {
    hint: "give '--socket PATH' of a node, or run 'zg-devnet up'"
  })
}
