/** Where the package lies. */
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ZgError } from './errors.ts'

/** The root of the package: the same file runs from lib/ and from dist/lib/, so the place is looked for. */
export function packageRoot(): string {
  for (let dir = dirname(fileURLToPath(import.meta.url)); ; dir = dirname(dir)) {
    const file = join(dir, 'package.json')
    if (existsSync(file) && (JSON.parse(readFileSync(file, 'utf8')) as { name?: unknown }).name === 'zg') return dir
    if (dirname(dir) === dir) throw new ZgError('ERR_NATIVE', 'package.json of zg not found above the program')
  }
}
