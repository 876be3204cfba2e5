/**
 * `zg-compute serve --device cuda` on the first device: answers of the embedded model must be those of `--device cpu`, then 32 streams at once.
 *
 *   node --import tsx bench/cuda-serve.ts
 *
 * Prints JSON lines. Exit status: 0 equal, 1 different or failed, 3 no device or built without CUDA.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { packageRoot } from '../lib/base/package-root.ts'
import { cudaDevices } from '../lib/infer/cuda.ts'

const PROMPTS = ['The ship sailed', 'Once upon a time', 'It was a dark night and', 'My dear friend,']
const TOKENS = 48
const STREAMS = 32

interface Completion {
  choices: { text: string }[]
  usage: { completion_tokens: number }
}

async function complete(url: string, prompt: string, seed: number): Promise<Completion> {
  const response = await fetch(`${url}/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ prompt, max_tokens: TOKENS, temperature: 0.7, seed, ignore_eos: true })
  })
  if (!response.ok) throw new Error(`${response.status} ${await response.text()}`)
  return (await response.json()) as Completion
}

/** Starts a server, uses it, ends it. */
async function withServer<T>(device: string, use: (url: string, cpu: string) => Promise<T>): Promise<T> {
  const args = [join(packageRoot(), 'bin', 'zg-compute'), 'serve', '--device', device, '--port', '0', '--json']
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  try {
    for await (const line of createInterface({ input: child.stdout })) {
      const record = JSON.parse(line) as { type: string; url: string; cpu: string }
      if (record.type !== 'ready') continue
      const url = record.url.endsWith('/v1') ? record.url : `${record.url}/v1`
      return await use(url, record.cpu)
    }
    throw new Error(`the server with --device ${device} ended before it was ready`)
  } finally {
    child.kill('SIGTERM')
    if (child.exitCode === null) await once(child, 'exit')
  }
}

const { devices, why } = cudaDevices()
if (devices.length === 0) {
  process.stdout.write(`no CUDA device: ${why}\n`)
  process.exitCode = 3
} else {
  const texts = (url: string): Promise<string[]> =>
    Promise.all(PROMPTS.map(async (p, i) => (await complete(url, p, i)).choices[0]!.text))
  const want = await withServer('cpu', texts)
  const result = await withServer('cuda', async (url, cpu) => {
    const got = await texts(url)
    const started = performance.now()
    const many = await Promise.all(
      Array.from({ length: STREAMS }, (_, i) => complete(url, PROMPTS[i % PROMPTS.length]!, i))
    )
    const seconds = (performance.now() - started) / 1000
    const tokens = many.reduce((sum, c) => sum + c.usage.completion_tokens, 0)
    return {
      equal: got.every((text, i) => text === want[i]),
      device: cpu,
      tokens_per_second: Math.round(tokens / seconds)
    }
  })
  process.stdout.write(`${JSON.stringify({ type: 'serve_cuda', ...result })}\n`)
  process.exitCode = result.equal ? 0 : 1
}
