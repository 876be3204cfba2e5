/**
 * Proves that power loss at every operation of the disk loses no block that was reported and no transaction that was acknowledged:
 * builds and runs native/evm/test/chain_crash.cpp on a simulated disk, which says what it checks; with syncs ignored it must find faults.
 */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { packageRoot } from '../../lib/base/package-root.ts'

t.setTimeout(280_000)
const root = packageRoot()
const hasCompiler = spawnSync('g++', ['--version']).status === 0
const skip = !hasCompiler
  ? 'no g++ here'
  : existsSync(join(root, 'build', 'Release', 'evm_core.a'))
    ? false
    : 'no static libraries of the build here'

t.test('power loss at every operation of the disk loses nothing that was promised', { skip }, async t => {
  const run = (command: string, ...args: string[]) => {
    const r = spawnSync(command, args, { cwd: root, encoding: 'utf8' })
    return { status: r.status, text: r.stdout + r.stderr }
  }
  const built = run('sh', 'native/evm/test/chain_build.sh', 'chain_crash')
  t.equal(built.status, 0, built.text)
  const program = join(root, 'build', 'chain', 'chain_crash')
  const all = run(program)
  t.equal(all.status, 0, all.text)
  const [, operations, points, reopened, faults] = /(\d+) operations.* (\d+) points, (\d+) reopenings, (\d+) faults/
    .exec(all.text)!
    .map(Number)
  t.ok(points! > 80 && points === operations && reopened === 4 * points!, all.text.trim())
  t.equal(faults, 0)
  const canary = run(program, '--canary', '3')
  t.equal(canary.status, 0, 'a disk that does not sync is found out')
  t.comment(all.text.trim(), canary.text.trim())
})
