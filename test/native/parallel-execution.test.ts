/**
 * Proves that several threads execute a block as one does, bit by bit: native/evm/test/parallel_test.cpp builds and checks random blocks (transfers to
 * and from one, tokens, one pool, creations, self-destructions and what comes again at their addresses, EIP-7702, readers of the coinbase, 0G's
 * precompiles, invalid transactions, blocks that fill up) on 1, 2, 3 and 8 threads under the rules of seven forks. Guesses must have been made, and some been wrong;
 * with the comparison left out the program must find differences. The seed is printed.
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
    : !existsSync(join(root, 'build', 'Release', 'evm_core.a')) && 'no static libraries of the build here'
const blocks = process.env.ZG_BLOCKS ?? '200'

function run(command: string, args: string[], env = {}): { status: number | null; text: string } {
  const r = spawnSync(command, args, { cwd: root, encoding: 'utf8', env: { ...process.env, ...env } })
  return { status: r.status, text: r.stdout + r.stderr }
}
const BUILD = 'native/evm/test/chain_build.sh'
const LAST_LINE = /(\d+) guessed at, (\d+) of them repeated, (\d+) differences\n$/

t.test('blocks are the same on one thread and on many', { skip }, async t => {
  const built = run('sh', [BUILD, 'parallel_test'])
  t.equal(built.status, 0, built.text)
  const r = run(join(root, 'build', 'chain', 'parallel_test'), [blocks, String(SEED)])
  t.equal(r.status, 0, r.text.slice(0, 4_000))
  const [, guessed, repeated, differences] = LAST_LINE.exec(r.text)!.map(Number)
  t.equal(differences, 0)
  t.ok(repeated! > 0 && guessed! > repeated!, 'some guesses held, some did not')
  t.comment(r.text.trim())
})

t.test('guesses that nobody compares are found out', { skip }, async t => {
  const unchecked = [BUILD, 'parallel_test', '-DZG_TEST_UNCHECKED', 'native/evm/exec/parallel.cpp']
  const built = run('sh', unchecked, { ZG_BUILD_AS: 'parallel_unchecked' })
  t.equal(built.status, 0, built.text)
  const r = run(join(root, 'build', 'chain', 'parallel_unchecked'), ['5', String(SEED)])
  t.equal(r.status, 1, 'the program says no')
  t.ok(Number(LAST_LINE.exec(r.text)![3]) > 0, r.text.slice(-200))
})
