/**
 * Back-pressure for uploads by JSON-RPC. One SDK call for a 1 GiB file opens 4,096 connections and sends 350 KB on each at the same time.
 * All are served in their turn, none is refused, and what has not had its turn costs next to nothing, by two bounds:
 *
 * ```
 *   accepted ──► gate: 160 connections that are read for the first time ──► room: bodies of 48 MiB together ──► store ──► answer
 *                the others wait unread in the kernel                       the others wait with one piece of 64 KiB
 * ```
 *
 * **The gate.** Node reads up to 64 KiB of a connection before anybody can say no: 256 MiB for 4,096 of them. So a new connection is not
 * read at all before one of 160 places is free. It keeps its place until its first request is answered, less when
 * that is not JSON-RPC, and no longer than a second without a word. While others wait at the gate, an answer is the last one of its connection: who wants more queues again.
 *
 * **The room.** A body counts with its announced length as soon as it moves; while its client stands still only with what it sent, so that
 * clients which announce much and send nothing cannot keep others out. If such clients all wake up at once, those with the most bytes are
 * cut off. The deadline of a body starts when its reading starts.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { type ConnectionGate, lastAnswer } from '../../../lib/adapters/http.ts'
import type { HttpRoute } from '../../../lib/adapters/jsonrpc/types.ts'

const TOTAL_BYTES = 48 * 1024 * 1024
/** Connections whose first request is being read or answered. */
const FIRST_REQUESTS = 160
/** How long one that says nothing keeps others out. */
const SILENT_MS = 1_000
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

/** The gate, and the route that goes before all others so that it knows who has said something. */
export function firstRequests(places: number = FIRST_REQUESTS): {
  gate: ConnectionGate
  route: HttpRoute
  waiting: () => number
} {
  const line: (() => void)[] = []
  const placeOf = new WeakMap<Socket, Place>()
  let taken = 0

  function enter(socket: Socket, go: () => void): void {
    taken++
    const place = new Place(() => {
      taken--
      while (taken < places && line.length > 0) line.shift()!()
    })
    placeOf.set(socket, place)
    socket.once('close', () => place.leave())
    go()
  }

  return {
    gate: (socket, go) => {
      if (taken < places) enter(socket, go)
      else line.push(() => enter(socket, go))
    },
    route: (req: IncomingMessage, res: ServerResponse) => {
      const place = placeOf.get(req.socket)
      if (req.method === 'POST') {
        place?.stay(res)
        if (line.length > 0) lastAnswer(res)
      } else place?.leave()
      return false
    },
    waiting: () => line.length
  }
}

/** One of the places behind the gate; left once. */
class Place {
  readonly #leave: () => void
  #timer: NodeJS.Timeout
  #here = true

  constructor(leave: () => void) {
    this.#leave = leave
    this.#timer = setTimeout(() => this.leave(), SILENT_MS)
  }

  /** Until this answer is sent, or the client stops in the middle of its body. */
  stay(res: ServerResponse): void {
    if (!this.#here) return
    const { req } = res
    let seen = 0
    clearTimeout(this.#timer)
    this.#timer = setInterval(() => {
      // Not those that wait for room: they are not read.
      if (req.readableFlowing === true && !req.complete && req.socket.bytesRead === seen) this.leave()
      seen = req.socket.bytesRead
    }, SILENT_MS)
    res.once('close', () => this.leave())
  }

  leave(): void {
    if (!this.#here) return
    this.#here = false
    clearTimeout(this.#timer)
    this.#leave()
  }
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
    // A body larger than all the room, if such are allowed, is received alone.
    const announced = Math.min(totalBytes, Number.isFinite(length) ? length : UNKNOWN_BYTES)
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
