/**
 * The rules of the house that a program can check: sizes, names, left-over notes, machine paths, imports, launchers, and that
 * docs/limits.md tells the truth. Each rule is first shown to catch a breach, so that none is blind.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { basename, join } from 'node:path'
import t from 'tap'
import { LIMITS } from '../../lib/base/limits.ts'
import { packageRoot } from '../harness/tools.ts'

interface File {
  path: string
  text: string
}

interface Rule {
  name: string
  applies: RegExp
  /** What is wrong with a file: one line each. */
  breaches: (file: File) => string[]
  /** A file that breaks it. */
  canary: File
}

const CODE = /\.(ts|tsx|mjs|cjs|sol|cpp|cc|h|cu)$/
const LINES_MAX = 800
const LINES_WARN = 600

/** Lines matching a pattern; patterns are written so that they do not match themselves. */
const lines =
  (pattern: RegExp) =>
  ({ text }: File): string[] =>
    text.split('\n').flatMap((line, i) => (pattern.test(line) ? [`line ${i + 1}: ${line.trim().slice(0, 100)}`] : []))

const RULES: Rule[] = [
  {
    // A test file costs the runner a second, so those are few and full.
    name: `no file has more than ${LINES_MAX} lines, no test twice that`,
    applies: CODE,
    breaches: ({ path, text }) => {
      const count = text.split('\n').length - 1
      return count > (path.startsWith('test/') ? 2 : 1) * LINES_MAX ? [`${count} lines`] : []
    },
    canary: { path: 'lib/a.ts', text: '\n'.repeat(LINES_MAX + 1) }
  },
  {
    name: 'nothing is left to do',
    applies: CODE,
    breaches: lines(/\b(TO[D]O|FIX[M]E|X[X]X|HA[C]K)\b/),
    canary: { path: 'lib/a.ts', text: `// ${'TO'}DO: later` }
  },
  {
    name: 'files are named for what they hold',
    applies: /./,
    breaches: ({ path }) => (/^(utils?|helpers?|misc|stuff)\./.test(basename(path)) ? ['says nothing'] : []),
    canary: { path: 'lib/utils.ts', text: '' }
  },
  {
    name: 'no path of one machine, no registry host',
    applies: /./,
    breaches: lines(
      /(^|[\s'"`(=:])\/(home|Users|work|root)\/\w|\bregistry\.[\w-]+\.\w|\bnpmj[s]\.(org|com)|"resolve[d]": "http/
    ),
    canary: { path: 'docs/a.md', text: `see ${'/home'}/me/x` }
  },
  {
    name: 'relative imports name the file, with its extension',
    applies: /\.tsx?$/,
    breaches: lines(/(from|import|import\() ?['"]\.{1,2}\/[^'"]*(?<!\.(ts|tsx|json|mjs|cjs))['"]/),
    canary: { path: 'lib/a.ts', text: `import { x } from '${'./'}hex'` }
  },
  {
    name: 'types that are only types, syntax that can be erased',
    applies: /^(cmd|lib|test|scripts)\/.*\.tsx?$/,
    breaches: lines(/^\s*(export )?(declare )?(const )?(enum|namespace) \w+ \{/),
    canary: { path: 'lib/a.ts', text: 'enum Colour { Red }' }
  },
  {
    name: 'tests run whole',
    applies: /^test\/.*\.ts$/,
    breaches: lines(/\.only\(|\b[tT]\w?\.(skip|todo)\(|\b(only|todo): true/),
    canary: { path: 'test/a.test.ts', text: `t.${'only'}('x', async () => {})` }
  },
  {
    name: 'a test file opens with what it proves',
    applies: /^test\/.*\.test\.ts$/,
    breaches: ({ text }) => (/^(#!.*\n)?(\/\*\*|\/\/ )/.test(text) ? [] : ['no opening comment']),
    canary: { path: 'test/a.test.ts', text: "import t from 'tap'" }
  },
  {
    name: 'tests start tools through the harness',
    applies: /^test\/(?!harness\/).*\.ts$/,
    breaches: lines(/spawn\w*\(\s*['"`](\.\/)?(bin\/)?zg-/),
    canary: { path: 'test/a.test.ts', text: `${'spawn'}('bin/zg-chain', [])` }
  },
  {
    name: 'lines end plainly',
    applies: /\.(ts|tsx|mjs|cjs|sol|md|json|cpp|h)$/,
    breaches: ({ text }) => [
      ...(text.includes('\r') ? ['carriage return'] : []),
      ...(text.length > 0 && !text.endsWith('\n') ? ['no newline at the end'] : [])
    ],
    canary: { path: 'lib/a.ts', text: 'x' }
  }
]

t.test('the house rules hold', async t => {
  const files = tracked()
  t.ok(files.length > 50, `${files.length} files`)
  for (const rule of RULES) {
    t.ok(rule.applies.test(rule.canary.path) && rule.breaches(rule.canary).length > 0, `canary: ${rule.name}`)
    const found = files
      .filter(f => rule.applies.test(f.path))
      .flatMap(f => rule.breaches(f).map(what => `${f.path}: ${what}`))
    t.same(found, [], rule.name)
  }
  for (const { path, text } of files) {
    const count = text.split('\n').length
    if (CODE.test(path) && count > LINES_WARN) t.comment(`${path} has ${count} lines: what is its second subject?`)
  }
})

t.test('launchers are executable, extensionless and end in their tool', async t => {
  const launchers = readdirSync(join(packageRoot, 'bin')).filter(name => name.startsWith('zg-'))
  const declared = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')).bin as Record<string, string>
  t.same(launchers.sort(), Object.keys(declared).sort(), 'package.json lists them all')
  for (const name of launchers) {
    const path = join(packageRoot, 'bin', name)
    t.equal(statSync(path).mode & 0o111, 0o111, `${name} is executable`)
    t.match(readFileSync(path, 'utf8'), /^#!\/usr\/bin\/env node\n/, name)
    t.equal(declared[name], `bin/${name}`)
  }
})

t.test('docs/limits.md lists every shared bound with its value', async t => {
  const rows = tableRows()
  const shared = new Map(rows.filter(r => r.length === 4 && !r[1]!.includes('.ts')).map(r => [r[0]!, r[1]!]))
  for (const [name, value] of Object.entries(LIMITS)) t.equal(shared.get(name), shown(name, value), name)
  t.same(
    [...shared.keys()].filter(name => !(name in LIMITS)),
    [],
    'and none that is gone'
  )
  t.equal(shown('xBytes', 1536), '1 536 bytes')
  t.equal(shown('xMs', 250), '250 ms')
})

t.test('docs/storage-checklist.md names tests that exist, by the titles that they have', async t => {
  const all = readFileSync(join(packageRoot, 'docs/storage-checklist.md'), 'utf8')
  const faults = checklistFaults(all)
  t.same(faults, [])
  t.ok(all.split('\n').filter(line => line.startsWith('| ')).length > 80)
  t.same(checklistFaults('| a | test/unit/none.test.ts |'), ['no file test/unit/none.test.ts'])
  t.same(checklistFaults('| a | test/unit/cli.test.ts "a title … nobody wrote" |'), [
    'no test of that title: a title … nobody wrote'
  ])
})

/** Files that are not there, and quoted titles (… for what is left out) that none of a row's test files has. */
function checklistFaults(text: string): string[] {
  const faults: string[] = []
  let usual: string[] = []
  for (const line of text.split('\n')) {
    const files = line.match(/\b(?:test|bench)\/[\w./-]+\.ts\b/g) ?? []
    for (const file of files) if (!existsSync(join(packageRoot, file))) faults.push(`no file ${file}`)
    if (!line.startsWith('|')) {
      // What stands above a table holds for its rows.
      if (line.trim() !== '') usual = files
      continue
    }
    const sources = [...files, ...usual]
      .filter(file => existsSync(join(packageRoot, file)))
      .map(file => readFileSync(join(packageRoot, file), 'utf8'))
    for (const [, title] of line.slice(line.indexOf('|', 1)).matchAll(/["“]([^"”]+)["”]/g)) {
      const parts = title!.split('…').map(p => p.trim().replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
      const pattern = new RegExp(parts.filter(p => p !== '').join('.{0,120}'))
      if (!sources.some(source => pattern.test(source))) faults.push(`no test of that title: ${title}`)
    }
  }
  return faults
}

t.test("docs/limits.md tells the modules' bounds as they are", async t => {
  const rows = tableRows().filter(r => r[1]!.includes('.ts'))
  t.ok(rows.length > 10)
  for (const [name, path, value] of rows) {
    const text = readFileSync(join(packageRoot, path!), 'utf8')
    const found = new RegExp(`^(?:export )?const ${name} = ([\\d_ *+]+)$`, 'm').exec(text)?.[1]
    t.equal(found && shown(name!, evaluate(found)), value, `${name} of ${path}`)
  }
  t.equal(evaluate('1 + 2 * 3_0'), 61)
})

/** Cells of the rows of both tables, code marks removed. */
function tableRows(): string[][] {
  return readFileSync(join(packageRoot, 'docs/limits.md'), 'utf8')
    .split('\n')
    .filter(line => /^\| `/.test(line))
    .map(line =>
      line
        .split('|')
        .slice(1, -1)
        .map(cell => cell.trim().replace(/^`(.*)`$/, '$1'))
    )
}

/** A bound as the document writes it: largest whole unit, thin groups of three. */
function shown(name: string, value: number | bigint): string {
  const n = Number(value)
  const grouped = (x: number): string => String(x).replace(/\B(?=(\d{3})+$)/g, ' ')
  if (/bytes$/i.test(name)) {
    if (n % 2 ** 20 === 0) return `${grouped(n / 2 ** 20)} MiB`
    return n % 2 ** 10 === 0 ? `${grouped(n / 2 ** 10)} KiB` : `${grouped(n)} bytes`
  }
  if (/ms$/i.test(name)) return n % 1000 === 0 ? `${grouped(n / 1000)} s` : `${grouped(n)} ms`
  return grouped(n)
}

/** Sums of products of whole numbers. */
function evaluate(text: string): number {
  return text
    .replaceAll('_', '')
    .split('+')
    .map(term => term.split('*').reduce((product, factor) => product * Number(factor), 1))
    .reduce((sum, term) => sum + term, 0)
}

/** Tracked text files; from a walk of the tree where git or its directory is absent (an unpacked archive). */
function tracked(): File[] {
  let paths: string[]
  try {
    const out = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
      cwd: packageRoot,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore']
    })
    paths = out.split('\0').filter(Boolean)
  } catch {
    paths = walk('')
  }
  return paths
    .filter(path => !/^test\/vectors\/|\.(png|gz|bin|node|gguf|wasm)$/.test(path))
    .flatMap(path => {
      const stat = statSync(join(packageRoot, path), { throwIfNoEntry: false })
      return stat?.isFile() ? [{ path, text: readFileSync(join(packageRoot, path), 'utf8') }] : []
    })
}

function walk(dir: string): string[] {
  return readdirSync(join(packageRoot, dir), { withFileTypes: true }).flatMap(entry => {
    const path = dir === '' ? entry.name : `${dir}/${entry.name}`
    if (/(^|\/)(node_modules|dist|build|generated|\.git|\.tap|\.build)$/.test(path)) return []
    return entry.isDirectory() ? walk(path) : [path]
  })
}
