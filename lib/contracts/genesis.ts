/**
 * The accounts a chain begins with. Contracts get there by running their constructors at their final addresses (constructor.ts) and
 * keeping what that left: immutables are filled in, `address(this)` is right, storage is what a deployment would have written.
 * Compiler output alone (`deployedBytecode`) would have zeros for immutables.
 *
 * Two kinds:
 *   network  what zg-devnet and real networks start from: the accounts, all contracts. Account 0 begins at nonce 13, because on chain
 *            id 31337 clients of the compute layer expect contracts at its own CREATE addresses of nonces 2, 6 and 12 (compute.md
 *            1.1); a transaction that created a contract there would collide and lose its gas.
 *   dev      a bare chain for contract work, as such users know it: accounts at nonce 0, system contracts, deterministic deployer,
 *            Multicall3, and nothing of 0G.
 *
 * The result depends on the arguments alone, byte for byte; entries stand in order of their addresses.
 */
import { bigToBytes, compareBytes, concat, padLeft } from '../base/bytes.ts'
import { assert, ZgError } from '../base/errors.ts'
import { fromHex, type Hex } from '../base/hex.ts'
import { contractAddresses } from './addresses.ts'
import { type ComputeParams, computeConstructions } from './compute-genesis.ts'
import { construct } from './constructor.ts'
import { DEVNET_EPOCH_BLOCKS, daSignersAccount, type GenesisSigner } from './da-genesis.ts'
import { SYSTEM_CONTRACTS } from './system-contracts.ts'

/** An account of a genesis, shaped as the chain's engine takes it. Slots and values have 32 bytes. */
export interface AllocEntry {
  address: Uint8Array
  balance: bigint
  nonce: bigint
  code: Uint8Array
  storage: [slot: Uint8Array, value: Uint8Array][]
}

export interface StorageParams {
  /** Wei a sector; 0 makes storage free. */
  pricePerSectorWei: bigint
  /** Blocks of a mining epoch. */
  blocksPerEpoch: number
  /** Sectors of a pricing chunk: its pot opens when it is full. */
  sectorsPerPrice: bigint
  /** How long a pot takes to become claimable. */
  releaseSeconds: number
}

/** Of the mine contract (storage.md 9.3); numbers are what `initialize` of deployed ones takes. */
export interface MineParams {
  /** One in so many qualities is a hit at first. */
  difficulty: bigint
  /** The target never gets easier than this. */
  minDifficulty: bigint
  /** Blocks of a mining window, at most 256. */
  targetMineBlocks: number
  /** Answers an epoch that the difficulty aims at; twice as many are taken. */
  targetSubmissions: number
  maxShards: number
  /** Miners share the windows of an epoch: so many, each so many blocks after the other. */
  nSubtasks: number
  subtaskInterval: number
}

export interface AllocOptions {
  chainId: number
  /** Unix seconds of the genesis block: constructors may store it. */
  timestamp: number
  kind: 'network' | 'dev'
  /** 20-byte addresses that get a balance; the first owns the contracts of a network. */
  accounts: readonly Uint8Array[]
  /** Wei of each account; 10,000 0G by default. */
  balance?: bigint
  /** Changes to DEVNET_STORAGE. */
  storage?: Partial<StorageParams>
  /** Changes to DEVNET_MINE. */
  mine?: Partial<MineParams>
  /** Changes to DEVNET_COMPUTE. */
  compute?: Partial<ComputeParams>
  /** Signers of data availability in the first epoch of a network; none by default. */
  daSigners?: readonly GenesisSigner[]
  /** Blocks of their epochs; 1,200 by default. */
  daEpochBlocks?: bigint
  /** Wei that a blob of data availability costs at posting; 0 by default. */
  blobPriceWei?: bigint
}

/**
 * What deployed networks charge for a life of `months` (storage.md 2.6): unitPrice × months × 10¹⁸ / 2³⁰ / 12 wei a sector, which is
 * unitPrice / 256 tokens a GiB and year.
 */
export function pricePerSectorWei(unitPrice: bigint, months: bigint): bigint {
  return (unitPrice * months * 10n ** 18n) / 2n ** 30n / 12n
}

/**
 * The fee is that of the public turbo networks, so that costs shown on a devnet are real. Epochs, release and pricing chunk are those of
 * a network that somebody watches (storage.md 9.4): 40 blocks of a second are an epoch, 1 MiB of data already fills a pricing chunk
 * (8 GiB on public networks, where nobody on a laptop would ever see a reward), and an hour releases all of it.
 */
export const DEVNET_STORAGE: StorageParams = {
  pricePerSectorWei: pricePerSectorWei(33n, 12n),
  blocksPerEpoch: 40,
  sectorsPerPrice: 4096n,
  releaseSeconds: 3600
}

/** A number is tried on 64 seals, so about a thousand numbers make a hit: a second of one core. */
export const DEVNET_MINE: MineParams = {
  difficulty: 64_000n,
  minDifficulty: 16_000n,
  targetMineBlocks: 30,
  targetSubmissions: 2,
  maxShards: 32,
  nSubtasks: 1,
  subtaskInterval: 1
}

/** Nonce of account 0 in a network, as if it had deployed the compute contracts. */
const NETWORK_OWNER_NONCE = 13n
const DEFAULT_BALANCE = 10_000n * 10n ** 18n
/** EIP-170; running a constructor directly does not check it. */
const CODE_BYTES_MAX = 24_576
/** Plays the deployer; nothing may be owned by it. */
const HELPER = new Uint8Array(20).fill(0x7a)

/**
 * Builds the alloc of a genesis: some ten milliseconds for a network.
 * @throws {ZgError} ERR_CONFIG when an argument is out of range or two entries share an address.
 */
export async function buildAlloc(options: AllocOptions): Promise<AllocEntry[]> {
  checkOptions(options)
  const entries = options.accounts.map((address, index) => ({
    address,
    balance: options.balance ?? DEFAULT_BALANCE,
    nonce: options.kind === 'network' && index === 0 ? NETWORK_OWNER_NONCE : 0n,
    code: new Uint8Array(0),
    storage: []
  }))
  const raw = Object.values(SYSTEM_CONTRACTS).map(({ address, code }) => ({
    address: fromHex(address),
    balance: 0n,
    nonce: 1n,
    code: fromHex(code),
    storage: []
  }))
  const alloc: AllocEntry[] = [...entries, ...raw, ...(await constructAll(options))]
  if (options.kind === 'network') {
    const { daSigners = [], daEpochBlocks = DEVNET_EPOCH_BLOCKS } = options
    alloc.push(await daSignersAccount({ signers: daSigners, epochBlocks: daEpochBlocks }))
  }
  alloc.sort((a, b) => compareBytes(a.address, b.address))
  for (let i = 1; i < alloc.length; i++) {
    if (compareBytes(alloc[i - 1]!.address, alloc[i]!.address) === 0) {
      throw new ZgError('ERR_CONFIG', 'two accounts of the genesis have the same address')
    }
  }
  return alloc
}

function checkOptions({ accounts, chainId, timestamp, storage, mine, balance, blobPriceWei = 0n }: AllocOptions): void {
  const bad = (what: string) => new ZgError('ERR_CONFIG', `genesis: ${what}`)
  if (!Number.isSafeInteger(chainId) || chainId < 1) throw bad(`chain id ${chainId} is out of range`)
  if (!Number.isSafeInteger(timestamp) || timestamp < 0) throw bad(`timestamp ${timestamp} is out of range`)
  if (accounts.length === 0) throw bad('at least one account is needed to own the contracts')
  if (accounts.some(a => a.length !== 20)) throw bad('an account address does not have 20 bytes')
  if (balance !== undefined && (balance < 0n || balance >= 1n << 256n)) throw bad('the balance is out of range')
  const { blocksPerEpoch, releaseSeconds, sectorsPerPrice, pricePerSectorWei } = { ...DEVNET_STORAGE, ...storage }
  if (!Number.isSafeInteger(blocksPerEpoch) || blocksPerEpoch < 1) throw bad('blocksPerEpoch must be at least 1')
  if (!Number.isSafeInteger(releaseSeconds) || releaseSeconds < 1) throw bad('releaseSeconds must be at least 1')
  if (sectorsPerPrice < 1n || sectorsPerPrice >= 1n << 64n) throw bad('sectorsPerPrice is out of range')
  const m = { ...DEVNET_MINE, ...mine }
  const counts = [m.targetMineBlocks, m.targetSubmissions, m.maxShards, m.nSubtasks, m.subtaskInterval]
  const out = counts.some(n => !Number.isSafeInteger(n) || n < 1) || m.targetMineBlocks > 256
  if (out || m.difficulty < 1n || m.minDifficulty < 0n) throw bad('a parameter of mining is out of range')
  if (blobPriceWei < 0n || blobPriceWei >= 1n << 128n) throw bad('blobPriceWei is out of range')
  if (pricePerSectorWei < 0n || pricePerSectorWei >= 1n << 128n) throw bad('pricePerSectorWei is out of range')
}

interface Construction {
  at: Hex
  code: Hex
  /** ABI-encoded static arguments, one 32-byte word each. */
  args: (bigint | Uint8Array)[]
}

/** What is constructed, in order of dependency. References between contracts are addresses, never calls. */
async function constructions({
  chainId,
  kind,
  accounts,
  storage,
  mine,
  compute,
  blobPriceWei
}: AllocOptions): Promise<Construction[]> {
  const { CREATION_CODE } = await import('./generated/artifacts.ts')
  const at = contractAddresses(chainId)
  const multicall: Construction = { at: at.multicall3, code: CREATION_CODE.Multicall3, args: [] }
  if (kind === 'dev') return [multicall]
  const p = { ...DEVNET_STORAGE, ...storage }
  const owner = accounts[0]!
  const [flow, market, reward] = [fromHex(at.flow), fromHex(at.market), fromHex(at.reward)]
  const m = { ...DEVNET_MINE, ...mine }
  const counts = [m.targetMineBlocks, m.targetSubmissions, m.maxShards, m.nSubtasks, m.subtaskInterval].map(BigInt)
  return [
    multicall,
    { at: at.wrappedZG, code: CREATION_CODE.WrappedZG, args: [] },
    {
      at: at.reward,
      code: CREATION_CODE.ChunkLinearReward,
      args: [market, fromHex(at.mine), p.sectorsPerPrice, BigInt(p.releaseSeconds), owner]
    },
    { at: at.market, code: CREATION_CODE.FixedPriceMarket, args: [p.pricePerSectorWei, flow, reward, owner] },
    { at: at.flow, code: CREATION_CODE.Flow, args: [market, BigInt(p.blocksPerEpoch), 0n, owner] },
    {
      at: at.mine,
      code: CREATION_CODE.PoraMine,
      args: [0n, flow, reward, p.sectorsPerPrice, m.difficulty, ...counts, m.minDifficulty, owner]
    },
    ...computeConstructions(CREATION_CODE, at, owner, compute),
    { at: at.daRegistry, code: CREATION_CODE.DARegistry, args: [] },
    { at: at.daEntrance, code: CREATION_CODE.DAEntrance, args: [owner, blobPriceWei ?? 0n] }
  ]
}

async function constructAll(options: AllocOptions): Promise<AllocEntry[]> {
  return (await constructions(options)).map(({ at, code, args }) => {
    const address = fromHex(at)
    const words = args.map(arg => (typeof arg === 'bigint' ? bigToBytes(arg, 32) : padLeft(arg, 32)))
    const built = construct({
      address,
      code: concat(fromHex(code), ...words),
      caller: HELPER,
      chainId: BigInt(options.chainId),
      timestamp: BigInt(options.timestamp)
    })
    assert(built.code.length > 0, `constructor of ${at} left no code`)
    assert(built.code.length <= CODE_BYTES_MAX, `${at} has ${built.code.length} bytes of code`)
    // Nonce 1, as any contract has.
    return { address, balance: 0n, nonce: 1n, ...built }
  })
}
