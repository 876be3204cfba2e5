/** `zg-store mine`, `mine rewards` and `mine withdraw`: options in, a running miner or a number out. */
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { lockDirectory } from '../../../lib/adapters/lock.ts'
import { dataDir } from '../../../lib/adapters/paths.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import { fromHex, toHex } from '../../../lib/base/hex.ts'
import { formatAmount, formatCount } from '../../../lib/base/units.ts'
import type { Options, VerbContext, VerbFn } from '../../../lib/cli/types.ts'
import { findAddress } from '../../../lib/clients/accounts.ts'
import { ChainClient } from '../../../lib/clients/chain.ts'
import { findEndpoint, readNetwork } from '../../../lib/clients/network.ts'
import { StoreNode } from '../../../lib/clients/store.ts'
import { checksumAddress } from '../../../lib/crypto/address.ts'
import { findAccount } from '../verbs/common.ts'
import { SealCache } from './cache.ts'
import { MineContract } from './contract.ts'
import { Holdings } from './holdings.ts'
import { Miner } from './miner.ts'
import { Pace } from './pace.ts'

/** What is remembered between runs, in `miner.json`. */
interface MinerFile {
  chainId: number
  mine: string
  minerId: string
  /** Subtask digest of the last task that was answered. */
  answered?: string
}

/** Runs until SIGTERM. */
export const mine: VerbFn = async (ctx, _args, opts) => {
  const contract = await findContract(ctx, opts)
  const account = await findAccount(ctx, opts, contract.chain)
  const node = new StoreNode(await findNode(ctx, opts))
  const status = await node.status({ signal: ctx.signal })
  if (status.chainId !== contract.chainId || status.flowAddress !== contract.flow) {
    throw new ZgError(
      'ERR_WRONG_NETWORK',
      `the storage node follows flow ${status.flowAddress} of chain ${status.chainId}`,
      {
        hint: `mining here is for flow ${contract.flow} of chain ${contract.chainId}; give another '--node' or '--rpc-url'`
      }
    )
  }
  const dir = (opts.dir as string | undefined) ?? dataDir(ctx.network, 'miner')
  await mkdir(dir, { recursive: true, mode: 0o700 })
  const lock = await lockDirectory(dir)
  try {
    const beneficiary = opts.beneficiary === undefined ? account.address : await findAddress(opts.beneficiary as string)
    const file = await minerFile(dir, contract, () => contract.register(account, beneficiary, randomSeed()))
    const minerId = fromHex(file.minerId)
    const cache = await SealCache.open(dir, minerId)
    const log = ctx.log('miner')
    const miner = new Miner({
      contract,
      node,
      holdings: new Holdings(node, Math.max(1, Math.floor((opts.cacheMax as number) / SealCache.fileBytes))),
      cache,
      minerId,
      account,
      pace: new Pace(opts.cpuLimit as number),
      answered: {
        load: async () => (file.answered === undefined ? undefined : fromHex(file.answered)),
        save: async digest => {
          file.answered = toHex(digest)
          await writeMinerFile(dir, file)
        }
      },
      signal: ctx.signal,
      on: {
        accepted: (answer, epoch, r) =>
          ctx.print(
            {
              type: 'mine_answer',
              time: new Date().toISOString(),
              accepted: true,
              epoch: Number(epoch),
              position: Number(answer.recallPosition),
              nonce: toHex(answer.nonce),
              tried: Number(miner.tried),
              txHash: r.txHash,
              blockNumber: r.blockNumber,
              gas_used: Number(r.gasUsed),
              reward_neuron: r.paidNeuron.toString(),
              reason: null
            },
            `epoch ${epoch}: answer accepted in block ${formatCount(r.blockNumber)}, reward ${formatAmount(r.paidNeuron)} 0G`
          ),
        refused: (answer, epoch, reason) =>
          ctx.print(
            {
              type: 'mine_answer',
              time: new Date().toISOString(),
              accepted: false,
              epoch: Number(epoch),
              position: Number(answer.recallPosition),
              nonce: toHex(answer.nonce),
              tried: Number(miner.tried),
              txHash: null,
              blockNumber: null,
              gas_used: 0,
              reward_neuron: '0',
              reason
            },
            `epoch ${epoch}: answer refused: ${reason}`
          ),
        sealed: (segments, held) => log.info('sealed', { segments, held }),
        problem: text => log.warn(text)
      }
    })
    ctx.ready(
      { type: 'ready', service: 'miner', minerId: toHex(minerId), node: node.url, chain: contract.chain.url, dir },
      `miner ready, id ${toHex(minerId)}, ${opts.cpuLimit} % of a core`
    )
    await miner.run()
  } finally {
    await lock.release()
  }
}

/** What a beneficiary may withdraw. */
export const rewards: VerbFn = async (ctx, args, opts) => {
  const contract = await findContract(ctx, opts)
  const payee =
    args[0] === undefined ? (await findAccount(ctx, opts, contract.chain)).address : await findAddress(args[0])
  const due = await contract.due(payee)
  const address = checksumAddress(payee)
  ctx.print({ type: 'mine_rewards', address, due_neuron: due.toString() }, `${formatAmount(due)} 0G due to ${address}`)
}

/** Sends a beneficiary what is due. */
export const withdraw: VerbFn = async (ctx, args, opts) => {
  const contract = await findContract(ctx, opts)
  const account = await findAccount(ctx, opts, contract.chain)
  const payee = args[0] === undefined ? account.address : await findAddress(args[0])
  const due = await contract.due(payee)
  const address = checksumAddress(payee)
  if (due === 0n) {
    ctx.say(`nothing is due to ${address}`)
    return 1
  }
  const txHash = await contract.withdraw(account, payee)
  ctx.print(
    { type: 'mine_withdrawal', address, amount_neuron: due.toString(), txHash },
    `${formatAmount(due)} 0G sent to ${address}`
  )
  return 0
}

async function findContract(ctx: VerbContext, opts: Options): Promise<MineContract> {
  const given = (opts.chain ?? opts.rpcUrl) as string | undefined
  const url = await findEndpoint(given, ctx.network, 'rpc', 'zg-store mine')
  return MineContract.find(new ChainClient(url, { signal: ctx.signal }))
}

async function findNode(ctx: VerbContext, opts: Options): Promise<string> {
  const given = opts.node as string | undefined
  if (given !== undefined) return given
  const network = await readNetwork(ctx.network)
  const found = network?.endpoints.nodes?.[0]
  if (found !== undefined) return found
  throw new ZgError('ERR_NO_NETWORK', 'no storage node is known', { hint: "give '--node URL', or run 'zg-devnet up'" })
}

/** The id of this directory; a new one when there is none, or the chain does not know it any more. */
async function minerFile(dir: string, contract: MineContract, register: () => Promise<Uint8Array>): Promise<MinerFile> {
  const text = await readFile(join(dir, 'miner.json'), 'utf8').catch(() => undefined)
  const kept = text === undefined ? undefined : parseMinerFile(text)
  if (
    kept !== undefined &&
    kept.chainId === contract.chainId &&
    kept.mine === contract.mine &&
    (await contract.beneficiary(fromHex(kept.minerId))) !== undefined
  ) {
    return kept
  }
  const made = { chainId: contract.chainId, mine: contract.mine, minerId: toHex(await register()) }
  await writeMinerFile(dir, made)
  return made
}

function parseMinerFile(text: string): MinerFile | undefined {
  try {
    const f = JSON.parse(text) as Partial<MinerFile>
    const hash = /^0x[0-9a-f]{64}$/
    const ok = typeof f.chainId === 'number' && typeof f.mine === 'string' && hash.test(String(f.minerId))
    return ok && (f.answered === undefined || hash.test(f.answered)) ? (f as MinerFile) : undefined
  } catch {
    // A torn file costs a new id, nothing else.
    return undefined
  }
}

async function writeMinerFile(dir: string, file: MinerFile): Promise<void> {
  const path = join(dir, 'miner.json')
  await writeFile(`${path}.part`, `${JSON.stringify(file)}\n`, { mode: 0o600 })
  await rename(`${path}.part`, path)
}

function randomSeed(): bigint {
  return crypto.getRandomValues(new BigUint64Array(1))[0]!
}
