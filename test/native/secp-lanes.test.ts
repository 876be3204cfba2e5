/**
 * Proves that public keys recovered eight at a time are those of libsecp256k1: builds and runs native/evm/test/secp_lanes_test.cpp, which compares
 * random signatures, borders of the field and of the order, and signatures made to meet special points.
 */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { packageRoot } from '../../lib/base/package-root.ts'
import { SEED } from '../harness/seed.ts'

t.setTimeout(280_000)
const root = packageRoot()
const skip =
  spawnSync('g++', ['--version']).status !== 0
    ? 'no g++ here'
    : existsSync(join(root, 'build', 'Release', 'evm_core.a'))
      ? false
      : 'no static libraries of the build here'

t.test('lanes and library agree on every signature', { skip }, t => {
  const built = spawnSync('sh', ['native/evm/test/chain_build.sh', 'secp_lanes_test'], { cwd: root, encoding: 'utf8' })
  t.equal(built.status, 0, built.stderr)
  const run = spawnSync(join(root, 'build', 'chain', 'secp_lanes_test'), [String(SEED), '60'], {
    cwd: root,
    encoding: 'utf8'
  })
  t.equal(run.status, 0, run.stdout)
  t.comment(run.stdout.trim())
  if (/nothing to compare/.test(run.stdout)) t.pass('no lanes on this machine')
  else {
    const [, keys, without, , wrong] = /(\d+) keys, (\d+) without, (\d+) left to the reference, (\d+) wrong/
      .exec(run.stdout)!
      .map(Number)
    t.ok(keys! > 500 && without! > 50, 'both kinds were met')
    t.equal(wrong, 0)
  }
  t.end()
})
