/**
 * Proves the commit of a block: the power is cut at operations of a simulated disk while the whole chain (block log, pool journal, state,
 * indexes) takes transactions, commits, closes and opens. After each cut, in every way a disk may lose what was not synced, the
 * chain opens with the last block that was reported or the one after it, its root recomputes, and no acknowledged transaction is
 * lost. With syncs ignored the same program must find faults. The program is native/evm/test/chain_crash.cpp.
 */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { packageRoot } from '../harness/tools.ts'

t.setTimeout(500_000)

const program = join(packageRoot, 'build', 'chain', 'chain_crash')
/** Every so many operations of the disk here; 1 takes all of them. */
const step = process.env.ZG_CRASH_STEP ?? '7'

function run(command: string, args: string[]): { status: number | null; text: string } {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd: packageRoot, encoding: 'utf8' })
  return { status, text: `${stdout}${stderr}` }
}

const libraries = ['evm_core', 'secp256k1', 'blst', 'leveldb', 'leveldb_crc'].map(n =>
  join('build', 'Release', `${n}.a`)
)
const missing = libraries.filter(file => !existsSync(join(packageRoot, file)))
const compiler = spawnSync('g++', ['--version']).status === 0

t.test(
  'power loss at operations of the disk: no reported block and no acknowledged transaction is lost',
  { skip: !compiler ? 'no g++' : missing.length > 0 ? `not built here: ${missing.join(', ')}` : false },
  async t => {
    const built = run('sh', ['native/evm/test/chain_build.sh', 'chain_crash'])
    if (!t.equal(built.status, 0, 'the program compiles')) return t.comment(built.text)
    const { status, text } = run(program, [step])
    t.comment(text.trim())
    t.equal(status, 0, text.trim())
    const figures = /(\d+) operations of the disk, (\d+) points, (\d+) reopenings, 0 faults/.exec(text)
    t.ok(figures !== null && Number(figures[2]) > 10, 'it went through many points')
    const canary = run(program, ['--canary', step])
    t.equal(canary.status, 0, `canary: ${canary.text.trim()}`)
    t.match(canary.text, /[1-9]\d* faults \(syncs ignored/, 'a disk that syncs nothing is found')
  }
)
