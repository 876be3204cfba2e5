/** The second parameter of `debug_trace*`: which tracer, with which options, in the engine's short form (native/evm/trace/tracer.h). */
import { RPC, RpcError } from '../../../lib/adapters/jsonrpc/types.ts'
import { LIMITS } from '../../../lib/base/limits.ts'
import type { Tracer } from '../core/api.ts'
import { asBoolean, asLooseNumber, asObject, asString, field, invalid, type JsonObject } from './decode.ts'

/** Flags of each tracer: option in the request → flag in the engine. */
const FLAGS: Record<string, readonly string[]> = {
  callTracer: ['onlyTopCall', 'withLog'],
  flatCallTracer: ['convertParityErrors', 'includePrecompiles'],
  prestateTracer: ['diffMode', 'disableCode', 'disableStorage', 'includeEmpty'],
  '4byteTracer': [],
  noopTracer: []
}
const MUX = 'muxTracer'
const MAX_MUX = 16

export interface TraceOptions {
  tracer: Tracer
  timeoutMs: number
}

/** @throws {RpcError} −32602 for options of the wrong type, −32000 `tracer not found`. */
export function readTraceOptions(value: unknown, name: string): TraceOptions {
  const o = value === undefined || value === null ? {} : asObject(value, name)
  const tracer = field(o, 'tracer', name, asString)
  const timeout = field(o, 'timeout', name, asString)
  return {
    tracer:
      tracer === undefined || tracer === ''
        ? structLogs(o, name)
        : named(tracer, field(o, 'tracerConfig', name, asObject)),
    timeoutMs: timeout === undefined ? LIMITS.ethCallMs : Math.min(duration(timeout, `${name}.timeout`), MAX_TIMEOUT_MS)
  }
}

const MAX_TIMEOUT_MS = 60_000

function structLogs(o: JsonObject, name: string): Tracer {
  const is = (key: string) => field(o, key, name, asBoolean) ?? false
  const limit = field(o, 'limit', name, asLooseNumber) ?? 0
  const flags = [
    is('disableStack') ? 'noStack' : '',
    is('disableStorage') ? 'noStorage' : '',
    is('enableMemory') ? 'memory' : '',
    is('enableReturnData') ? 'returnData' : '',
    limit > 0 ? `limit=${limit}` : ''
  ]
  return { name: 'structLogs', config: flags.filter(f => f !== '').join(' ') }
}

function named(tracer: string, config: JsonObject | undefined): Tracer {
  if (tracer === MUX) return mux(config ?? {})
  const known = Object.hasOwn(FLAGS, tracer) ? FLAGS[tracer] : undefined
  if (known === undefined) throw new RpcError(RPC.server, `tracer not found: ${tracer.slice(0, 64)}`)
  const on = known.filter(flag => config !== undefined && (field(config, flag, 'tracerConfig', asBoolean) ?? false))
  return { name: tracer, config: on.join(' ') }
}

function mux(config: JsonObject): Tracer {
  const names = Object.keys(config)
  if (names.length > MAX_MUX) throw invalid('tracerConfig', `${names.length} tracers, at most ${MAX_MUX}`)
  const parts = names.map(name => {
    if (name === MUX) throw invalid('tracerConfig', `${MUX} within itself`)
    const options = config[name]
    const part = named(
      name,
      options === null || options === undefined ? undefined : asObject(options, `tracerConfig.${name}`)
    )
    return `${part.name} ${part.config}`
  })
  return { name: MUX, config: parts.join(';') }
}

/** Go's durations: "5s", "300ms", "1m30s". */
function duration(text: string, name: string): number {
  const units: Record<string, number> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 }
  const parts = [...text.matchAll(/([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h)/gy)]
  if (parts.length === 0 || parts.map(p => p[0]).join('') !== text) throw invalid(name, 'not a duration')
  const ms = parts.reduce((sum, [, n, unit]) => sum + Number(n) * units[unit!]!, 0)
  if (ms < 1) throw invalid(name, 'not a duration')
  return Math.round(ms)
}
