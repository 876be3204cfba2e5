/**
 * Asks a node the same every 20 ms on one connection until its stdin ends, then answers one JSON line with the latencies. A process of its own:
 * what it waits for is the node, and not the driver of the load.
 *
 *   node --import tsx bench/probe.ts URL BODY
 */
import { Agent, request } from 'node:http'

const [url, body] = process.argv.slice(2)
const agent = new Agent({ keepAlive: true, maxSockets: 1 })
const samples: number[] = []
let errors = 0
let ended = false
process.stdin.resume()
process.stdin.once('end', () => {
  ended = true
})

function ask(): Promise<void> {
  return new Promise(resolve => {
    const began = performance.now()
    const req = request(url!, { method: 'POST', agent, headers: { 'content-type': 'application/json' } }, res => {
      let text = ''
      res.setEncoding('utf8')
      res.on('data', part => {
        text += part
      })
      res.on('end', () => {
        samples.push(performance.now() - began)
        if (!text.includes('"result"')) errors++
        resolve()
      })
    })
    req.on('error', () => {
      errors++
      resolve()
    })
    req.end(body)
  })
}

while (!ended) {
  const next = performance.now() + 20
  await ask()
  const wait = next - performance.now()
  if (wait > 0) await new Promise(resolve => setTimeout(resolve, wait))
}
agent.destroy()
samples.sort((a, b) => a - b)
const at = (share: number): number => samples[Math.min(samples.length - 1, Math.floor(samples.length * share))] ?? 0
process.stdout.write(`${JSON.stringify({ samples: samples.length, errors, p50Ms: at(0.5), p99Ms: at(0.99) })}\n`)
