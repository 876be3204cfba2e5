/** `zg-chain snapshot`: the whole state and head in one file, for a chain elsewhere that need not execute its past. */
import { existsSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import { lockDirectory } from '../../../lib/adapters/lock.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import { formatSize } from '../../../lib/base/units.ts'
import type { VerbFn } from '../../../lib/cli/types.ts'
import { evmAddon } from '../../../lib/evm/native.ts'
import { asking } from '../core/failure.ts'
import { readGenesisFile, writeGenesis } from '../genesis-file.ts'
import { engineOptions } from '../open.ts'
import { number } from '../print.ts'
import { directoryOf, genesisIn, openDirectory } from './directory.ts'

export const snapshotSave: VerbFn = async (ctx, [file], opts) => {
  const path = resolve(file!)
  if (existsSync(path)) throw new ZgError('ERR_EXISTS', `'${file}' exists`)
  const at = await openDirectory(ctx, opts)
  try {
    await asking(at.chain.native.saveSnapshot(path))
    const head = at.chain.head()
    const { size } = await stat(path)
    ctx.print(
      {
        type: 'snapshot',
        file,
        blockNumber: head.number,
        hash: toHex(head.hash),
        stateRoot: toHex(head.stateRoot),
        size
      },
      `block ${number(ctx, head.number)} in ${file}, ${formatSize(size)}`
    )
  } finally {
    await at.close()
  }
}

export const snapshotLoad: VerbFn = async (ctx, [file], opts) => {
  const path = resolve(file!)
  await stat(path)
  const dir = directoryOf(ctx, opts)
  const given = opts.genesis as string | undefined
  const genesis = given === undefined ? await genesisIn(dir) : await readGenesisFile(given)
  const lock = await lockDirectory(dir)
  try {
    // Refused by the engine when the directory holds a chain beyond its genesis.
    await asking(evmAddon().loadSnapshot(path, engineOptions({ dir, genesis, dev: false, kept: true })))
    if (given !== undefined) await writeGenesis(dir, genesis)
  } finally {
    await lock.release()
  }
  const at = await openDirectory(ctx, opts)
  try {
    const head = at.chain.head()
    ctx.print(
      {
        type: 'snapshot',
        file,
        blockNumber: head.number,
        hash: toHex(head.hash),
        stateRoot: toHex(head.stateRoot),
        dir
      },
      `block ${number(ctx, head.number)} in ${dir}`
    )
  } finally {
    await at.close()
  }
}
