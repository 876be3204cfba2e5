/** How training is watched: a picture on a terminal, a line now and then elsewhere, records under --json. */
import { formatCount, formatDuration, formatSize } from '../../../lib/base/units.ts'
import type { VerbContext } from '../../../lib/cli/types.ts'
import type { SetLoss, TrainerEvent } from '../../../lib/infer/train/program.ts'
import { type Point, plot } from './plot.ts'

/** Points of a curve that are kept; every second one goes when there are more. */
export const POINTS_MAX = 2_000
const ROWS = 8

export class View {
  readonly #ctx: VerbContext
  readonly #live: boolean
  #steps = 0
  #first = 0
  #last: Extract<TrainerEvent, { event: 'step' }> | undefined
  #validation: SetLoss[] = []
  #saved: number | undefined
  #points: Point[] = []
  readonly #checks: Point[] = []
  #drawn = 0

  constructor(ctx: VerbContext) {
    this.#ctx = ctx
    this.#live = isLive(ctx)
  }

  /** Of the last step and check. */
  get result(): { step: number; loss: number | null; tokens: number; seconds: number; validation: SetLoss[] } {
    const last = this.#last
    return {
      step: last?.step ?? this.#first,
      loss: last?.loss ?? null,
      tokens: last?.tokens ?? 0,
      seconds: last?.seconds ?? 0,
      validation: this.#validation
    }
  }

  event(e: TrainerEvent): void {
    if (this.#ctx.json) {
      const { event, ...fields } = e
      this.#ctx.print({ type: `training_${event}`, time: new Date().toISOString(), ...fields }, null)
    }
    switch (e.event) {
      case 'start': {
        this.#steps = e.steps
        this.#first = e.step
        const learnt = e.trained === e.parameters ? '' : `, ${formatCount(e.trained)} of them trained beside`
        const tokens = e.sets.reduce((sum, s) => sum + s.tokens, 0)
        this.#ctx.say(
          `${formatCount(e.parameters)} parameters${learnt}, ${formatCount(tokens)} tokens, ${formatCount(e.steps)} steps` +
            `${e.step > 0 ? ` from step ${formatCount(e.step)} on` : ''}; ${formatSize(e.memory)} of memory, ${e.threads} threads, ${e.level}`
        )
        break
      }
      case 'step':
        this.#last = e
        this.#points.push({ x: e.step, y: e.loss })
        if (this.#points.length > POINTS_MAX) this.#points = this.#points.filter((_, i) => i % 2 === 0)
        this.#show()
        break
      case 'validation':
        this.#validation = e.sets
        this.#checks.push({ x: e.step ?? 0, y: mean(e.sets) })
        this.#show()
        break
      case 'saved':
        this.#saved = e.step
        break
    }
  }

  /** Leaves the picture as it is. */
  done(): void {
    this.#drawn = 0
  }

  #line(): string {
    const e = this.#last
    if (e === undefined) return ''
    const done = e.step - this.#first
    const left = done > 0 ? (e.seconds / done) * (this.#steps - e.step) : 0
    const parts = [
      `step ${formatCount(e.step)} of ${formatCount(this.#steps)}`,
      `loss ${e.loss.toFixed(4)}`,
      ...(this.#validation.length === 0 ? [] : [`held out ${mean(this.#validation).toFixed(4)}`]),
      `rate ${e.rate.toPrecision(3)}`,
      `${formatCount(Math.round(e.tokens_per_second))} tokens/s`,
      ...(e.step < this.#steps ? [`eta ${formatDuration(left * 1000)}`] : []),
      ...(this.#saved === undefined ? [] : [`saved ${formatCount(this.#saved)}`])
    ]
    return parts.join('  ')
  }

  #show(): void {
    if (!this.#live) {
      if (this.#last !== undefined) this.#ctx.say(this.#line())
      return
    }
    const out = process.stderr
    const wide = Math.max(20, Math.min(100, (out.columns ?? 80) - 10))
    const lines = [...plot(this.#points, this.#checks, wide, ROWS), this.#line().slice(0, (out.columns ?? 80) - 1)]
    const up = this.#drawn > 0 ? `\x1b[${this.#drawn}A` : ''
    out.write(`${up}${lines.map(line => `\x1b[2K${line}\n`).join('')}`)
    this.#drawn = lines.length
  }
}

export function isLive(ctx: VerbContext): boolean {
  return process.stderr.isTTY === true && !ctx.json && !ctx.quiet
}

/** Over all held-out tokens. */
function mean(sets: readonly SetLoss[]): number {
  const tokens = sets.reduce((sum, s) => sum + s.tokens, 0)
  return sets.reduce((sum, s) => sum + s.nats_per_token * s.tokens, 0) / Math.max(1, tokens)
}
