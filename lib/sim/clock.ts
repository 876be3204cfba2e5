/**
 * Virtual time: a priority queue of timers that fire only when the simulation says so. Between two timers all promises that can
 * settle do settle, so code that awaits simulated ports runs to its next wait.
 */
import { assert } from '../base/errors.ts'
import { type Clock, sleepOn } from '../ports/clock.ts'

interface Timer {
  atMs: number
  /** Order of equal times: first set, first fired. */
  order: number
  fn: () => void
  cancelled: boolean
}

export class SimClock implements Clock {
  #nowMs = 0
  #wallMs: number
  #order = 0
  /** A binary heap by (atMs, order). */
  readonly #heap: Timer[] = []

  /** @param startMs - wall time at virtual time zero. */
  constructor(startMs = 1_700_000_000_000) {
    this.#wallMs = startMs
  }

  now(): number {
    return Math.floor(this.#wallMs + this.#nowMs)
  }

  monotonic(): number {
    return this.#nowMs
  }

  after(ms: number, fn: () => void): () => void {
    const timer: Timer = { atMs: this.#nowMs + Math.max(0, ms), order: this.#order++, fn, cancelled: false }
    push(this.#heap, timer)
    return () => {
      timer.cancelled = true
    }
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return sleepOn(this, ms, signal)
  }

  /** Shifts wall time only: clocks jump, timeouts do not. */
  jump(ms: number): void {
    this.#wallMs += ms
  }

  /** When the next timer is due, undefined when none is set. */
  next(): number | undefined {
    while (this.#heap[0]?.cancelled) pop(this.#heap)
    return this.#heap[0]?.atMs
  }

  /** Moves to the next timer and fires it; false when there is none. Promises settle only after the caller awaits. */
  step(): boolean {
    if (this.next() === undefined) return false
    const timer = pop(this.#heap)!
    assert(timer.atMs >= this.#nowMs, 'virtual time went backwards')
    this.#nowMs = timer.atMs
    timer.fn()
    return true
  }

  /** Lets `ms` pass, firing all timers due meanwhile in order, promises settled between them. */
  async advance(ms: number): Promise<void> {
    const end = this.#nowMs + ms
    await settle()
    for (let due = this.next(); due !== undefined && due <= end; due = this.next()) {
      this.step()
      await settle()
    }
    this.#nowMs = end
  }

  /** Fires timers until `done` holds; false when `withinMs` of virtual time passed first or no timer is left. */
  async until(done: () => boolean, withinMs: number): Promise<boolean> {
    const end = this.#nowMs + withinMs
    await settle()
    while (!done()) {
      const due = this.next()
      if (due === undefined || due > end) return false
      this.step()
      await settle()
    }
    return true
  }
}

/** Waits until every promise that needs no timer or I/O has settled. */
export function settle(): Promise<void> {
  return new Promise(resolve => setImmediate(resolve))
}

function before(a: Timer, b: Timer): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order)
}

function push(heap: Timer[], timer: Timer): void {
  let i = heap.push(timer) - 1
  while (i > 0) {
    const parent = (i - 1) >> 1
    if (!before(timer, heap[parent]!)) break
    heap[i] = heap[parent]!
    i = parent
  }
  heap[i] = timer
}

function pop(heap: Timer[]): Timer | undefined {
  const top = heap[0]
  const last = heap.pop()
  if (top === undefined || last === undefined || heap.length === 0) return top
  let i = 0
  for (;;) {
    let child = 2 * i + 1
    if (child >= heap.length) break
    if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++
    if (!before(heap[child]!, last)) break
    heap[i] = heap[child]!
    i = child
  }
  heap[i] = last
  return top
}
