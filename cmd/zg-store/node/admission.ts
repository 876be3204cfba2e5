/**
 * Back-pressure for uploads by JSON-RPC. One SDK call for a 1 GiB file opens 4,096 requests of 350 KB at the same time, each in
 * memory until its segment is stored. So a request body is only read while all bodies together stay within a bound; the others wait in the
 * kernel's buffers, where they cost us nothing, and their own deadline starts when reading starts.
 *
 * A body counts with its announced length as soon as it moves; while its client stands still only with what it sent, so that clients
 * which announce much and send nothing cannot keep others out. If such clients all wake up at once, those with the most bytes are cut off.
 */
import type { Socket } from 'node:net'
import type { HttpRoute } from '../../../lib/adapters/jsonrpc/types.ts'

/** More than the largest body, so that none passes by. */
const TOTAL_BYTES = 112 * 1024 * 1024
/** Chunked bodies do not say how long they are. */
const UNKNOWN_BYTES = 1024 * 1024
/** A longer body counts as this much until the first look at it. */
const FIRST_CHARGE_BYTES = 1024 * 1024
const LOOK_MS = 500
/** Less than this between two looks is standing still. */
const STILL_BYTES = 8 * 1024

interface Admitted {
  socket: Socket
  announced: number
  startBytes: number
  lastBytes: number
  charge: number
}

/** A route that answers nothing but lets a POST through only when there is room for its body. */
export function admission(totalBytes: number = TOTAL_BYTES): HttpRoute {
  const admitted = new Set<Admitted>()
  let taken = 0
  let timer: NodeJS.Timeout | undefined
  const queue: { bytes: number; go: () => void }[] = []

  function next(): void {
    while (queue.length > 0 && (taken === 0 || taken + queue[0]!.bytes <= totalBytes)) queue.shift()!.go()
    if (admitted.size > 0 && timer === undefined) timer = setInterval(look, LOOK_MS).unref()
    if (admitted.size === 0 && timer !== undefined) {
      clearInterval(timer)
      timer = undefined
    }
  }

  function look(): void {
    let received = 0
    let largest: Admitted | undefined
    taken = 0
    for (const a of admitted) {
      const got = a.socket.bytesRead - a.startBytes
      const still = got < a.announced && a.socket.bytesRead - a.lastBytes < STILL_BYTES
      a.lastBytes = a.socket.bytesRead
      a.charge = still ? Math.min(got, a.announced) : a.announced
      taken += a.charge
      received += got
      if (got < a.announced && (largest === undefined || got > largest.socket.bytesRead - largest.startBytes))
        largest = a
    }
    if (received > 2 * totalBytes) largest?.socket.destroy()
    next()
  }

  return async (req, res) => {
    if (req.method !== 'POST') return false
    const length = Number(req.headers['content-length'] ?? UNKNOWN_BYTES)
    const announced = Number.isFinite(length) ? length : UNKNOWN_BYTES
    // Refused unread by the body bound, whatever it is.
    if (announced > totalBytes) return false
    let entry: Admitted | undefined
    await new Promise<void>(resolve => {
      const charge = Math.min(announced, FIRST_CHARGE_BYTES)
      const waiting = {
        bytes: charge,
        go: () => {
          const at = req.socket.bytesRead
          entry = { socket: req.socket, announced, startBytes: at, lastBytes: at, charge }
          admitted.add(entry)
          taken += charge
          resolve()
        }
      }
      queue.push(waiting)
      res.once('close', () => {
        if (entry !== undefined) {
          admitted.delete(entry)
          taken -= entry.charge
        } else queue.splice(queue.indexOf(waiting), 1)
        resolve()
        next()
      })
      next()
    })
    // The client left while waiting: nothing to answer.
    return entry === undefined
  }
}
