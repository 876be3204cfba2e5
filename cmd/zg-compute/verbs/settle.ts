/** `zg-compute settle`: has the running provider turn what it is owed into payment, and prints what was paid. */
import { createConnection } from 'node:net'
import { join } from 'node:path'
import { JsonSplitter } from '../../../lib/adapters/jsonrpc/unix.ts'
import { dataDir } from '../../../lib/adapters/paths.ts'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { LIMITS } from '../../../lib/base/limits.ts'
import { formatAmount, formatCount, shortHash } from '../../../lib/base/units.ts'
import { EXIT } from '../../../lib/cli/exit.ts'
import type { Options, VerbContext } from '../../../lib/cli/types.ts'
import { readNetwork } from '../../../lib/clients/network.ts'
import type { WireReport } from '../serve/admin.ts'

/** A settlement of many batches may take minutes: 50 users a block. */
const SETTLE_TIMEOUT_MS = 600_000

export async function settle(ctx: VerbContext, _args: string[], opts: Options): Promise<number> {
  const socket = await findSocket(ctx, opts)
  if (opts.writeOff !== undefined) return writeOff(ctx, socket, opts.writeOff as string)
  const report = await ask<WireReport>(socket, 'admin_settle', [])
  let fee = 0n
  let requests = 0
  for (const s of report.settled) {
    fee += BigInt(s.fee_neuron)
    requests += s.requests
    const user = ctx.tty ? shortHash(s.user) : s.user
    const rest = BigInt(s.unpaid_neuron) > 0n ? `, ${formatAmount(BigInt(s.unpaid_neuron))} 0G not paid` : ''
    const { number, ...fields } = s
    ctx.print(
      { type: 'settlement', settlement: number, ...fields },
      `${user}  ${formatAmount(BigInt(s.fee_neuron))} 0G for ${s.requests} requests, ${s.status}${rest}`
    )
  }
  for (const s of report.skipped) {
    ctx.print({ type: 'settlement_skipped', ...s }, null)
    ctx.warn(`${s.user}: ${formatAmount(BigInt(s.unsettled_neuron))} 0G not settled: ${s.reason}`)
  }
  const last = report.settled.at(-1)
  const block = last?.blockNumber ?? null
  ctx.print(
    {
      type: 'settled',
      users: report.settled.length,
      requests,
      fee_neuron: fee.toString(),
      unsettled_neuron: report.unsettled_neuron,
      txHash: last?.txHash ?? null,
      blockNumber: block
    },
    report.settled.length === 0
      ? 'nothing to settle'
      : `${formatAmount(fee)} 0G paid${block === null ? '' : `, block ${formatCount(block)}`}`
  )
  return report.skipped.length > 0 || report.settled.some(s => s.status !== 'SUCCESS') ? 1 : 0
}

async function writeOff(ctx: VerbContext, socket: string, user: string): Promise<number> {
  const r = await ask<{ user: string; requests: number; fee_neuron: string }>(socket, 'admin_writeOff', [user])
  ctx.print(
    { type: 'written_off', ...r },
    `${formatAmount(BigInt(r.fee_neuron))} 0G of ${r.requests} requests given up`
  )
  return r.requests === 0 ? 1 : 0
}

/** Flag, else the named directory, else the running network's provider, else the user's own. */
async function findSocket(ctx: VerbContext, opts: Options): Promise<string> {
  if (opts.socket !== undefined) return opts.socket as string
  if (opts.dir !== undefined) return join(opts.dir as string, 'admin.sock')
  const network = await readNetwork(ctx.network)
  if (network !== undefined) return join(network.dataDir, 'compute', 'admin.sock')
  return join(dataDir(ctx.network, 'compute'), 'admin.sock')
}

/** One call on the provider's socket. @throws {ZgError} by the provider's own code, ERR_UNAVAILABLE, ERR_TIMEOUT. */
function ask<T>(path: string, method: string, params: unknown[]): Promise<T> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(path)
    const splitter = new JsonSplitter(LIMITS.wsMessageBytes)
    const timer = setTimeout(
      () => end(new ZgError('ERR_TIMEOUT', 'the provider did not answer in time', { hint: 'it goes on by itself' })),
      SETTLE_TIMEOUT_MS
    )
    const end = (err: Error): void => {
      clearTimeout(timer)
      socket.destroy()
      reject(err)
    }
    socket.once('error', err =>
      end(
        new ZgError('ERR_UNAVAILABLE', `no provider runs at '${path}'`, {
          cause: err,
          hint: "run 'zg-compute serve --account NAME', or name its directory with '--dir DIR'"
        })
      )
    )
    socket.once('close', () => end(new ZgError('ERR_UNAVAILABLE', 'the provider closed the connection')))
    socket.once('connect', () => socket.write(JSON.stringify({ jsonrpc: '2.0', id: 1, method, params })))
    socket.on('data', data => {
      const [text] = splitter.push(data) ?? []
      if (text === undefined) return
      try {
        resolve(answerOf<T>(JSON.parse(text)))
        clearTimeout(timer)
        socket.destroy()
      } catch (err) {
        end(err instanceof ZgError ? err : new ZgError('ERR_PROTOCOL', `the provider answered ${messageOf(err)}`))
      }
    })
  })
}

function answerOf<T>(answer: { result?: T; error?: { message?: string; data?: { code?: string; hint?: string } } }): T {
  if (answer.error === undefined) return answer.result as T
  const { message, data } = answer.error
  const code = data?.code !== undefined && Object.hasOwn(EXIT, data.code) ? (data.code as keyof typeof EXIT) : undefined
  throw new ZgError(code ?? 'ERR_UNAVAILABLE', message ?? 'the provider failed', { hint: data?.hint })
}
