/** `zg-chain init`: block 0 of a new chain. */

import { systemClock } from '../../../lib/adapters/clock.ts'
import { lockDirectory } from '../../../lib/adapters/lock.ts'
import { dataDir } from '../../../lib/adapters/paths.ts'
import { systemRandom } from '../../../lib/adapters/random.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import type { Options, VerbContext, VerbFn } from '../../../lib/cli/types.ts'
import { formatGenesis, type Genesis } from '../core/genesis.ts'
import { buildGenesis, readGenesis, readGenesisFile, writeGenesis } from '../genesis-file.ts'
import { openChain } from '../open.ts'

export const init: VerbFn = async (ctx, _args, opts) => {
  if (opts.print === true) {
    const text = formatGenesis(await newGenesis(ctx, opts))
    ctx.print({ type: 'genesis_file', genesis: JSON.parse(text) }, text.trimEnd())
    return
  }
  const dir = (opts.dir as string | undefined) ?? dataDir(ctx.network, 'chain')
  const lock = await lockDirectory(dir)
  try {
    if ((await readGenesis(dir)) !== undefined) {
      throw new ZgError('ERR_EXISTS', `'${dir}' holds a chain already`, {
        hint: `run 'zg-chain node --dir ${dir}', or name another directory`
      })
    }
    const genesis = await newGenesis(ctx, opts)
    // The state goes in before the file that says there is a chain: a crash in between leaves nothing to trip over.
    const chain = await openChain({ dir, genesis, clock: systemClock, random: systemRandom })
    const hash = toHex(chain.genesisHash)
    await chain.close()
    await writeGenesis(dir, genesis)
    ctx.print({ type: 'genesis', hash, chainId: genesis.chainId, accounts: genesis.alloc.length, dir }, hash)
    ctx.say(`next: zg-chain node --dir ${dir}`)
  } finally {
    await lock.release()
  }
}

async function newGenesis(ctx: VerbContext, opts: Options): Promise<Genesis> {
  const file = opts.genesis as string | undefined
  const funded = opts.fund as string[] | undefined
  if (file !== undefined) {
    const genesis = await readGenesisFile(file)
    if (ctx.source('chainId') === 'flag' && opts.chainId !== genesis.chainId) {
      throw new ZgError('ERR_CONFIG', `'${file}' is for chain ${genesis.chainId}, not ${opts.chainId}`)
    }
    return opts.gasLimit === undefined ? genesis : { ...genesis, gasLimit: opts.gasLimit as bigint }
  }
  const { findAddress } = await import('../../../lib/clients/accounts.ts')
  return buildGenesis({
    chainId: opts.chainId as number,
    kind: opts.kind as 'network' | 'dev',
    balance: opts.balance as bigint,
    timestamp: Math.floor(systemClock.now() / 1000),
    ...(funded === undefined ? {} : { accounts: await Promise.all(funded.map(findAddress)) }),
    ...(opts.gasLimit === undefined ? {} : { gasLimit: opts.gasLimit as bigint })
  })
}
