/**
 * Back-pressure for uploads by JSON-RPC. One SDK call for a 1 GiB file opens 4,096 requests of 350 KB at the same time, each in
 * memory until its JSON is parsed. So a request body is only read while all bodies together stay within a bound; the others wait in the
 * kernel's buffers, where they cost us nothing, and their own deadline starts when reading starts.
 */
import type { HttpRoute } from '../../../lib/adapters/jsonrpc/types.ts'

const TOTAL_BYTES = 192 * 1024 * 1024
/** A body that may be huge counts as this much: it arrives in pieces, and few clients send such. */
const MOST_BYTES = 32 * 1024 * 1024
/** Chunked bodies do not say how long they are. */
const UNKNOWN_BYTES = 1024 * 1024

/** A route that answers nothing but lets a POST through only when there is room for its body. */
export function admission(totalBytes: number = TOTAL_BYTES): HttpRoute {
  let taken = 0
  const queue: { bytes: number; go: () => void }[] = []
  const next = (): void => {
    while (queue.length > 0 && (taken === 0 || taken + queue[0]!.bytes <= totalBytes)) {
      const first = queue.shift()!
      taken += first.bytes
      first.go()
    }
  }
  return async (req, res) => {
    if (req.method !== 'POST') return false
    const announced = Number(req.headers['content-length'] ?? UNKNOWN_BYTES)
    const bytes = Math.min(MOST_BYTES, Number.isFinite(announced) ? announced : UNKNOWN_BYTES)
    let admitted = false
    await new Promise<void>(resolve => {
      const waiting = {
        bytes,
        go: () => {
          admitted = true
          resolve()
        }
      }
      queue.push(waiting)
      res.once('close', () => {
        if (admitted) taken -= bytes
        else queue.splice(queue.indexOf(waiting), 1)
        resolve()
        next()
      })
      next()
    })
    // The client left while waiting: nothing to answer.
    return !admitted
  }
}
