/**
 * Models beside the first one: opened when somebody asks for them, closed again, the least used first, when another one needs the memory.
 * A model that answers is never closed.
 */
import { stat } from 'node:fs/promises'
import { basename } from 'node:path'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import type { Engine } from '../../../lib/infer/types.ts'
import type { Logger } from '../../../lib/ops/log.ts'
import { BusyError } from './errors.ts'

/** Longest wait for a model to be opened, others closed first. */
export const OPEN_WAIT_MS = 120_000

/** An engine that is held for a request. */
export interface Held {
  engine: Engine
  /** Names that mean it, the one to answer with first. */
  names: readonly string[]
  fingerprint: string
  /** Unix seconds. */
  created: number
  release: () => void
}

export interface ModelSetOptions {
  files: readonly { name: string; path: string }[]
  open: (path: string) => Promise<Engine>
  /** For weights and caches of all that are open. */
  memoryBytes: number
  /** What a model's cache takes beside its file. */
  cacheBytes: number
  fingerprint: (path: string) => Promise<string>
  logger: Logger
}

interface Entry {
  name: string
  path: string
  /** Undefined while it is closed. */
  opening: Promise<Held> | undefined
  bytes: number
  users: number
  /** Order of use. */
  used: number
}

export class ModelSet {
  readonly #o: ModelSetOptions
  readonly #entries: Entry[]
  #turn = 0
  /** Woken when a model is released. */
  readonly #waiting = new Set<() => void>()
  /** Somebody makes room for a model: all others come after him, or those who share an open model would keep it open for ever. */
  #line: Promise<unknown> | undefined
  #closed = false

  constructor(o: ModelSetOptions) {
    this.#o = o
    this.#entries = o.files.map(f => ({ ...f, opening: undefined, bytes: 0, users: 0, used: 0 }))
    const seen = new Set<string>()
    for (const { name } of this.#entries) {
      if (seen.has(name)) throw new ZgError('ERR_USAGE', `two models are called '${name}'`)
      seen.add(name)
    }
  }

  names(): string[] {
    return this.#entries.map(e => e.name)
  }

  has(name: string): boolean {
    return this.#entries.some(e => e.name === name)
  }

  /** Models that are open, and their memory. */
  stats(): { open: number; bytes: number } {
    const open = this.#entries.filter(e => e.bytes > 0)
    return { open: open.length, bytes: open.reduce((sum, e) => sum + e.bytes, 0) }
  }

  /**
   * Opens it if need be and holds it.
   * @throws {BusyError} 503 when there is no room for it in time; {ZgError} when it cannot be opened.
   */
  async take(name: string, signal: AbortSignal): Promise<Held> {
    const entry = this.#entries.find(e => e.name === name)!
    while (this.#line !== undefined) await this.#line
    signal.throwIfAborted()
    entry.users++
    entry.used = ++this.#turn
    let released = false
    const release = (): void => {
      if (released) return
      released = true
      entry.users--
      for (const wake of this.#waiting) wake()
    }
    try {
      if (entry.opening === undefined) {
        entry.opening = this.#open(entry, signal)
        const line = entry.opening.then(
          () => {},
          () => {}
        )
        this.#line = line
        void line.then(() => {
          if (this.#line === line) this.#line = undefined
        })
      }
      return { ...(await entry.opening), release }
    } catch (err) {
      release()
      throw err
    }
  }

  async close(): Promise<void> {
    this.#closed = true
    for (const wake of this.#waiting) wake()
    await Promise.all(this.#entries.map(e => this.#shut(e)))
  }

  async #open(entry: Entry, signal: AbortSignal): Promise<Held> {
    try {
      const file = await stat(entry.path).catch((err: unknown) => {
        throw new ZgError('ERR_UNAVAILABLE', `the model '${entry.name}' cannot be read: ${messageOf(err)}`)
      })
      const bytes = file.size + this.#o.cacheBytes
      await this.#makeRoom(entry, bytes, signal)
      entry.bytes = bytes
      const began = performance.now()
      const [engine, fingerprint] = await Promise.all([this.#o.open(entry.path), this.#o.fingerprint(entry.path)])
      const ms = Math.round(performance.now() - began)
      this.#o.logger.info('model opened', { model: entry.name, bytes: entry.bytes, ms })
      const created = Math.floor(file.mtimeMs / 1000)
      return { engine, names: [entry.name], fingerprint, created, release: () => {} }
    } catch (err) {
      entry.opening = undefined
      entry.bytes = 0
      throw err
    }
  }

  /** Closes others, least used first, until the model fits; waits for those that answer. */
  async #makeRoom(entry: Entry, bytes: number, signal: AbortSignal): Promise<void> {
    if (bytes > this.#o.memoryBytes) {
      throw new ZgError('ERR_UNAVAILABLE', `the model '${entry.name}' needs more memory than models may have`)
    }
    const until = performance.now() + OPEN_WAIT_MS
    while (this.stats().bytes + bytes > this.#o.memoryBytes) {
      signal.throwIfAborted()
      if (this.#closed) throw new ZgError('ERR_STOPPED', 'the server stops')
      const idle = this.#entries
        .filter(e => e !== entry && e.bytes > 0 && e.users === 0)
        .sort((a, b) => a.used - b.used)[0]
      if (idle !== undefined) {
        await this.#shut(idle)
        continue
      }
      const left = until - performance.now()
      if (left <= 0)
        throw new BusyError(503, 'overloaded', 'other models are in use and leave no memory for this one', 5)
      await new Promise<void>(resolve => {
        const wake = (): void => {
          clearTimeout(timer)
          signal.removeEventListener('abort', wake)
          this.#waiting.delete(wake)
          resolve()
        }
        const timer = setTimeout(wake, left)
        signal.addEventListener('abort', wake, { once: true })
        this.#waiting.add(wake)
      })
    }
  }

  async #shut(entry: Entry): Promise<void> {
    const { opening } = entry
    entry.opening = undefined
    const held = await opening?.catch(() => undefined)
    entry.bytes = 0
    await held?.engine.close()
    if (held !== undefined) this.#o.logger.info('model closed', { model: entry.name })
  }
}

/** `NAME=FILE`, or a file that gives its own name. */
export function modelFile(text: string): { name: string; path: string } {
  const named = /^([\w.-]{1,100})=(.+)$/.exec(text)
  if (named !== null) return { name: named[1]!, path: named[2]! }
  return { name: basename(text).replace(/\.gguf$/, ''), path: text }
}
