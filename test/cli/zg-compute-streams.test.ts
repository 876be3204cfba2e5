/**
 * Proves that the built server holds 1,000 streams at once on the model that comes along: none lost, none mixed up (each prompt has a canary,
 * and each answer is the one its prompt gets alone), memory bounded, cancelled ones free their pages within a moment, and one request too many
 * is told when to come back.
 */
import { existsSync, readFileSync } from 'node:fs'
import { Agent, request as httpRequest, type IncomingMessage } from 'node:http'
import { join } from 'node:path'
import t from 'tap'
import { openEngine } from '../../lib/infer/engine.ts'
import { nativePath } from '../../lib/native.ts'
import { packageRoot, type RunningTool, sandbox, startTool, waitFor } from '../harness/tools.ts'

const skip = existsSync(nativePath('infer')) ? false : 'no native build here'
const STREAMS = 1_000
const TOKENS = 24
/** The process before it serves has about 130 MB. */
const MEMORY_MAX_BYTES = 700 * 1024 * 1024
const agent = new Agent({ maxSockets: Number.POSITIVE_INFINITY, keepAlive: false })
const box = sandbox('streams')
t.setTimeout(240_000)
t.teardown(() => box.remove())

interface Call {
  status: number
  retryAfter: string | undefined
  text: string
  finish: string | undefined
  whole: boolean
}

/** A streamed completion; `leave` ends the connection after so many events. */
function complete(url: string, body: Record<string, unknown>, leave = Number.POSITIVE_INFINITY): Promise<Call> {
  return new Promise((resolve, reject) => {
    const sent = JSON.stringify({ model: 'tiny-zg', stream: true, ...body })
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(sent) }
    const call: Call = { status: 0, retryAfter: undefined, text: '', finish: undefined, whole: false }
    const req = httpRequest(`${url}/v1/completions`, { method: 'POST', agent, headers }, (res: IncomingMessage) => {
      call.status = res.statusCode!
      call.retryAfter = res.headers['retry-after']
      let rest = ''
      let events = 0
      res.setEncoding('utf8')
      res.on('data', (part: string) => {
        const lines = (rest + part).split('\n\n')
        rest = lines.pop()!
        for (const line of lines) {
          if (line === 'data: [DONE]') call.whole = true
          else if (line.startsWith('data: ')) {
            const { choices } = JSON.parse(line.slice(6)) as {
              choices: { text: string; finish_reason: string | null }[]
            }
            call.text += choices[0]?.text ?? ''
            call.finish = choices[0]?.finish_reason ?? call.finish
            if (++events >= leave) req.destroy()
          }
        }
      })
      res.on('close', () => resolve(call))
    })
    req.on('error', err => (call.status > 0 ? resolve(call) : reject(err)))
    req.end(sent)
  })
}

async function metric(server: RunningTool, name: string): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${server.ready.admin_port}/metrics`)).text()
  const line = text.split('\n').find(l => l.startsWith(`zg_compute_${name} `))
  if (line === undefined) throw new Error(`no metric ${name}`)
  return Number(line.split(' ')[1])
}

const residentPeak = (pid: number): number =>
  Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) * 1024

const canary = (i: number): string => `bird-${(i * 7_919) % 1_000_003}-${i}`
const promptOf = (i: number): string =>
  `${['The ship', 'In the morning he', 'Send a letter to', 'Once there was'][i % 4]} ${canary(i)} and `
const sampling = (i: number) => (i % 3 === 0 ? { temperature: 0 } : { temperature: 0.8, seed: i })

t.test('a thousand streams at once', { skip }, async t => {
  const args = ['serve', '--port', '0', '--queue', '1000', '--threads', '2', '--no-lookup']
  const server = await startTool('zg-compute', args, { env: { ...box.env, ZG_LOG: 'error' }, timeoutMs: 60_000 })
  t.teardown(() => server.kill9())
  const calls = await Promise.all(
    Array.from({ length: STREAMS }, (_, i) =>
      complete(server.url, {
        prompt: promptOf(i),
        echo: true,
        max_tokens: TOKENS,
        ignore_eos: true,
        user: `u${i % 20}`,
        ...sampling(i)
      })
    )
  )
  const peak = residentPeak(server.pid)
  t.equal(calls.filter(c => c.status === 200 && c.whole && c.finish === 'length').length, STREAMS, 'none is lost')
  t.equal(calls.filter((c, i) => c.text.startsWith(promptOf(i))).length, STREAMS, 'each has its canary')
  t.ok(peak < MEMORY_MAX_BYTES, `peak memory ${(peak / 2 ** 20).toFixed(0)} MiB`)
  t.equal(await metric(server, 'engine_pages_used'), 0, 'all pages are back')
  t.ok((await metric(server, 'engine_rows')) / (await metric(server, 'engine_steps')) > 8, 'they shared their steps')
  // Each alone, in another process and one at a time.
  const engine = await openEngine(join(packageRoot, 'share', 'models', 'tiny-zg.gguf'), {
    threads: 1,
    running: 1,
    lookUp: false
  })
  let wrong = 0
  for (let i = 0; i < STREAMS; i += 4) {
    const prompt = engine.textPrompt(promptOf(i))
    const { temperature, seed } = sampling(i) as { temperature: number; seed?: number }
    let text = promptOf(i)
    const wanted = { temperature, seed: BigInt(seed ?? 0) }
    for await (const step of engine.generate({ prompt, maxTokens: TOKENS, ignoreEnd: true, sampling: wanted }))
      text += step.text
    if (text !== calls[i]!.text && wrong++ < 3)
      t.fail(`request ${i}: ${JSON.stringify(calls[i]!.text)} instead of ${JSON.stringify(text)}`)
  }
  await engine.close()
  t.equal(wrong, 0, 'each answer is the one it gets alone')

  // Clients that leave: most after a few events, some before anything came.
  const cancelled = await metric(server, 'engine_cancelled')
  await Promise.all(
    Array.from({ length: 400 }, (_, i) =>
      complete(server.url, { prompt: promptOf(i), max_tokens: 400, ignore_eos: true }, 1 + (i % 5))
    )
  )
  const idle = async () =>
    (await metric(server, 'engine_running')) + (await metric(server, 'engine_waiting')) === 0 &&
    (await metric(server, 'engine_pages_used')) === 0
  await waitFor(idle, { what: 'cancelled requests to free their pages' })
  t.ok((await metric(server, 'engine_cancelled')) - cancelled >= 390, 'they were cancelled, not computed to their end')
  const after = residentPeak(server.pid)
  t.ok(after < MEMORY_MAX_BYTES, `peak memory ${(after / 2 ** 20).toFixed(0)} MiB`)
  await server.stop()
})

t.test('one more than may wait is told when to come back', { skip }, async t => {
  const args = ['serve', '--port', '0', '--parallel', '2', '--queue', '6', '--threads', '1']
  const server = await startTool('zg-compute', args, { env: { ...box.env, ZG_LOG: 'error' }, timeoutMs: 60_000 })
  t.teardown(() => server.kill9())
  const calls = await Promise.all(
    Array.from({ length: 40 }, (_, i) =>
      complete(server.url, { prompt: promptOf(i), max_tokens: 200, ignore_eos: true })
    )
  )
  const busy = calls.filter(c => c.status === 429)
  t.ok(busy.length >= 1 && busy.every(c => Number(c.retryAfter) >= 1), `${busy.length} refused with Retry-After`)
  t.equal(calls.filter(c => c.status === 200 && c.whole).length + busy.length, 40, 'the others are answered')
  await server.stop()
})
