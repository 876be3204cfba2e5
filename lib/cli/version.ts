/** `--version`: the package's version; with --verbose the platform and the native part in use. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { packageRoot } from '../base/package-root.ts'

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
