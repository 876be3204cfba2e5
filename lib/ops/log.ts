/**
 * Structured logs on stderr: JSON lines when stderr is not a terminal, short text when it is. Never a key, a password, a token,
 * a prompt or a completion: fields with such names are dropped here, once.
 */
import pino from 'pino'

export type LogLevel = 'error' | 'warn' | 'info' | 'debug'
export type LogFields = Record<string, unknown>

/** error: someone must act; warn: someone should look; info: what an operator wants in a year's log; debug: all else. */
export interface Logger {
  error(message: string, fields?: LogFields): void
  warn(message: string, fields?: LogFields): void
  info(message: string, fields?: LogFields): void
  debug(message: string, fields?: LogFields): void
}

const SECRET = /^(private_?key|secret|password|passphrase|token|authorization|prompt|completion|mnemonic)$/i

function clean(fields: LogFields): LogFields {
  const out: LogFields = {}
  for (const [name, value] of Object.entries(fields)) {
    if (SECRET.test(name)) continue
    out[name] =
      typeof value === 'bigint'
        ? value.toString()
        : value instanceof Uint8Array
          ? `0x${Buffer.from(value).toString('hex')}`
          : value instanceof Error
            ? value.message
            : value
  }
  return out
}

/** A root from which each module takes its logger. */
export function createLog(opts: { level: LogLevel; pretty: boolean; tool: string }): (module: string) => Logger {
  if (opts.pretty) return module => prettyLogger(module, opts.level)
  const root = pino(
    {
      level: opts.level,
      base: { tool: opts.tool },
      messageKey: 'message',
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: label => ({ level: label }) }
    },
    pino.destination({ fd: 2, sync: true })
  )
  return module => {
    const child = root.child({ module })
    const at =
      (level: LogLevel) =>
      (message: string, fields: LogFields = {}) =>
        child[level](clean(fields), message)
    return { error: at('error'), warn: at('warn'), info: at('info'), debug: at('debug') }
  }
}

const ORDER: Record<LogLevel, number> = { error: 3, warn: 2, info: 1, debug: 0 }

function prettyLogger(module: string, level: LogLevel): Logger {
  const at =
    (l: LogLevel) =>
    (message: string, fields: LogFields = {}) => {
      if (ORDER[l] < ORDER[level]) return
      const tail = Object.entries(clean(fields))
        .map(([k, v]) => ` ${k}=${typeof v === 'string' && !/\s/.test(v) ? v : JSON.stringify(v)}`)
        .join('')
      process.stderr.write(`${new Date().toISOString().slice(11, 19)} ${l.padEnd(5)} ${module} ${message}${tail}\n`)
    }
  return { error: at('error'), warn: at('warn'), info: at('info'), debug: at('debug') }
}

/** For tests and places without an operator. */
export const silentLog: Logger = { error() {}, warn() {}, info() {}, debug() {} }
