/**
 * Proves that docs/scripting.md is the whole contract: every record type that a tool's source prints is listed there, and its table of
 * exit statuses is the one that the code uses.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { EXIT_MEANING } from '../../lib/cli/exit.ts'
import { packageRoot } from '../harness/tools.ts'

const page = readFileSync(join(packageRoot, 'docs', 'scripting.md'), 'utf8')

function sources(dir: string): string[] {
  return readdirSync(dir, { withFileTypes: true, recursive: true })
    .filter(e => e.isFile() && e.name.endsWith('.ts'))
    .map(e => join(e.parentPath, e.name))
}

/** Records are printed by `print`, `ready`, or written as the error or progress line; heads of tables are for people alone. */
const PRINTED = /(?:print|ready)\(\s*\{\s*(?:\.\.\.\w+,\s*)?type: '([a-z_]+)'/g

t.test('every record that a tool prints is listed', async t => {
  const found = new Set<string>()
  for (const path of [...sources(join(packageRoot, 'cmd')), ...sources(join(packageRoot, 'lib', 'cli'))]) {
    for (const m of readFileSync(path, 'utf8').matchAll(PRINTED)) found.add(m[1]!)
  }
  found.delete('head')
  t.ok(found.size > 20, `${found.size} record types in the sources`)
  for (const type of [...found, 'error', 'progress', 'setting'])
    t.ok(page.includes(`\`${type}\``), `docs/scripting.md lists '${type}'`)
})

t.test('the exit statuses are those of the code', async t => {
  for (const [exit, meaning] of Object.entries(EXIT_MEANING)) {
    if (['130', '143'].includes(exit)) t.ok(page.includes('130, 143'))
    else t.ok(page.includes(`| ${exit} | ${meaning} |`), `${exit} ${meaning}`)
  }
})
