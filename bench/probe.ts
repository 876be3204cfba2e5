/**
 * Asks a node one thing again and again, every 20 ms, until its input ends; then prints how long the answers took. A process of its own, on
 * one kept socket with the bytes of the request made before: what it adds to an answer is small and the same for every node.
 *
 *   node --import tsx bench/probe.ts URL BODY < something that stays open
 */
import { connect } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'

const EVERY_MS = 20
const [url, body] = process.argv.slice(2)
const { hostname, port } = new URL(url!)
const request = Buffer.from(
  `POST / HTTP/1.1\r\nHost: ${hostname}:${port}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body!)}\r\n\r\n${body}`
)
const samples: number[] = []
let errors = 0
let ended = false
process.stdin.resume()
process.stdin.once('end', () => {
  ended = true
})

const socket = connect({ port: Number(port), host: hostname, noDelay: true })
await new Promise<void>((resolve, reject) => {
  socket.once('connect', resolve)
  socket.once('error', reject)
})
let answered: (text: string | undefined) => void = () => {}
let got = ''
socket.setEncoding('latin1')
socket.on('data', (part: string) => {
  got += part
  const end = got.indexOf('\r\n\r\n')
  const length = Number(/content-length: *([0-9]+)/i.exec(got.slice(0, Math.max(end, 0)))?.[1] ?? Number.NaN)
  if (end < 0 || got.length < end + 4 + length) return
  const text = got.slice(end + 4)
  got = ''
  answered(Number.isNaN(length) ? undefined : text)
})
socket.on('error', () => answered(undefined))
socket.on('close', () => answered(undefined))

while (!ended) {
  const began = performance.now()
  const text = await new Promise<string | undefined>(resolve => {
    answered = resolve
    socket.write(request)
  })
  samples.push(performance.now() - began)
  if (text?.includes('"result"') !== true) {
    errors++
    // A node that ended the connection is a failed round, not a fast one.
    if (socket.destroyed) break
  }
  const left = began + EVERY_MS - performance.now()
  if (left > 0) await pause(left)
}
socket.destroy()
samples.sort((a, b) => a - b)
const at = (share: number): number => samples[Math.min(samples.length - 1, Math.floor(samples.length * share))] ?? 0
process.stdout.write(`${JSON.stringify({ samples: samples.length, errors, p50Ms: at(0.5), p99Ms: at(0.99) })}\n`)
