/**
 * Progress on stderr: bars on a terminal, one plain line at the start and end of a phase elsewhere, or JSON records on demand.
 * The rate is the mean of the last three seconds; an eta appears after one second, and only when the total is known.
 */
import cliProgress from 'cli-progress'
import { formatCount, formatDuration, formatSize } from '../base/units.ts'
import type { Progress } from './types.ts'

export interface ProgressMode {
  verb: string
  bars: boolean
  records: boolean
  lines: boolean
}

const WINDOW_MS = 3_000

export function createProgress(
  mode: ProgressMode
): (phase: string, opts?: { total?: number; unit?: 'bytes' | 'items' }) => Progress {
  return (phase, opts = {}) => {
    const unit = opts.unit ?? 'bytes'
    const show = unit === 'bytes' ? formatSize : formatCount
    const started = performance.now()
    const marks: [ms: number, done: number][] = [[started, 0]]
    let done = 0
    let total = opts.total
    let lastRecord = 0
    const bar = mode.bars ? startBar(phase) : undefined
    const rate = (): number => {
      const now = performance.now()
      while (marks.length > 2 && now - marks[0]![0] > WINDOW_MS) marks.shift()
      const [ms, first] = marks[0]!
      return now - ms < 1 ? 0 : ((done - first) / (now - ms)) * 1000
    }
    const tail = (): string => {
      const speed = `${show(Math.round(rate()))}/s`
      if (total === undefined) return `${show(done)}  ${speed}`
      const left = total - done
      const eta =
        performance.now() - started > 1000 && rate() > 0 && left > 0
          ? `  eta ${formatDuration((left / rate()) * 1000)}`
          : ''
      return `${done === total ? show(total) : `${show(done)} of ${show(total)}`}  ${speed}${eta}`
    }
    const record = (): void => {
      const value = {
        type: 'progress',
        time: new Date().toISOString(),
        verb: mode.verb,
        phase,
        done_bytes: done,
        total_bytes: total ?? null,
        bytes_per_second: Math.round(rate())
      }
      process.stderr.write(`${JSON.stringify(value)}\n`)
    }
    return {
      update(n, newTotal) {
        done = n
        if (newTotal !== undefined) total = newTotal
        const now = performance.now()
        if (now - marks[marks.length - 1]![0] > 100) marks.push([now, done])
        if (bar !== undefined) {
          bar.setTotal(total ?? Math.max(done, 1))
          bar.update(done, { tail: tail() })
        } else if (mode.records && now - lastRecord > 200) {
          lastRecord = now
          record()
        }
      },
      done(note) {
        const ms = performance.now() - started
        const words = note ?? `${show(done)}  ${show(Math.round((done / Math.max(ms, 1)) * 1000))}/s`
        if (bar !== undefined) {
          bar.stop()
          process.stderr.write(`${phase.padEnd(8)} ${words}\n`)
        } else if (mode.records) record()
        else if (mode.lines) process.stderr.write(`${phase.padEnd(8)} ${words}\n`)
      }
    }
  }
}

function startBar(phase: string): cliProgress.SingleBar {
  const bar = new cliProgress.SingleBar(
    {
      format: `${phase.padEnd(8)} {bar} {percentage} %  {tail}`,
      barCompleteChar: '█',
      barIncompleteChar: '░',
      barsize: 20,
      fps: 10,
      stream: process.stderr,
      clearOnComplete: true,
      hideCursor: null,
      emptyOnZero: true
    },
    cliProgress.Presets.shades_classic
  )
  bar.start(1, 0, { tail: '' })
  return bar
}
