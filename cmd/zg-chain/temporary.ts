/**
 * The directory of a development chain that nobody asked to keep: removed when the node stops. One that `kill -9` left behind is
 * removed by the next such node, which reads in its name whether its process is gone.
 */
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { alive } from '../../lib/clients/network.ts'

const PREFIX = 'zg-chain-dev-'

/** A new directory, 0700, that carries this process's id. */
export async function temporaryDirectory(): Promise<string> {
  for (const name of await readdir(tmpdir()).catch(() => [])) {
    const pid = /^zg-chain-dev-(\d+)-/.exec(name)?.[1]
    // Another user's cannot be removed, and need not be.
    if (pid !== undefined && !alive(Number(pid)))
      await rm(join(tmpdir(), name), { recursive: true, force: true }).catch(() => {})
  }
  return mkdtemp(join(tmpdir(), `${PREFIX}${process.pid}-`))
}
