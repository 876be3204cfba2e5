/** `--version`: the package's version; with --verbose the platform and the native part in use. */
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The package root: the nearest directory above this file with zg's package.json (sources and built files lie at different depths). */
export function packageRoot(): string {
  let dir = dirname(fileURLToPath(import.meta.url))
  for (let up = 0; up < 8; up++) {
    try {
      if (JSON.parse(readFileSync(join(dir, 'package.json'), 'utf8')).name === 'zg') return dir
    } catch {
      // No package.json here; go on upwards.
    }
    dir = dirname(dir)
  }
  throw new Error('package.json of zg not found')
}

/** zg's version. */
export function version(): string {
  return JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')).version
}

export async function versionText(tool: string, verbose: boolean): Promise<string> {
  const line = `${tool} ${version()}\n`
  if (!verbose) return line
  const { codec } = await import('../native.ts')
  const c = codec()
  return `${line}node ${process.version} ${process.platform}-${process.arch}\ncodec ${c.path}, ${c.cpu}\n`
}
