/** Runs one verb: resolves its options, gives it its context, maps what it throws, and ends the process. */
import { ZgError } from '../base/errors.ts'
import { createLog } from '../ops/log.ts'
import { readConfig } from './config.ts'
import { resolveOptions, type Source, verbOptions } from './options.ts'
import { createProgress } from './progress.ts'
import { report } from './report.ts'
import type { Options, ToolSpec, VerbContext, VerbSpec } from './types.ts'

const SIGNAL_EXIT = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const

/** How long a one-shot verb may take to give up after a signal. */
const STOP_GRACE_MS = 3_000

/** Never returns to the event loop's mercy: the process exits when the verb is done, with all output written. */
export async function runVerb(tool: ToolSpec, verb: VerbSpec, args: string[], flags: Options): Promise<void> {
  const mode = { json: flags.json === true, verbose: flags.verbose === true }
  for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
    process.on(event, err => process.exit(report(tool.name, err, mode)))
  }
  let code: number
  const signals = watchSignals(verb.daemon === true)
  try {
    const file = readConfig(tool, flags.config as string | undefined)
    const { values, sources } = resolveOptions(verbOptions(verb), { tool: tool.name, flags, env: process.env, file })
    const run = await verb.load()
    const ctx = context(tool, verb, values, sources, signals)
    const result = await run(ctx, args, values)
    code = typeof result === 'number' ? result : 0
  } catch (err) {
    const by = signals.received()
    if (by !== undefined && !verb.daemon && err instanceof ZgError && err.code === 'ERR_STOPPED') code = SIGNAL_EXIT[by]
    else code = report(tool.name, err, mode)
  }
  await drain()
  process.exit(code)
}

interface Signals {
  signal: AbortSignal
  stopped: Promise<void>
  received(): keyof typeof SIGNAL_EXIT | undefined
}

function watchSignals(daemon: boolean): Signals {
  const abort = new AbortController()
  let received: keyof typeof SIGNAL_EXIT | undefined
  let wake: () => void = () => {}
  const stopped = new Promise<void>(resolve => {
    wake = resolve
  })
  for (const name of Object.keys(SIGNAL_EXIT) as (keyof typeof SIGNAL_EXIT)[]) {
    process.on(name, () => {
      if (received !== undefined) process.exit(SIGNAL_EXIT[name])
      received = name
      abort.abort(new ZgError('ERR_STOPPED', `stopped by ${name}`))
      wake()
      if (!daemon) setTimeout(() => process.exit(SIGNAL_EXIT[name]), STOP_GRACE_MS).unref()
    })
  }
  if (daemon && process.env.ZG_SUPERVISED === '1') endWithParent()
  return { signal: abort.signal, stopped, received: () => received }
}

/** A supervisor holds the other end of stdin: when it dies, even by SIGKILL, the pipe closes and its children stop. */
function endWithParent(): void {
  process.stdin.on('end', () => process.kill(process.pid, 'SIGTERM'))
  process.stdin.on('error', () => process.kill(process.pid, 'SIGTERM'))
  process.stdin.resume()
}

function context(
  tool: ToolSpec,
  verb: VerbSpec,
  values: Options,
  sources: Map<string, Source>,
  signals: Signals
): VerbContext {
  const json = values.json === true
  const quiet = values.quiet === true
  const verbose = values.verbose === true
  const plain = values.color === false || process.env.NO_COLOR !== undefined || process.env.TERM === 'dumb'
  const log = createLog({
    tool: tool.name,
    level: verbose ? 'debug' : quiet ? 'warn' : 'info',
    pretty: process.stderr.isTTY === true
  })
  const words = (text: string): void => {
    process.stderr.write(`${text}\n`)
  }
  return {
    tool: tool.name,
    verb: verb.name,
    json,
    quiet,
    verbose,
    tty: process.stdout.isTTY === true && !json,
    signal: signals.signal,
    stdin: process.stdin,
    network: values.network as string,
    print: (record, human) => {
      if (json) process.stdout.write(`${JSON.stringify(record, bigintAsText)}\n`)
      else if (human !== null) process.stdout.write(`${human}\n`)
    },
    write: bytes => writeOut(bytes),
    say: text => {
      if (!quiet && !json) words(text)
    },
    warn: text => {
      if (!quiet) words(text)
    },
    progress: createProgress({
      verb: verb.name,
      bars:
        process.stderr.isTTY === true &&
        !quiet &&
        !json &&
        !plain &&
        process.env.CI === undefined &&
        values.progress !== 'none',
      records: values.progress === 'json',
      lines: !quiet && !json && values.progress !== 'none'
    }),
    log,
    ready: (record, human) => {
      if (json) process.stdout.write(`${JSON.stringify(record, bigintAsText)}\n`)
      else if (!quiet) words(human)
    },
    stopped: () => signals.stopped,
    source: name => sources.get(name)
  }
}

function bigintAsText(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? value.toString() : value
}

function writeOut(bytes: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write(bytes, err => (err ? reject(err) : resolve()))
  })
}

async function drain(): Promise<void> {
  for (const stream of [process.stdout, process.stderr]) {
    if (stream.writableLength > 0) await new Promise<void>(resolve => stream.write('', () => resolve()))
  }
}
