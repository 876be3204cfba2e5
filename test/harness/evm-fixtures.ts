/** The EVM test data of shared/fixtures, unpacked under build/ once: part by part, since all of it is large. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { packageRoot } from '../../lib/base/package-root.ts'

/**
 * @param part - a folder of the archive, such as `vectors/precompiles`.
 * @returns where it lies, or undefined when there is no archive beside this checkout.
 */
export function evmFixtures(part: string): string | undefined {
  const root = packageRoot()
  const target = join(root, 'build', 'fixtures', part)
  if (existsSync(target)) return target
  const archive = ['../shared', '../../shared']
    .map(dir => join(root, dir, 'fixtures/evm/evm-fixtures.tar.xz'))
    .find(existsSync)
  if (archive === undefined) return undefined
  mkdirSync(dirname(target), { recursive: true })
  const temporary = mkdtempSync(join(root, 'build', 'fixtures', 'unpack-'))
  try {
    const { status } = spawnSync('tar', ['-xJf', archive, '-C', temporary, '--wildcards', `*${part}*`])
    if (status !== 0) return undefined
    const found = [join(temporary, part), join(temporary, 'evm', part)].find(existsSync)
    if (found === undefined) return undefined
    try {
      renameSync(found, target)
    } catch (err) {
      // Another test was faster.
      if (!existsSync(target)) throw err
    }
    return target
  } finally {
    rmSync(temporary, { recursive: true, force: true })
  }
}
