/**
 * The quick set of the public fixtures on builds of native/evm with sanitizers (address and undefined behaviour; whatever they find ends the
 * program): every Prague and Osaka case of the state tests, all vectors, the Cancun block tests.
 *
 *   npm run test:sanitize:evm [-- --forks Prague,Osaka] [--match TEXT] [--part K/N]
 *
 * The addon answers each request first, and the answer is checked against the fixture; the program (native/evm/test/exec_sanitize.cpp) must then
 * answer the same bytes. Exit status 1 when a case fails, an answer differs, or a sanitizer speaks.
 */
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { type Conformance, loadConformance } from '../lib/native.ts'
import { fixturesDir, jsonFiles, type Outcome, runBlockFile, runStateFile } from '../test/harness/evm-fixtures.ts'
import { runVectors } from '../test/harness/evm-vectors.ts'
// biome-ignore lint/correctness/useImportExtensions: the build script is JavaScript, so that it runs before anything is installed
import { buildProgram } from './evm-programs.mjs'

/** Requests go to the program in files of about this size. */
const CHUNK_BYTES = 48 << 20

const { values } = parseArgs({
  options: { forks: { type: 'string' }, match: { type: 'string' }, part: { type: 'string', default: '1/1' } }
})
// Of each kind every Nth file from the Kth on: the whole in pieces.
const [part, parts] = values.part.split('/').map(Number) as [number, number]
process.exitCode = await main()

async function main(): Promise<number> {
  if (!(part >= 1 && part <= parts)) {
    process.stderr.write(`sanitize-evm: --part ${values.part} is not K/N\n`)
    return 1
  }
  const dir = fixturesDir()
  if (dir === undefined) {
    process.stderr.write('sanitize-evm: the fixtures are not there (../shared/fixtures/evm/evm-fixtures.tar.xz)\n')
    return 1
  }
  const program = await buildProgram('exec_sanitize')
  const temp = mkdtempSync(join(tmpdir(), 'zg-sanitize-'))
  try {
    return await repeat(dir, program, temp)
  } finally {
    rmSync(temp, { recursive: true, force: true })
  }
}

async function repeat(dir: string, program: string, temp: string): Promise<number> {
  const native = loadConformance()
  let chunk: Uint8Array[] = []
  let size = 0
  const run: Conformance = (kind, request) => {
    const answer = native(kind, request)
    for (const part of [new TextEncoder().encode(kind), request, answer]) {
      const head = new Uint8Array(4)
      new DataView(head.buffer).setUint32(0, part.length, true)
      chunk.push(head, Uint8Array.from(part))
      size += 4 + part.length
    }
    return answer
  }
  let bad = 0
  let requests = 0
  const flush = async (): Promise<void> => {
    if (size === 0) return
    const file = join(temp, 'requests')
    writeFileSync(file, Buffer.concat(chunk))
    chunk = []
    size = 0
    const { status, text } = await execute(program, file)
    const n = /^(\d+) requests, 0 differences$/m.exec(text)
    if (status === 0 && n !== null) requests += Number(n[1])
    else {
      bad++
      process.stdout.write(`${text.slice(0, 20_000)}\nFAIL the program ended with ${status}\n`)
    }
  }
  const forks = values.forks?.split(',') ?? ['Prague', 'Osaka']
  const suites: [string, string, (file: string) => Outcome | Promise<Outcome>][] = [
    ['vectors', 'vectors', file => runVectors(run, file)],
    ['state tests', 'state', file => runStateFile(run, file, forks)],
    ['block tests', 'blockchain', file => runBlockFile(run, file, ['Cancun'])]
  ]
  for (const [name, folder, runFile] of suites) {
    const before = { bad, requests }
    let cases = 0
    for (const [i, file] of jsonFiles(join(dir, folder)).entries()) {
      if (i % parts !== part - 1) continue
      if (values.match !== undefined && !file.includes(values.match)) continue
      const outcome = await runFile(file)
      cases += outcome.cases
      for (const f of outcome.failures) process.stdout.write(`FAIL ${f}\n`)
      bad += outcome.failures.length
      if (size > CHUNK_BYTES) await flush()
    }
    await flush()
    process.stdout.write(
      `${name.padEnd(12)} ${cases} cases, ${requests - before.requests} requests answered alike, ${bad - before.bad} faults\n`
    )
  }
  return bad === 0 && requests > 0 ? 0 : 1
}

function execute(program: string, file: string): Promise<{ status: number | string; text: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, [file], { env: { ...process.env, UBSAN_OPTIONS: 'print_stacktrace=1' } })
    let text = ''
    child.stdout.on('data', d => {
      text += d
    })
    child.stderr.on('data', d => {
      text += d
    })
    child.on('error', reject)
    child.on('close', (code, signal) => resolve({ status: code ?? signal ?? 'nothing', text }))
  })
}
