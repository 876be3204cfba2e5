/**
 * Proves that the deterministic reference meets the fixtures' exact logits within their tolerances and the published facts about its
 * elementary functions, and that every CUDA kernel, emulated on the host, gives the reference's bits: for each tensor type and for whole
 * forward passes of every fixture model, alone, in pieces and beside others, on one device and split over several and the CPU. `npm run test:infer-determinism` runs longer.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { packageRoot } from '../../lib/base/package-root.ts'
import { cudaDevices } from '../../lib/infer/cuda.ts'
import { SEED } from '../harness/seed.ts'

const FIXTURES = ['..', '../..'].map(up => join(packageRoot(), up, 'shared', 'fixtures', 'models')).find(existsSync)
const program = (name: string): string => join(packageRoot(), 'build', 'Release', name)
const noBuild = ['infer_det_check', 'infer_emulation'].every(n => existsSync(program(n)))
  ? false
  : 'no native build here'
const skip = noBuild !== false ? noBuild : FIXTURES === undefined ? 'no model fixtures beside the repository' : false
const tokens = Number(process.env.TOKENS ?? 500)
const seed = SEED
// A short run takes 30 s of processor time on a free machine.
t.setTimeout(Math.max(600_000, tokens * 100))

const run = (name: string, args: string[], input = ''): { status: number | null; stdout: string } => {
  const r = spawnSync(program(name), args, { encoding: 'utf8', input, maxBuffer: 16 << 20 })
  return { status: r.status, stdout: r.stdout }
}

t.test('the elementary functions keep their bounds, order and exact values', { skip: noBuild }, t => {
  const r = run('infer_det_check', ['rules'])
  t.equal(r.status, 0, r.stdout)
  t.end()
})

interface Vectors {
  agreement: Record<string, { worst: number; typical: number }>
  logits: { model: string; tokens: number[]; spread: number; top: [number, number][] }[]
}

t.test('the reference meets the exact logits within the tolerance of each file', { skip }, t => {
  const vectors: Vectors = JSON.parse(readFileSync(join(FIXTURES!, 'vectors.json'), 'utf8'))
  // One prompt of four, at all its lengths.
  const seen = new Map<string, number>()
  const lines = vectors.logits.filter(l => {
    const n = (seen.get(l.model) ?? 0) + 1
    seen.set(l.model, n)
    return n <= 4
  })
  const text = lines.map(l => [l.model, l.tokens.length, l.spread, ...l.tokens, ...l.top.flat()].join(' ')).join('\n')
  // Keys and values as floats: the reference's own rounding alone. With the cache's half precision f32 files stay near 1e-3.
  const r = run('infer_det_check', ['logits', FIXTURES!, '0'], `${text}\n`)
  t.equal(r.status, 0, r.stdout)
  const rows = r.stdout.trim().split('\n')
  t.equal(rows.length, seen.size)
  for (const row of rows) {
    const [model, worst, typical] = row.split(' ') as [string, string, string]
    const agreement = vectors.agreement[model]!
    const floats = /f32|F32|F16|bf16/.test(model)
    if (model === 'qwen3moe-mxfp4.gguf') {
      // A rounding may change which expert is chosen.
      t.ok(Number(typical) <= 0.1, row)
    } else {
      t.ok(Number(worst) <= (floats ? 2e-5 : 1.25 * agreement.worst), row)
      t.ok(floats || Number(typical) <= 1.25 * agreement.typical, row)
    }
  }
  t.end()
})

t.test('emulated kernels give the bits of the reference', { skip }, t => {
  const r = run('infer_emulation', ['test', FIXTURES!])
  t.equal(r.status, 0, r.stdout)
  t.match(r.stdout, /random models of each type: equal/)
  // All files in two and three devices, with layers on the CPU, and where values stop being finite.
  t.match(r.stdout, /splits over devices and the CPU: equal, [5-9]\d{5} logits/)
  t.match(r.stdout, /plans: as they should be/)
  t.match(r.stdout, /28 of 28 files equal .* 0 different/)
  t.end()
})

t.test('steps of many sequences at mixed positions, some of hundreds, give the bits of the reference', { skip }, t => {
  const r = run('infer_emulation', ['long', FIXTURES!, String(tokens), String(seed)])
  t.equal(r.status, 0, r.stdout)
  const said = /files: (\d+) tokens, \d+ logits, 0 different$/m.exec(r.stdout)
  t.ok(said !== null && Number(said[1]) >= tokens, r.stdout.trim())
  t.comment(r.stdout.trim())
  t.end()
})

t.test('the addon says what devices there are, or why there is none', t => {
  const { devices, why } = cudaDevices()
  t.ok(devices.length > 0 || why !== '', why)
  t.end()
})
