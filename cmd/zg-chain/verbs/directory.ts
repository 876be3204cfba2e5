/** A chain's data directory, opened by a verb while no node runs on it. */
import { systemClock } from '../../../lib/adapters/clock.ts'
import { type DirectoryLock, lockDirectory } from '../../../lib/adapters/lock.ts'
import { dataDir } from '../../../lib/adapters/paths.ts'
import { systemRandom } from '../../../lib/adapters/random.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import type { Options, VerbContext } from '../../../lib/cli/types.ts'
import type { ZgChain } from '../core/chain.ts'
import type { Genesis } from '../core/genesis.ts'
import { readGenesis } from '../genesis-file.ts'
import { openChain } from '../open.ts'

export interface OpenDirectory {
  dir: string
  genesis: Genesis
  chain: ZgChain
  close(): Promise<void>
}

/** The directory that `--dir` or the network names. */
export function directoryOf(ctx: VerbContext, opts: Options): string {
  return (opts.dir as string | undefined) ?? dataDir(ctx.network, 'chain')
}

/** The directory's genesis. @throws {ZgError} ERR_NO_INPUT when there is no chain. */
export async function genesisIn(dir: string): Promise<Genesis> {
  const genesis = await readGenesis(dir)
  if (genesis === undefined)
    throw new ZgError('ERR_NO_INPUT', `no chain in '${dir}'`, { hint: `run 'zg-chain init --dir ${dir}'` })
  return genesis
}

/** Locks and opens; the chain makes no blocks. @throws {ZgError} ERR_LOCKED while a node runs on it, ERR_NO_INPUT, ERR_CORRUPT. */
export async function openDirectory(ctx: VerbContext, opts: Options): Promise<OpenDirectory> {
  const dir = directoryOf(ctx, opts)
  // Before the lock: a directory that is not there must not be made by asking for it.
  const genesis = await genesisIn(dir)
  const lock: DirectoryLock = await lockDirectory(dir)
  try {
    const chain = await openChain({ dir, genesis, clock: systemClock, random: systemRandom, blockTimeMs: 0 })
    return {
      dir,
      genesis,
      chain,
      async close() {
        await chain.close()
        await lock.release()
      }
    }
  } catch (err) {
    await lock.release()
    throw err
  }
}
