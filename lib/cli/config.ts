/** The configuration file, and `zg-X config`, which shows where every value comes from. */
import { readFileSync, statSync } from 'node:fs'
import { configFiles } from '../adapters/paths.ts'
import { messageOf, systemCode, ZgError } from '../base/errors.ts'
import { LIMITS } from '../base/limits.ts'
import { allOptions, resolveOptions, shapeOf } from './options.ts'
import { suggest } from './suggest.ts'
import type { ToolSpec } from './types.ts'

export interface ConfigFile {
  path: string
  values: Record<string, unknown>
}

/**
 * Reads `path`, or the first of the usual places that exists.
 * @throws {ZgError} ERR_CONFIG when it is missing though named, too large, not a JSON object, or has an unknown key.
 */
export function readConfig(tool: ToolSpec, path: string | undefined): ConfigFile | undefined {
  for (const candidate of path === undefined ? configFiles(tool.name) : [path]) {
    const text = readText(candidate, path !== undefined)
    if (text !== undefined) return { path: candidate, values: parseConfig(tool, candidate, text) }
  }
  return undefined
}

function readText(path: string, mustExist: boolean): string | undefined {
  try {
    if (statSync(path).size > LIMITS.configFileBytes)
      throw new ZgError('ERR_CONFIG', `configuration '${path}' is larger than ${LIMITS.configFileBytes} bytes`)
    return readFileSync(path, 'utf8')
  } catch (err) {
    if (err instanceof ZgError) throw err
    if (!mustExist && systemCode(err) === 'ENOENT') return undefined
    throw new ZgError(
      'ERR_CONFIG',
      `cannot read configuration '${path}': ${systemCode(err) === 'ENOENT' ? 'no such file' : messageOf(err)}`,
      { cause: err }
    )
  }
}

function parseConfig(tool: ToolSpec, path: string, text: string): Record<string, unknown> {
  let values: unknown
  try {
    values = JSON.parse(text)
  } catch (err) {
    throw new ZgError('ERR_CONFIG', `configuration '${path}' is not JSON: ${messageOf(err)}`)
  }
  if (typeof values !== 'object' || values === null || Array.isArray(values))
    throw new ZgError('ERR_CONFIG', `configuration '${path}' is not a JSON object`)
  const keys = allOptions(tool).map(o => shapeOf(o, tool.name).key)
  for (const key of Object.keys(values)) {
    if (keys.includes(key)) continue
    const near = suggest(key, keys)
    throw new ZgError(
      'ERR_CONFIG',
      `configuration '${path}' has an unknown key '${key}'${near === undefined ? '' : `, did you mean '${near}'?`}`,
      { hint: `run '${tool.name} help config'` }
    )
  }
  return values as Record<string, unknown>
}

/** `zg-X config [--json] [--config FILE]`. */
export async function printConfig(tool: ToolSpec, argv: string[]): Promise<void> {
  const { report } = await import('./report.ts')
  const json = argv.includes('--json')
  try {
    const at = argv.indexOf('--config')
    const file = readConfig(tool, at < 0 ? undefined : argv[at + 1])
    const specs = allOptions(tool)
    const { values, sources } = resolveOptions(specs, { tool: tool.name, flags: {}, env: process.env, file })
    for (const spec of specs) {
      const { name, key } = shapeOf(spec, tool.name)
      const value = typeof values[name] === 'bigint' ? String(values[name]) : (values[name] ?? null)
      const source = sources.get(name) === 'file' ? (file?.path ?? 'file') : sources.get(name)
      process.stdout.write(
        json
          ? `${JSON.stringify({ type: 'setting', name: key, value, source })}\n`
          : `${key.padEnd(24)} ${String(value ?? '-').padEnd(28)} ${source}\n`
      )
    }
  } catch (err) {
    process.exitCode = report(tool.name, err, { json, verbose: false })
  }
}
