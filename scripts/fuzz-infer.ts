/**
 * Damaged model files, random chat templates and random requests against what reads them, with address and undefined-behaviour sanitizers
 * in all native code.
 *
 *   npm run fuzz:infer -- [--inputs N] [--seed S] [--only gguf|template|request]
 *
 * Model files (two fifths of the inputs) are read by a program of its own (scripts/fuzz-gguf.mjs). Templates and requests are read by
 * TypeScript, which no sanitizer can look into: these inputs run in a Node process with bounds on time and memory for each, whose native
 * part (tokenizer, guards, grammars) is the sanitized one. Exit status: 0 nothing found, 1 a finding or a failed build.
 */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { packageRoot } from '../lib/base/package-root.ts'

const { values } = parseArgs({
  options: { inputs: { type: 'string', default: '1000000' }, seed: { type: 'string' }, only: { type: 'string' } }
})
const seed = values.seed ?? String(Date.now() % 1_000_000)
const inputs = Number(values.inputs)
const root = packageRoot()
const shares = { gguf: 0.4, template: 0.25, request: 0.35 } as const
process.exitCode = main()

function main(): number {
  let rest = inputs
  for (const part of Object.keys(shares) as (keyof typeof shares)[]) {
    if (values.only !== undefined && values.only !== part) continue
    const count = values.only === undefined ? Math.round(inputs * shares[part]) : inputs
    const status = part === 'gguf' ? gguf(count) : inProcess(part, count)
    if (status !== 0) return 1
    rest -= count
  }
  process.stdout.write(`fuzz: ${inputs - rest} inputs, nothing found (seed ${seed})\n`)
  return 0
}

function gguf(count: number): number {
  const script = join(root, 'scripts', 'fuzz-gguf.mjs')
  return run([script, '--inputs', String(count), '--seed', seed], process.env)
}

function inProcess(part: string, count: number): number {
  const built = spawnSync(process.execPath, [join(root, 'scripts', 'sanitize-infer.mjs')], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit']
  })
  if (built.status !== 0) return built.status ?? 1
  const [addon, library] = built.stdout.trim().split('\n') as [string, string]
  const fixture = ['..', '../..'].map(up => join(root, up, 'shared/fixtures/models/llama3-f32.gguf')).find(existsSync)
  const model = fixture ?? join(root, 'share', 'models', 'tiny-zg.gguf')
  return run(
    [
      ...['--max-old-space-size=768', '--import', 'tsx', join(root, 'scripts', 'fuzz-infer-child.ts')],
      ...[part, String(count), seed, addon, model]
    ],
    {
      ...process.env,
      LD_PRELOAD: library,
      // Node frees little at its end, and handles bad accesses of its own; what was freed is kept for a while, not for ever.
      ASAN_OPTIONS: 'detect_leaks=0:quarantine_size_mb=32:handle_segv=0:abort_on_error=1',
      UBSAN_OPTIONS: 'print_stacktrace=1'
    }
  )
}

function run(args: string[], env: NodeJS.ProcessEnv): number {
  const r = spawnSync(process.execPath, args, { stdio: 'inherit', cwd: root, env })
  if (r.status !== 0) process.stderr.write(`fuzz: ended with ${r.status ?? r.signal} (seed ${seed})\n`)
  return r.status ?? 1
}
