/**
 * Kills a node of zg-chain with SIGKILL at random moments while eight senders at once send transfers, creations and contract calls and it makes
 * fifty blocks a second, and now and then while it starts; and looks at what is left: the whole state recomputed by `zg-chain verify`, every
 * block that was reported, every transaction whose hash was answered.
 */
import { type LoadTransaction, type Sender, signAll } from '../../cmd/zg-chain/bench/signing.ts'
import { bigToBytes, concat } from '../../lib/base/bytes.ts'
import { fromHex, toHex } from '../../lib/base/hex.ts'
import { encodeRlp } from '../../lib/codec/rlp.ts'
import { DEV_ACCOUNTS } from '../../lib/crypto/dev-accounts.ts'
import { keccak256 } from '../../lib/crypto/hash.ts'
import { dice } from '../oracle/programs.ts'
import { parseRecords, type RunningTool, runTool, sandbox, startTool } from './tools.ts'

const FEES = { chainId: 31337n, maxFeePerGas: 10n ** 11n, maxPriorityFeePerGas: 10n ** 9n }
const SENDERS = DEV_ACCOUNTS.slice(0, 8)
/** Transactions a request, all of one sender. */
const BATCH = 24
/** Heads remembered of a life: each must still be there. */
const HEADS = 64
/** Stores the second word of its call data under the first and logs. */
const RUNTIME = '6020355f355560405fa000'
/** Stores 42 under 0 and leaves RUNTIME. */
const CREATION = fromHex(`0x602a5f556a${RUNTIME}5f52600b6015f3`)

export interface KillReport {
  kills: number
  /** Height at the end. */
  height: number
  /** Transactions whose hash was answered before a kill. */
  acknowledged: number
  /** Kills that hit while transactions were on their way. */
  underLoad: number
  /** Kills that hit a node while it started. */
  starting: number
  faults: string[]
}

/** What one life of the node told its client. */
interface Told {
  /** The newest last. */
  heads: { number: number; hash: string }[]
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
  const report: KillReport = { kills: 0, height: 0, acknowledged: 0, underLoad: 0, starting: 0, faults: [] }
  let told: Told | undefined
  let running: RunningTool | undefined
  try {
    while (report.kills <= opts.kills && report.faults.length === 0) {
      if (report.kills < opts.kills && d.below(8) === 0) {
        // SIGKILL when the time is up, which is before it is ready or just behind.
        await runTool('zg-chain', [...args, '--json'], { env: box.env, timeoutMs: 100 + d.below(400) })
        report.kills++
        report.starting++
      }
      running = await startTool('zg-chain', args, { env: box.env })
      if (told !== undefined) await compare(running.url, told, report)
      if (report.kills === opts.kills) break
      told = { heads: [], acknowledged: [] }
      const load = drive(running.url, told)
      await new Promise(resolve => setTimeout(resolve, 20 + d.below(1500)))
      const sending = load.sending()
      await running.kill9()
      running = undefined
      await load.ended
      report.kills++
      report.acknowledged += told.acknowledged.length
      if (sending) report.underLoad++
      const checked = await runTool('zg-chain', ['verify', '--dir', dir, '--json'], {
        env: box.env,
        timeoutMs: 120_000
      })
      const left = parseRecords(checked.stdout).find(r => r.type === 'verify') as
        | { blockNumber: number; good: boolean }
        | undefined
      if (checked.code !== 0 || left?.good !== true)
        report.faults.push(`kill ${report.kills}: verify says ${checked.stderr}`)
      else {
        report.height = left.blockNumber
        const last = told.heads.at(-1)
        if (last !== undefined && left.blockNumber < last.number)
          report.faults.push(`kill ${report.kills}: block ${last.number} was reported, the head is ${left.blockNumber}`)
      }
      opts.progress?.(report)
    }
  } finally {
    await running?.kill9()
    box.remove()
  }
  return report
}

/** Sends from all accounts at once and asks for the head, until the node is gone. */
function drive(url: string, told: Told): { ended: Promise<unknown>; sending(): boolean } {
  let inFlight = 0
  const send = async (account: (typeof SENDERS)[number]): Promise<void> => {
    const nonce = BigInt((await rpc(url, 'eth_getTransactionCount', [account.address, 'pending'])) as string)
    const sender: Sender = { key: fromHex(account.privateKey), address: fromHex(account.address), nonce }
    let contract: Uint8Array | undefined
    for (let slot = 0n; ; ) {
      const first = sender.nonce
      const txs = Array.from({ length: BATCH }, (_, i): LoadTransaction => {
        if (i === 0) return { sender, to: null, value: 0n, data: CREATION, gasLimit: 150_000n }
        if (i % 2 === 0 || contract === undefined) {
          const to = keccak256(bigToBytes(first + BigInt(i % 5), 32)).subarray(12)
          return { sender, to, value: 1n, data: new Uint8Array(0), gasLimit: 21_000n }
        }
        // New slots, and some of the last ones cleared.
        const [key, value] = i % 3 === 0 && slot > 2n ? [slot - 2n, 0n] : [slot++, first + 1n]
        return {
          sender,
          to: contract,
          value: 0n,
          data: concat(bigToBytes(key, 32), bigToBytes(value, 32)),
          gasLimit: 80_000n
        }
      })
      const body = signAll(txs, FEES).map((tx, id) => ({
        jsonrpc: '2.0',
        id,
        method: 'eth_sendRawTransaction',
        params: [toHex(tx.raw)]
      }))
      inFlight++
      const answers = (await post(url, body)) as { result?: string; error?: { message: string } }[]
      inFlight--
      for (const { result, error } of answers) {
        if (result !== undefined) told.acknowledged.push(result)
        else throw new Error(error?.message)
      }
      contract = keccak256(encodeRlp([sender.address, first])).subarray(12)
    }
  }
  const watch = async (): Promise<void> => {
    for (;;) {
      const head = (await rpc(url, 'eth_getBlockByNumber', ['latest', false])) as { number: string; hash: string }
      const number = Number(head.number)
      if (told.heads.at(-1)?.number === number) continue
      told.heads.push({ number, hash: head.hash })
      if (told.heads.length > HEADS) told.heads.shift()
    }
  }
  return { ended: Promise.allSettled([...SENDERS.map(send), watch()]), sending: () => inFlight > 0 }
}

async function compare(url: string, told: Told, report: KillReport): Promise<void> {
  for (const { number, hash } of told.heads) {
    const now = (await rpc(url, 'eth_getBlockByNumber', [`0x${number.toString(16)}`, false])) as { hash: string } | null
    if (now?.hash !== hash) report.faults.push(`kill ${report.kills}: block ${number} was ${hash}, is ${now?.hash}`)
  }
  for (let at = 0; at < told.acknowledged.length; at += 100) {
    const part = told.acknowledged.slice(at, at + 100)
    const calls = part.map((hash, id) => ({ jsonrpc: '2.0', id, method: 'eth_getTransactionByHash', params: [hash] }))
    const answers = (await post(url, calls)) as { result?: { hash: string } | null }[]
    const there = new Set(answers.map(a => a.result?.hash))
    for (const hash of part)
      if (!there.has(hash)) report.faults.push(`kill ${report.kills}: transaction ${hash} was accepted and is gone`)
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
