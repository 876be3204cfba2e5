/** The genesis of a data directory: built once, written whole, read at every start. */
import { mkdir, open, readFile, rename, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { systemCode, ZgError } from '../../lib/base/errors.ts'
import { fromHex } from '../../lib/base/hex.ts'
import type { GenesisSigner } from '../../lib/contracts/da-genesis.ts'
import { DA_SIGNERS } from '../../lib/contracts/da-signers.ts'
import { DEV_ACCOUNTS } from '../../lib/crypto/dev-accounts.ts'
import { formatGenesis, GENESIS_DEFAULTS, type Genesis, MAX_GENESIS_BYTES, parseGenesis } from './core/genesis.ts'

export interface NewGenesis {
  chainId: number
  /** `network`: with 0G's contracts; `dev`: a bare chain. */
  kind: 'network' | 'dev'
  /** The ten devnet accounts when absent. */
  accounts?: Uint8Array[]
  /** Neuron; 10,000 0G when absent. */
  balance?: bigint
  gasLimit?: bigint
  /** Seconds since 1970. */
  timestamp: number
}

/** Builds a genesis; its contracts' constructors run here (0.2 s). @throws {ZgError} ERR_CONFIG. */
export async function buildGenesis(o: NewGenesis): Promise<Genesis> {
  const { buildAlloc } = await import('../../lib/contracts/genesis.ts')
  const alloc = await buildAlloc({
    chainId: o.chainId,
    timestamp: o.timestamp,
    kind: o.kind,
    accounts: o.accounts ?? DEV_ACCOUNTS.map(a => fromHex(a.address)),
    ...(o.balance === undefined ? {} : { balance: o.balance }),
    ...(o.kind === 'network' && o.accounts === undefined ? { daSigners: await devnetSigners() } : {})
  })
  return {
    ...GENESIS_DEFAULTS,
    chainId: o.chainId,
    timestamp: o.timestamp,
    gasLimit: o.gasLimit ?? GENESIS_DEFAULTS.gasLimit,
    alloc
  }
}

/** The signers of data availability among the devnet accounts, with a quarter of the quorum's places each. */
async function devnetSigners(): Promise<GenesisSigner[]> {
  const { devSigners } = await import('../../lib/crypto/dev-signers.ts')
  const signers = devSigners()
  const votes = BigInt(DA_SIGNERS.encodedSlices / signers.length)
  return signers.map(({ address, socket, pkG1, pkG2 }) => ({ address: fromHex(address), socket, pkG1, pkG2, votes }))
}

/** The genesis of a data directory; undefined when it has none. @throws {ZgError} ERR_CONFIG when it is wrong. */
export async function readGenesis(dir: string): Promise<Genesis | undefined> {
  try {
    return await readGenesisFile(join(dir, 'genesis.json'))
  } catch (err) {
    if (systemCode(err) === 'ENOENT') return undefined
    throw err
  }
}

/** @throws {ZgError} ERR_CONFIG, with the file's name; system errors pass. */
export async function readGenesisFile(path: string): Promise<Genesis> {
  const { size } = await stat(path)
  if (size > MAX_GENESIS_BYTES) throw new ZgError('ERR_CONFIG', `'${path}' has more than ${MAX_GENESIS_BYTES} bytes`)
  try {
    return parseGenesis(await readFile(path, 'utf8'))
  } catch (err) {
    if (!(err instanceof ZgError)) throw err
    throw new ZgError(err.code, `'${path}': ${err.message}`, { hint: err.hint, facts: [...err.facts], cause: err })
  }
}

/** Writes it under a temporary name, syncs, renames: a crash leaves no half of it. */
export async function writeGenesis(dir: string, genesis: Genesis): Promise<void> {
  await mkdir(dir, { recursive: true, mode: 0o700 })
  const path = join(dir, 'genesis.json')
  const temporary = `${path}.tmp`
  const file = await open(temporary, 'w', 0o600)
  try {
    await file.writeFile(formatGenesis(genesis))
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(temporary, path)
  const parent = await open(dir, 'r')
  try {
    await parent.sync()
  } finally {
    await parent.close()
  }
}
