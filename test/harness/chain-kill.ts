/**
 * Kills a node of zg-chain with SIGKILL at random moments while it takes transactions and makes blocks, and looks at what is left: the
 * whole state recomputed by `zg-chain verify`, every block that was reported, every transaction whose hash was answered.
 */
import { fromHex, toHex } from '../../lib/base/hex.ts'
import { signTransaction } from '../../lib/clients/sign.ts'
import { DEV_ACCOUNTS } from '../../lib/crypto/dev-accounts.ts'
import { dice } from '../oracle/programs.ts'
import { parseRecords, type RunningTool, runTool, sandbox, startTool } from './tools.ts'

const CHAIN_ID = 31337
const SENDERS = DEV_ACCOUNTS.slice(0, 4)
const BATCH = 16

export interface KillReport {
  kills: number
  /** Height at the end. */
  height: number
  /** Transactions whose hash was answered before a kill. */
  acknowledged: number
  /** Kills that hit while transactions were on their way. */
  underLoad: number
  faults: string[]
}

/** What one life of the node told its client. */
interface Told {
  head: { number: number; hash: string } | undefined
  acknowledged: string[]
}

export async function killNode(opts: {
  kills: number
  seed: number
  progress?(r: KillReport): void
}): Promise<KillReport> {
  const d = dice(opts.seed)
  const box = sandbox('chain-kill')
  const dir = box.path('chain')
  const args = ['node', '--dev', '--dir', dir, '--rpc-port', '0', '--block-time', '20ms']
  const report: KillReport = { kills: 0, height: 0, acknowledged: 0, underLoad: 0, faults: [] }
  let told: Told | undefined
  let running: RunningTool | undefined
  try {
    while (report.kills <= opts.kills && report.faults.length === 0) {
      running = await startTool('zg-chain', args, { env: box.env })
      if (told !== undefined) await compare(running.url, told, report)
      if (report.kills === opts.kills) break
      told = { head: undefined, acknowledged: [] }
      const load = drive(running.url, told)
      await new Promise(resolve => setTimeout(resolve, 20 + d.below(400)))
      const sending = load.sending()
      await running.kill9()
      running = undefined
      await load.ended
      report.kills++
      report.acknowledged += told.acknowledged.length
      if (sending) report.underLoad++
      const checked = await runTool('zg-chain', ['verify', '--dir', dir, '--blocks', '64', '--json'], { env: box.env })
      const left = parseRecords(checked.stdout).find(r => r.type === 'verified') as { number: number } | undefined
      if (checked.code !== 0 || left === undefined)
        report.faults.push(`kill ${report.kills}: verify says ${checked.stderr}`)
      else {
        report.height = left.number
        if (told.head !== undefined && left.number < told.head.number)
          report.faults.push(`kill ${report.kills}: block ${told.head.number} was reported, the head is ${left.number}`)
      }
      opts.progress?.(report)
    }
  } finally {
    await running?.kill9()
    box.remove()
  }
  return report
}

/** Sends transfers and asks for the head until the node is gone. */
function drive(url: string, told: Told): { ended: Promise<unknown>; sending(): boolean } {
  let inFlight = 0
  const send = async () => {
    const nonces = await Promise.all(
      SENDERS.map(async a => Number(await rpc(url, 'eth_getTransactionCount', [a.address, 'pending'])))
    )
    for (let round = 0; ; round++) {
      const calls = Array.from({ length: BATCH }, (_, i) => {
        const who = i % SENDERS.length
        const raw = signTransaction(
          {
            type: 2,
            chainId: BigInt(CHAIN_ID),
            nonce: BigInt(nonces[who]!),
            maxFeePerGas: 10n ** 10n,
            maxPriorityFeePerGas: 10n ** 9n,
            gasLimit: 21_000n,
            to: fromHex(`0x${((round * BATCH + i) % 1000).toString(16).padStart(40, 'a')}`),
            value: 1n,
            data: new Uint8Array(0)
          },
          fromHex(SENDERS[who]!.privateKey)
        )
        nonces[who]!++
        return { jsonrpc: '2.0', id: i, method: 'eth_sendRawTransaction', params: [toHex(raw)] }
      })
      inFlight++
      const answers = (await post(url, calls)) as { result?: string; error?: { message: string } }[]
      inFlight--
      for (const { result, error } of answers) {
        if (result !== undefined) told.acknowledged.push(result)
        else throw new Error(error?.message)
      }
    }
  }
  const watch = async () => {
    for (;;) {
      const head = (await rpc(url, 'eth_getBlockByNumber', ['latest', false])) as { number: string; hash: string }
      told.head = { number: Number(head.number), hash: head.hash }
    }
  }
  return { ended: Promise.allSettled([send(), watch()]), sending: () => inFlight > 0 }
}

async function compare(url: string, told: Told, report: KillReport): Promise<void> {
  if (told.head !== undefined) {
    const { number, hash } = told.head
    const now = (await rpc(url, 'eth_getBlockByNumber', [`0x${number.toString(16)}`, false])) as { hash: string } | null
    if (now?.hash !== hash) report.faults.push(`kill ${report.kills}: block ${number} was ${hash}, is ${now?.hash}`)
  }
  for (const hash of told.acknowledged) {
    if ((await rpc(url, 'eth_getTransactionByHash', [hash])) !== null) continue
    report.faults.push(`kill ${report.kills}: transaction ${hash} was accepted and is gone`)
  }
}

async function rpc(url: string, method: string, params: unknown[]): Promise<unknown> {
  const { result, error } = (await post(url, { jsonrpc: '2.0', id: 1, method, params })) as {
    result?: unknown
    error?: { message: string }
  }
  if (error !== undefined) throw new Error(error.message)
  return result
}

async function post(url: string, body: unknown): Promise<unknown> {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body)
  })
  return response.json()
}
