/**
 * The trainer (native/infer/train) as a child: it computes for hours on all cores with most of the memory, and neither it nor whoever
 * watches it takes the other along when it dies. Its standard output is JSON lines.
 */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { ZgError } from '../../base/errors.ts'
import { packageRoot } from '../../base/package-root.ts'

export interface SetLoss {
  set: string
  nats_per_token: number
  bits_per_byte: number
  tokens: number
}

/** What the trainer tells, by `event`. */
export type TrainerEvent =
  | {
      event: 'start'
      parameters: number
      trained: number
      vocab: number
      context: number
      step: number
      steps: number
      seed: number
      threads: number
      level: string
      memory: number
      sets: { set: string; weight: number; tokens: number; held_out_tokens: number }[]
    }
  | {
      event: 'step'
      step: number
      loss: number
      norm: number
      rate: number
      tokens: number
      seconds: number
      tokens_per_second: number
    }
  | { event: 'validation'; step?: number; whole?: boolean; sets: SetLoss[] }
  | { event: 'saved' | 'stopped'; step: number }
  | { event: 'new'; parameters: number; vocab: number }
  | { event: 'written'; step: number; parameters: number }
  | { event: 'levels'; levels: string[]; bf16: boolean; memory: number }

/** Exit statuses of the trainer (main.cpp). */
const USAGE = 64
const NO_MEMORY = 71

export function trainerPath(): string {
  return join(packageRoot(), 'dist', 'native', `${process.platform}-${process.arch}`, 'zg-train')
}

export interface RunOptions {
  /** A level of SIMD by name; absent: the widest in full precision. */
  level?: string | undefined
  /** Asks the trainer to save and end. */
  signal?: AbortSignal
  onEvent?: (event: TrainerEvent) => void
}

/**
 * Runs the trainer to its end.
 * @returns its events, the latest 1,000.
 * @throws {ZgError} ERR_NATIVE when it is not built, ERR_USAGE for options that it refuses, ERR_UNAVAILABLE for too little memory,
 *   ERR_BAD_INPUT for files that it refuses, ERR_CRASHED when it was killed.
 */
export async function runTrainer(words: readonly string[], options: RunOptions = {}): Promise<TrainerEvent[]> {
  const path = trainerPath()
  if (!existsSync(path)) {
    throw new ZgError('ERR_NATIVE', 'the trainer is not built', { hint: "run 'npm run build:native'" })
  }
  const env = options.level === undefined ? process.env : { ...process.env, ZG_CPU: options.level }
  const child = spawn(path, words, { stdio: ['ignore', 'pipe', 'pipe'], env })
  const stop = (): void => {
    child.kill('SIGTERM')
  }
  options.signal?.addEventListener('abort', stop, { once: true })
  if (options.signal?.aborted === true) stop()
  const events: TrainerEvent[] = []
  let told = ''
  child.stderr.on('data', (piece: Buffer) => {
    told = (told + piece.toString()).slice(-4_096)
  })
  const ended = new Promise<number | NodeJS.Signals>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (status, signal) => resolve(status ?? signal ?? 'SIGKILL'))
  })
  try {
    for await (const line of createInterface({ input: child.stdout })) {
      const event = JSON.parse(line) as TrainerEvent
      events.push(event)
      if (events.length > 1_000) events.shift()
      options.onEvent?.(event)
    }
    const status = await ended
    if (status === 0) return events
    const words = told.trim().replace(/^zg-train: /, '')
    if (status === USAGE) throw new ZgError('ERR_USAGE', words)
    if (status === NO_MEMORY) throw new ZgError('ERR_UNAVAILABLE', words)
    if (typeof status === 'number')
      throw new ZgError('ERR_BAD_INPUT', words === '' ? `the trainer ended with ${status}` : words)
    throw new ZgError('ERR_CRASHED', `the trainer was ended by ${status}`, {
      hint: "what was saved last is there: go on with '--resume'"
    })
  } finally {
    options.signal?.removeEventListener('abort', stop)
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM')
  }
}
