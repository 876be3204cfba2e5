// llama.cpp through node-llama-cpp, as bench/infer.ts runs it: one line of JSON on stdout.
//
//   node bench/infer-peer.mjs FILE THREADS PROMPT DECODED FLASH(0|1)
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const [file, threads, prompt, decoded, flash] = process.argv.slice(2)
const resolved = createRequire(import.meta.url).resolve('node-llama-cpp')
const { getLlama, LlamaLogLevel } = await import(pathToFileURL(resolved).href)
const llama = await getLlama({ gpu: false, build: 'never', logLevel: LlamaLogLevel.error, maxThreads: 0 })
const started = performance.now()
const model = await llama.loadModel({ modelPath: file, useMmap: true })
const loadSeconds = (performance.now() - started) / 1000
const context = await model.createContext({
  contextSize: Number(prompt) + Number(decoded) + 64,
  batchSize: Number(prompt),
  sequences: 8,
  threads: { ideal: Number(threads), min: Number(threads) },
  flashAttention: flash === '1'
})

/** Seconds to the first token, and of each further one. */
async function run(sequence, length) {
  await sequence.clearHistory()
  const tokens = Array.from({ length }, (_, i) => 3 + ((i * 37) % 200))
  const start = performance.now()
  let first = 0
  let count = 0
  let last = 0
  for await (const _ of sequence.evaluate(tokens, { temperature: 0, yieldEogToken: true })) {
    last = performance.now()
    if (count === 0) first = last
    if (count++ === Number(decoded)) break
  }
  return { prefill: (first - start) / 1000, step: (last - first) / 1000 / (count - 1), first, last, count }
}

const sequence = context.getSequence()
await run(sequence, Number(prompt))
const one = await run(sequence, Number(prompt))
const all = [sequence, ...Array.from({ length: 7 }, () => context.getSequence())]
const many = await Promise.all(all.map(s => run(s, 16)))
const begin = Math.max(...many.map(m => m.first))
const end = Math.max(...many.map(m => m.last))
const steps = Math.min(...many.map(m => m.count)) - 1
console.log(
  JSON.stringify({
    threads: context.currentThreads,
    loadSeconds,
    prefill: Number(prompt) / one.prefill,
    decode: 1 / one.step,
    eight: (8 * steps * 1000) / (end - begin)
  })
)
await llama.dispose()
process.exit(0)
