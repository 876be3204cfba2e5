/** Option names and values: flags > environment > configuration file > default, parsed by one path whatever the source. */
import { ZgError } from '../base/errors.ts'
import { suggest } from './suggest.ts'
import type { OptionSpec, Options, ToolSpec, VerbSpec } from './types.ts'

export type Source = 'flag' | 'environment' | 'file' | 'default'

export interface OptionShape {
  /** camelCase, as the verb gets it. */
  name: string
  /** `--rpc-port`. */
  long: string
  /** The word in the configuration file: `rpc-port`. */
  key: string
  negated: boolean
  takesValue: boolean
  env: string | undefined
}

/** Options that every verb has. */
export const COMMON: OptionSpec[] = [
  { flags: '--json', help: 'one JSON object a line on stdout', env: false },
  { flags: '-q, --quiet', help: 'no words on stderr', env: false },
  { flags: '-v, --verbose', help: 'more words; stack traces', env: false },
  { flags: '--no-color', help: 'plain text', default: true, env: false },
  {
    flags: '--progress <format>',
    help: "'json' writes progress records to stderr",
    choices: ['json', 'none'],
    env: false
  },
  { flags: '--config <file>', help: 'configuration file', env: false },
  { flags: '--network <name>', help: 'which local network to use', default: 'devnet', env: 'ZG_NETWORK' }
]

/** What the flags of an option say about it. */
export function shapeOf(spec: OptionSpec, tool: string): OptionShape {
  const long = /--[a-z0-9-]+/.exec(spec.flags)?.[0]
  if (long === undefined) throw new Error(`option '${spec.flags}' has no long form`)
  const negated = long.startsWith('--no-')
  const key = long.slice(negated ? 5 : 2)
  const env = spec.env === false ? undefined : (spec.env ?? `${tool}_${key}`.toUpperCase().replaceAll('-', '_'))
  return {
    name: key.replace(/-([a-z0-9])/g, (_, c: string) => c.toUpperCase()),
    long,
    key,
    negated,
    takesValue: /[<[]/.test(spec.flags),
    env
  }
}

/**
 * Values and their sources.
 * @param flags - what commander found on the command line, by camelCase name; absent when not given.
 * @throws {ZgError} ERR_USAGE for a value that does not parse, ERR_CONFIG for one from the file.
 */
export function resolveOptions(
  specs: readonly OptionSpec[],
  o: {
    tool: string
    flags: Options
    env: NodeJS.ProcessEnv
    file: { path: string; values: Record<string, unknown> } | undefined
  }
): { values: Options; sources: Map<string, Source> } {
  const values: Options = {}
  const sources = new Map<string, Source>()
  for (const spec of specs) {
    const shape = shapeOf(spec, o.tool)
    const found = lookUp(shape, o)
    if (found === undefined) {
      values[shape.name] =
        typeof spec.default === 'string' && spec.parse
          ? spec.parse(spec.default)
          : (spec.default ?? (shape.takesValue ? undefined : shape.negated))
      sources.set(shape.name, 'default')
      continue
    }
    values[shape.name] = parseValue(spec, shape, found)
    sources.set(shape.name, found.source)
  }
  return { values, sources }
}

interface Found {
  raw: unknown
  source: Source
  where: string
}

function lookUp(shape: OptionShape, o: Parameters<typeof resolveOptions>[1]): Found | undefined {
  if (o.flags[shape.name] !== undefined) return { raw: o.flags[shape.name], source: 'flag', where: shape.long }
  if (shape.env !== undefined && o.env[shape.env] !== undefined && o.env[shape.env] !== '') {
    return { raw: o.env[shape.env], source: 'environment', where: shape.env }
  }
  if (o.file !== undefined && Object.hasOwn(o.file.values, shape.key)) {
    return { raw: o.file.values[shape.key], source: 'file', where: `'${shape.key}' in ${o.file.path}` }
  }
  return undefined
}

function parseValue(spec: OptionSpec, shape: OptionShape, found: Found): unknown {
  const code = found.source === 'file' ? 'ERR_CONFIG' : 'ERR_USAGE'
  if (!shape.takesValue) return parseBoolean(found, code)
  const list = spec.repeat ? (Array.isArray(found.raw) ? found.raw : String(found.raw).split(',')) : [found.raw]
  const parsed = list.map(item => {
    const text = String(item).trim()
    if (spec.choices !== undefined && !spec.choices.includes(text)) {
      const near = suggest(text, spec.choices)
      throw new ZgError(
        code,
        `${found.where}: '${text}' is not one of ${spec.choices.join(', ')}${near === undefined ? '' : `, did you mean '${near}'?`}`
      )
    }
    try {
      return spec.parse === undefined ? text : spec.parse(text)
    } catch (err) {
      if (err instanceof ZgError)
        throw new ZgError(code, `${found.where}: ${err.message}`, { hint: err.hint, cause: err })
      throw err
    }
  })
  return spec.repeat ? parsed : parsed[0]
}

function parseBoolean(found: Found, code: 'ERR_CONFIG' | 'ERR_USAGE'): boolean {
  if (typeof found.raw === 'boolean') return found.raw
  const text = String(found.raw).toLowerCase()
  if (['1', 'true', 'yes', 'on'].includes(text)) return true
  if (['0', 'false', 'no', 'off'].includes(text)) return false
  throw new ZgError(code, `${found.where}: '${text}' is neither true nor false`)
}

/** Every option of a tool, each key once: what a configuration file may hold. */
export function allOptions(tool: ToolSpec): OptionSpec[] {
  const byKey = new Map<string, OptionSpec>()
  for (const verb of tool.verbs) for (const spec of verb.options ?? []) byKey.set(shapeOf(spec, tool.name).key, spec)
  byKey.set('network', COMMON.find(s => s.flags.includes('--network'))!)
  return [...byKey.values()]
}

/** The options of one verb, the common ones last. */
export function verbOptions(verb: VerbSpec): OptionSpec[] {
  return [...(verb.options ?? []), ...COMMON]
}

/** Parser: a TCP port, 0 to choose a free one. */
export function parsePort(text: string): number {
  if (!/^\d{1,5}$/.test(text) || Number(text) > 65_535)
    throw new ZgError('ERR_USAGE', `'${text}' is not a port (0 to 65535)`)
  return Number(text)
}

/** Parser: a whole number within bounds. */
export function parseInteger(min: number, max: number): (text: string) => number {
  return text => {
    const n = Number(text)
    if (!/^\d{1,16}$/.test(text) || n < min || n > max)
      throw new ZgError('ERR_USAGE', `'${text}' is not a whole number from ${min} to ${max}`)
    return n
  }
}

/** Parser: an http or https URL, without a trailing slash. */
export function parseUrl(text: string): string {
  let url: URL
  try {
    url = new URL(text)
  } catch {
    throw new ZgError('ERR_USAGE', `'${text}' is not a URL`, { hint: "write it as 'http://127.0.0.1:8545'" })
  }
  if (url.protocol !== 'http:' && url.protocol !== 'https:')
    throw new ZgError('ERR_USAGE', `'${text}' is not an http URL`)
  return url.href.replace(/\/$/, '')
}
