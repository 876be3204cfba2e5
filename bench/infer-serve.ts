/**
 * What stands around the CPU engine's passes: how soon a first token comes through the server and without it, how many tokens 64 streams get
 * together, what a trace costs while tokens are made, and how much faster an answer is computed again than made.
 *
 *   npm run build && node --import tsx bench/infer-serve.ts [--model FILE] [--rounds 5] [--threads 1] [--tokens 64] [--json]
 *     [--only first,streams,around,tiny]    (tiny: the embedded model in place of the large one)
 *
 * `npm run bench:infer` runs it too. --model is the large one (default: half a billion random 4-bit weights, made for the run); streams are
 * those of the embedded model. The server is the built tool as a process of its own, its client this process, which only keeps the bytes
 * until all are there; then the server's texts are compared with the engine's. Medians of the rounds; the two of a pair alternate.
 */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { packageRoot } from '../lib/base/package-root.ts'
import { type LocalEngine, openEngine } from '../lib/infer/engine.ts'

const { values } = parseArgs({
  options: {
    model: { type: 'string' },
    rounds: { type: 'string', default: '5' },
    only: { type: 'string', default: 'first,streams,around' },
    threads: { type: 'string', default: '1' },
    tokens: { type: 'string', default: '64' },
    json: { type: 'boolean', default: false }
  }
})
const STREAMS = 64
const PROMPT = 64
const VERIFIED = 256
const rounds = Math.max(1, Number(values.rounds))
const threads = Number(values.threads)
const tokens = Number(values.tokens)
const root = packageRoot()
const tiny = join(root, 'share', 'models', 'tiny-zg.gguf')
const dir = mkdtempSync(join(tmpdir(), 'zg-bench-serve-'))
let fresh = 0

try {
  const only = values.only.split(',')
  const large = only.includes('tiny') ? tiny : (values.model ?? made())
  if (only.includes('first')) for (const file of new Set([tiny, large])) await firstToken(file)
  if (only.includes('streams')) await streams()
  if (only.includes('around')) await around(large)
} finally {
  rmSync(dir, { recursive: true, force: true })
}

function made(): string {
  const file = join(dir, 'random-Q4_0.gguf')
  const r = spawnSync(process.execPath, [join(root, 'scripts', 'make-random-gguf.mjs'), file, '--type', 'Q4_0'])
  if (r.status !== 0) throw new Error(String(r.stderr))
  return file
}

function say(figure: string, asked: string, value: number, detail: Record<string, number>): void {
  if (values.json) {
    console.log(JSON.stringify({ figure, asked, value, threads, ...detail }))
    return
  }
  const told = Object.entries(detail).map(([name, n]) => `${name} ${n < 10 ? n.toFixed(2) : n.toFixed(0)}`)
  console.log(`${figure.padEnd(52)} asked ${asked.padEnd(8)} ${value.toFixed(3)}   ${told.join(', ')}`)
}

function median(list: number[]): number {
  return [...list].sort((a, b) => a - b)[list.length >> 1]!
}

/** Ids no earlier prompt began with, so that nothing is remembered. */
function prompt(length: number, vocabulary: number): Int32Array {
  fresh++
  return Int32Array.from({ length }, (_, i) => 3 + ((i * 37 + fresh * 101 + (i === 0 ? fresh : 0)) % (vocabulary - 3)))
}

interface Server {
  url: string
  stop(): Promise<void>
}

async function serve(file: string): Promise<Server> {
  const args = [join(root, 'bin', 'zg-compute'), 'serve', '--port', '0', '--json', '--model', file]
  const child = spawn(process.execPath, [...args, '--threads', String(threads), '--no-lookup'], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, XDG_DATA_HOME: dir, XDG_STATE_HOME: dir, XDG_RUNTIME_DIR: dir }
  })
  for await (const line of createInterface({ input: child.stdout })) {
    const record = JSON.parse(line) as { type: string; url?: string }
    if (record.type !== 'ready') continue
    const stop = async (): Promise<void> => {
      child.kill()
      await once(child, 'close')
    }
    return { url: record.url!, stop }
  }
  throw new Error('the server ended before it was ready')
}

/** The bytes of a request for a streamed completion; greedy, so that the answer is a function of the prompt. */
function requestOf(url: string, ids: Int32Array, count: number): Buffer {
  const body = JSON.stringify({ prompt: [...ids], max_tokens: count, temperature: 0, ignore_eos: true, stream: true })
  const head = `POST /v1/completions HTTP/1.1\r\nHost: ${new URL(url).host}\r\nConnection: close\r\n`
  return Buffer.from(`${head}Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`)
}

/**
 * One streamed completion over a socket of its own, as cheap as a client can be: bytes are kept while they come and looked at by
 * {@link textOf} when all are there. First: milliseconds to the first event.
 */
function stream(url: string, request: Buffer): Promise<{ first: number; parts: Buffer[] }> {
  return new Promise((resolve, reject) => {
    const { port, hostname } = new URL(url)
    const started = performance.now()
    const parts: Buffer[] = []
    let first = 0
    const socket = connect({ port: Number(port), host: hostname, noDelay: true }, () => socket.write(request))
    socket.on('data', part => {
      parts.push(part)
      if (first === 0 && part.includes('data: {')) first = performance.now() - started
    })
    socket.on('end', () => resolve({ first, parts }))
    socket.on('error', reject)
  })
}

/** The text of a streamed answer, and its events with text. @throws when it is not whole. */
function textOf(parts: Buffer[]): { text: string; events: number } {
  const raw = Buffer.concat(parts)
  const head = raw.indexOf('\r\n\r\n')
  if (!raw.toString('latin1', 0, 15).startsWith('HTTP/1.1 200')) throw new Error(raw.toString().slice(0, 500))
  const body: Buffer[] = []
  for (let at = head + 4; ; ) {
    const end = raw.indexOf('\r\n', at)
    const size = Number.parseInt(raw.toString('latin1', at, end), 16)
    if (!(size > 0)) break
    body.push(raw.subarray(end + 2, end + 2 + size))
    at = end + 4 + size
  }
  const events = Buffer.concat(body).toString().split('\n\n')
  if (!events.includes('data: [DONE]')) throw new Error('a stream ended early')
  const texts = events
    .filter(e => e.startsWith('data: {'))
    .map(e => (JSON.parse(e.slice(6)) as { choices: { text: string }[] }).choices[0]?.text ?? '')
  return { text: texts.join(''), events: texts.filter(t => t !== '').length }
}

async function own(engine: LocalEngine, ids: Int32Array, count: number): Promise<{ first: number; text: string }> {
  const started = performance.now()
  let first = 0
  let text = ''
  for await (const step of engine.generate({
    prompt: ids,
    maxTokens: count,
    sampling: { temperature: 0 },
    ignoreEnd: true
  })) {
    text += step.text
    if (first === 0 && step.id !== undefined) first = performance.now() - started
  }
  return { first, text }
}

async function firstToken(file: string): Promise<void> {
  const engine = await openEngine(file, { threads, lookUp: false })
  const server = await serve(file)
  try {
    const { vocabularySize } = engine.info
    const pairs: { engine: number[]; server: number[] } = { engine: [], server: [] }
    for (let i = 0; i <= 2 * rounds; i++) {
      const ids = prompt(PROMPT, vocabularySize)
      const mine = await own(engine, ids, 2)
      const theirs = await stream(server.url, requestOf(server.url, ids, 2))
      if (textOf(theirs.parts).text !== mine.text) throw new Error('server and engine answer differently')
      // The first of each warms up.
      if (i === 0) continue
      pairs.engine.push(mine.first)
      pairs.server.push(theirs.first)
    }
    const [alone, through] = [median(pairs.engine), median(pairs.server)]
    const name = `first token of ${PROMPT}, ${file === tiny ? 'embedded model' : 'large model'}, server / engine`
    say(name, '<= 1.1', through / alone, { engine_ms: alone, server_ms: through })
  } finally {
    await server.stop()
    await engine.close()
  }
}

async function streams(): Promise<void> {
  const engine = await openEngine(tiny, { threads, lookUp: false })
  const server = await serve(tiny)
  try {
    const { vocabularySize } = engine.info
    const rates: { engine: number[]; server: number[] } = { engine: [], server: [] }
    let events = 0
    for (let i = 0; i <= rounds; i++) {
      const prompts = Array.from({ length: STREAMS }, () => prompt(16, vocabularySize))
      const requests = prompts.map(p => requestOf(server.url, p, tokens))
      let started = performance.now()
      const mine = await Promise.all(prompts.map(p => own(engine, p, tokens)))
      const alone = (STREAMS * tokens * 1000) / (performance.now() - started)
      started = performance.now()
      const theirs = await Promise.all(requests.map(r => stream(server.url, r)))
      const through = (STREAMS * tokens * 1000) / (performance.now() - started)
      const told = theirs.map(t => textOf(t.parts))
      if (told.some((t, at) => t.text !== mine[at]!.text)) throw new Error('server and engine answer differently')
      if (i === 0) continue
      events = told.reduce((sum, t) => sum + t.events, 0) / (STREAMS * tokens)
      rates.engine.push(alone)
      rates.server.push(through)
    }
    const [alone, through] = [median(rates.engine), median(rates.server)]
    say(`${STREAMS} streams, embedded model, server / engine`, '>= 0.9', through / alone, {
      engine_tokens_s: alone,
      server_tokens_s: through,
      events_per_token: events
    })
  } finally {
    await server.stop()
    await engine.close()
  }
}

/** What a trace costs, and an answer computed again. */
async function around(file: string): Promise<void> {
  const engine = await openEngine(file, { threads, lookUp: false })
  try {
    const { vocabularySize } = engine.info
    const trace = new Uint8Array(32)
    const request = { maxTokens: VERIFIED, sampling: { temperature: 0 }, ignoreEnd: true }
    const run = async (extra: { trace?: Uint8Array; forced?: Int32Array }, ids: Int32Array) => {
      const made: number[] = []
      const used = process.cpuUsage()
      let started = 0
      // From the first token on, but for an answer that exists: all of it.
      const begin = performance.now()
      for await (const step of engine.generate({ ...request, prompt: ids, ...extra })) {
        if (step.id === undefined) continue
        if (made.length === 0) started = performance.now()
        made.push(step.id)
      }
      const { user, system } = process.cpuUsage(used)
      const ended = performance.now()
      return { made, decode: ended - started, all: ended - begin, cpu: (user + system) / 1000 }
    }
    const parts: number[] = []
    const faster: number[] = []
    for (let i = 0; i < rounds; i++) {
      const ids = prompt(16, vocabularySize)
      const plain = await run({}, prompt(16, vocabularySize))
      const traced = await run({ trace }, ids)
      parts.push(traced.cpu / plain.cpu - 1)
      const again = await run({ trace, forced: Int32Array.from(traced.made) }, ids)
      if (again.made.some((id, at) => id !== traced.made[at])) throw new Error('computed again, tokens differ')
      faster.push(traced.all / again.all)
    }
    say('trace, of the processor time of making tokens', '<= 0.03', median(parts), { least: Math.min(...parts) })
    say(`${VERIFIED} tokens made / computed again`, '>= 4', median(faster), { best: Math.max(...faster) })
  } finally {
    await engine.close()
  }
}
