/**
 * A tight HTTP/1.1 client for load: one request at a time on each of N kept-alive connections, straight over node:net. Runs as a process of
 * its own so that the server's event loop is not shared. Answers one JSON line: requests a second, latencies, and the first answer, by which
 * the caller sees that both servers answered the same.
 *
 *   node --import tsx bench/rpc-client.ts URL CONNECTIONS SECONDS BODY
 */
import { connect, type Socket } from 'node:net'
import { pathToFileURL } from 'node:url'

export interface LoadResult {
  requests: number
  perSecond: number
  p50Ms: number
  p99Ms: number
  maxMs: number
  errors: number
  first: string
}

/** Sends `body` again and again for `seconds` after a tenth of that as warm-up. @throws when a connection cannot be made. */
export async function load(url: string, connections: number, seconds: number, body: string): Promise<LoadResult> {
  const { hostname, port } = new URL(url)
  const request = Buffer.from(
    `POST / HTTP/1.1\r\nHost: ${hostname}:${port}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`
  )
  const samples: number[] = []
  let measuring = false
  let stopped = false
  let errors = 0
  let first = ''
  const sockets: Socket[] = []
  const one = async (): Promise<void> => {
    const socket = connect({ port: Number(port), host: hostname, noDelay: true })
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve)
      socket.once('error', reject)
    })
    socket.on('error', () => errors++)
    sockets.push(socket)
    let sent = performance.now()
    let got: Buffer = Buffer.alloc(0)
    socket.on('data', (part: Buffer) => {
      got = got.length === 0 ? part : Buffer.concat([got, part])
      const end = got.indexOf('\r\n\r\n')
      if (end < 0) return
      const head = got.toString('latin1', 0, end)
      const length = Number(/content-length: *([0-9]+)/i.exec(head)?.[1] ?? Number.NaN)
      if (Number.isNaN(length)) {
        errors++
        socket.destroy()
        return
      }
      if (got.length < end + 4 + length) return
      if (first === '') first = got.toString('utf8', end + 4, end + 4 + length)
      if (!head.startsWith('HTTP/1.1 200')) errors++
      got = got.subarray(end + 4 + length)
      const now = performance.now()
      if (measuring) samples.push(now - sent)
      if (stopped) return
      sent = now
      socket.write(request)
    })
    socket.write(request)
  }
  await Promise.all(Array.from({ length: connections }, one))
  await new Promise(resolve => setTimeout(resolve, seconds * 100))
  measuring = true
  const began = performance.now()
  await new Promise(resolve => setTimeout(resolve, seconds * 1000))
  measuring = false
  const lasted = (performance.now() - began) / 1000
  stopped = true
  for (const socket of sockets) socket.destroy()
  samples.sort((a, b) => a - b)
  const at = (share: number): number => samples[Math.min(samples.length - 1, Math.floor(samples.length * share))] ?? 0
  return {
    requests: samples.length,
    perSecond: Math.round(samples.length / lasted),
    p50Ms: at(0.5),
    p99Ms: at(0.99),
    maxMs: samples.at(-1) ?? 0,
    errors,
    first
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const [url, connections, seconds, body] = process.argv.slice(2)
  process.stdout.write(`${JSON.stringify(await load(url!, Number(connections), Number(seconds), body!))}\n`)
}
