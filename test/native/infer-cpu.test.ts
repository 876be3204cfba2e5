/**
 * Proves that the engine for CPUs computes the bits of the deterministic reference: for every tensor type over odd shapes and odd
 * activations, and for every fixture model on every level of CPU, with one and two threads, one sequence alone, whole prompts and many
 * sequences at mixed positions; that tokens are drawn as the plain way draws them, from logits of all shapes; and that ZG_CPU chooses the level. `TOKENS=N npm run test:infer-determinism` runs longer.
 */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { packageRoot } from '../../lib/base/package-root.ts'
import { nativePath } from '../../lib/native.ts'
import { SEED } from '../harness/seed.ts'

const FIXTURES = ['..', '../..'].map(up => join(packageRoot(), up, 'shared', 'fixtures', 'models')).find(existsSync)
const program = join(packageRoot(), 'build', 'Release', 'infer_cpu_check')
const noBuild = existsSync(program) && existsSync(nativePath('infer')) ? false : 'no native build here'
const skip = noBuild !== false ? noBuild : FIXTURES === undefined ? 'no model fixtures beside the repository' : false
const tokens = Number(process.env.TOKENS ?? 5_000)
const seed = SEED
// A short run takes about 15 s of processor time.
t.setTimeout(Math.max(600_000, tokens * 20))

const run = (args: string[]): { status: number | null; stdout: string } =>
  spawnSync(program, args, { encoding: 'utf8', maxBuffer: 16 << 20 })

t.test('products of every type have the bits of the reference on every level', { skip: noBuild }, t => {
  const r = run(['products', String(seed)])
  t.equal(r.status, 0, r.stdout)
  t.match(r.stdout, /products: \d{5,} values, 0 different/)
  t.end()
})

t.test('tokens are drawn as by sorting everything, on every level', { skip: noBuild }, t => {
  const r = run(['choices', process.env.TOKENS === undefined ? '1000' : '20000', String(seed)])
  t.equal(r.status, 0, r.stdout)
  const said = /^choices: (\d+) draws, (\d+) cases of (\d+) gave the likeliest, 0 different$/m.exec(r.stdout)
  t.ok(said !== null && Number(said[2]) < 0.95 * Number(said[3]), r.stdout.trim())
  t.end()
})

t.test('logits do not depend on batch, chunks, threads or level of CPU', { skip }, t => {
  const r = run(['test', FIXTURES!, String(tokens), String(seed)])
  t.equal(r.status, 0, r.stdout)
  const said = /^(\d+) models, levels generic(.*): (\d+) tokens, 0 different$/m.exec(r.stdout)
  t.ok(said !== null && Number(said[1]) === 28 && Number(said[3]) >= tokens, r.stdout.trim())
  t.end()
})

t.test('ZG_CPU forces a level, and one that is missing is refused', { skip: noBuild }, t => {
  const script = 'const i = require(process.argv[1]).info(); console.log([i.cpu, ...i.paths].join(" "))'
  const level = (name: string | undefined) => {
    const env: NodeJS.ProcessEnv = { ...process.env, ZG_CPU: name, NODE_OPTIONS: '' }
    if (name === undefined) delete env.ZG_CPU
    return spawnSync(process.execPath, ['-e', script, nativePath('infer')], { encoding: 'utf8', env })
  }
  const [widest, ...paths] = level(undefined).stdout.trim().split(' ')
  t.equal(widest, paths.at(-1))
  t.equal(paths[0], 'generic')
  for (const path of paths) t.equal(level(path).stdout.trim(), [path, ...paths].join(' '))
  t.match(level('sse9').stderr, /ZG_CPU names 'sse9', which this machine lacks/)
  t.end()
})
