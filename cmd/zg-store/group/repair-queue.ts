/**
 * Stripes that wait for repair: fewest survivors first, among equals the one that waits longest. A stripe that cannot be done yet rests
 * until a time, or until the tree of its file is known. To take the next one costs the same however many wait.
 */
import { fromHex, toHex } from '../../../lib/base/hex.ts'
import type { Manifest } from '../../../lib/codec/storage/manifest.ts'

/** 25 GiB of a file in whole stripes of 4+2. What does not fit is found by the next walk over the manifests. */
const JOBS = 100_000

export interface Job {
  readonly key: string
  readonly root: Uint8Array
  readonly k: number
  readonly m: number
  readonly stripe: number
  survivors: number
  fails: number
  /** Waits among the ready ones. */
  ready: boolean
}

interface Line {
  readonly jobs: Job[]
  head: number
}

type Stripe = Pick<Manifest, 'root' | 'k' | 'm' | 'stripe'>

export class RepairQueue {
  readonly #jobs = new Map<string, Job>()
  /** By survivors, in the order they came. Entries of jobs that are not ready any more, or elsewhere, are passed over. */
  readonly #ready: Line[] = []
  readonly #resting = new Map<string, number>()
  readonly #treeless = new Map<string, Set<string>>()

  get size(): number {
    return this.#jobs.size
  }

  /** A stripe needs repair. One that is being worked on, or rests, stays so. */
  put(m: Stripe, survivors: number): void {
    const key = stripeKey(m)
    const found = this.#jobs.get(key)
    if (found !== undefined) {
      if (found.survivors === survivors) return
      found.survivors = survivors
      if (found.ready) this.#wait(found)
      return
    }
    if (this.#jobs.size >= JOBS) return
    const job: Job = { key, root: m.root, k: m.k, m: m.m, stripe: m.stripe, survivors, fails: 0, ready: false }
    this.#jobs.set(key, job)
    this.#wait(job)
  }

  /** The next one to work on, or undefined. */
  take(): Job | undefined {
    for (const [survivors, line] of this.#ready.entries()) {
      while (line !== undefined && line.head < line.jobs.length) {
        const job = line.jobs[line.head++]!
        if (line.head === line.jobs.length) this.#ready[survivors] = { jobs: [], head: 0 }
        if (!job.ready || job.survivors !== survivors || this.#jobs.get(job.key) !== job) continue
        job.ready = false
        return job
      }
    }
    return undefined
  }

  /** A stripe that was taken waits again, from `atMs` on. */
  rest(job: Job, atMs: number): void {
    if (this.#jobs.get(job.key) === job) this.#resting.set(job.key, atMs)
  }

  /** A stripe that was taken waits again, until the tree of its file is known. */
  untilTree(job: Job): void {
    if (this.#jobs.get(job.key) !== job) return
    const name = toHex(job.root)
    const set = this.#treeless.get(name)
    if (set === undefined) this.#treeless.set(name, new Set([job.key]))
    else set.add(job.key)
  }

  /** Files whose stripes wait for their tree. */
  treeless(): Uint8Array[] {
    return [...this.#treeless.keys()].map(x => fromHex(x))
  }

  treeKnown(root: Uint8Array): void {
    const name = toHex(root)
    const keys = this.#treeless.get(name)
    this.#treeless.delete(name)
    for (const key of keys ?? []) this.#again(key)
  }

  /** Those whose time has come may be taken; all of them with `all`. */
  due(nowMs: number, all = false): void {
    for (const [key, atMs] of this.#resting) {
      if (atMs > nowMs && !all) continue
      this.#resting.delete(key)
      this.#again(key)
    }
  }

  delete(key: string): void {
    const job = this.#jobs.get(key)
    if (job === undefined) return
    this.#jobs.delete(key)
    this.#resting.delete(key)
    const name = toHex(job.root)
    const set = this.#treeless.get(name)
    set?.delete(key)
    if (set?.size === 0) this.#treeless.delete(name)
  }

  /** Takes a certain one, if it is ready. */
  taken(key: string): Job | undefined {
    const job = this.#jobs.get(key)
    if (job?.ready !== true) return undefined
    job.ready = false
    return job
  }

  forget(root: Uint8Array): void {
    const prefix = toHex(root)
    for (const key of this.#jobs.keys()) if (key.startsWith(prefix)) this.delete(key)
  }

  #again(key: string): void {
    const job = this.#jobs.get(key)
    if (job !== undefined) this.#wait(job)
  }

  #wait(job: Job): void {
    job.ready = true
    const line = this.#ready[job.survivors]
    if (line === undefined) this.#ready[job.survivors] = { jobs: [job], head: 0 }
    else line.jobs.push(job)
  }
}

export function stripeKey(m: Stripe): string {
  return `${toHex(m.root)}/${m.k}/${m.m}/${m.stripe}`
}
