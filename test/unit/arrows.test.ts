/**
 * Imports only go down: bin → cmd → lib → native, no tool into another tool, and inside lib as ALLOWED says. The graph is read
 * from the sources themselves (static, dynamic and type imports). A made-up graph with every kind of upward arrow must be
 * reported, or this test proves nothing.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, posix } from 'node:path'
import t from 'tap'
import ts from 'typescript'
import { packageRoot } from '../harness/tools.ts'

/** What each folder of lib may import beside itself. `ops` sees only the HTTP server of the adapters. */
const ALLOWED: Record<string, readonly string[]> = {
  base: [],
  native: ['base', 'crypto'],
  crypto: ['base', 'native'],
  codec: ['base', 'crypto', 'native'],
  core: ['base', 'crypto', 'codec'],
  ports: ['base'],
  adapters: ['ports', 'codec', 'crypto', 'base', 'ops', 'native'],
  sim: ['ports', 'base', 'crypto'],
  ops: ['base', 'adapters/http.ts', 'adapters/jsonrpc/types.ts'],
  contracts: ['base', 'crypto', 'codec'],
  infer: ['base', 'native'],
  evm: ['base', 'codec', 'crypto', 'native'],
  clients: ['adapters', 'codec', 'crypto', 'base', 'contracts', 'ports', 'native', 'ops'],
  // native: `--version --verbose` names the CPU features in use.
  cli: ['base', 'ops', 'crypto', 'adapters', 'native'],
  tui: ['base', 'cli', 'clients']
}

const P2P_PACKAGE = /^(libp2p|@libp2p\/|@chainsafe\/libp2p|@multiformats\/)/

type Kind = 'static' | 'dynamic' | 'type'
interface Import {
  /** A path from the package root for our own files, else the package's name. */
  to: string
  kind: Kind
}
type Graph = Map<string, Import[]>

/** The folder that decides: `cmd/zg-chain`, `lib/base`, `lib/native`, `bin`, `native`. */
function place(path: string): string {
  const [top, second] = path.split('/')
  if (path === 'lib/native.ts') return 'lib/native'
  return top === 'cmd' || top === 'lib' ? `${top}/${second}` : top!
}

/** Why an import is not allowed; undefined when it is. */
function wrong(from: string, to: string): string | undefined {
  const a = place(from)
  if (P2P_PACKAGE.test(to)) {
    return from.startsWith('lib/adapters/libp2p/') ? undefined : 'only lib/adapters/libp2p knows libp2p'
  }
  if (!/^(bin|cmd|lib|native|test|scripts|bench|build|dist)\//.test(to)) return undefined
  const b = place(to)
  if (a === b) return undefined
  const [topA, topB] = [a.split('/')[0]!, b.split('/')[0]!]
  const rank: Record<string, number> = { bin: 3, cmd: 2, lib: 1, native: 0 }
  if (rank[topB] === undefined) return `${topA} imports ${topB}`
  if (rank[topB]! > rank[topA]!) return `${topA} imports upward into ${topB}`
  if (topA === 'cmd' && topB === 'cmd') return 'a tool imports another tool'
  if (topA !== 'lib' || topB !== 'lib') return undefined
  const allowed = ALLOWED[a.slice(4)]
  if (allowed === undefined) return `lib/${a.slice(4)} has no rule in ALLOWED`
  if (allowed.some(x => (x.endsWith('.ts') ? to === `lib/${x}` : b === `lib/${x}`))) return undefined
  return `lib/${a.slice(4)} may import ${allowed.join(', ') || 'nothing of ours'}`
}

function upward(graph: Graph): string[] {
  return [...graph].flatMap(([from, imports]) =>
    imports.flatMap(({ to }) => {
      const why = wrong(from, to)
      return why === undefined ? [] : [`${from} → ${to}: ${why}`]
    })
  )
}

/** Everything that loading `start` loads at once. */
function closure(graph: Graph, start: string): Set<string> {
  const seen = new Set<string>([start])
  for (const file of seen) for (const { to, kind } of graph.get(file) ?? []) if (kind === 'static') seen.add(to)
  return seen
}

interface Source {
  imports: Import[]
  /** Modules of the verbs marked `daemon: true`. */
  daemons: string[]
  /** Words in quotes that end in `.node`. */
  addons: string[]
}

function read(path: string): Source {
  const text = readFileSync(join(packageRoot, path), 'utf8')
  const file = ts.createSourceFile(
    path,
    text,
    { languageVersion: ts.ScriptTarget.ES2023, jsDocParsingMode: ts.JSDocParsingMode.ParseNone },
    true
  )
  const grammar = text.includes('daemon: true')
  const out: Source = { imports: [], daemons: [], addons: [] }
  const target = (word: string): string =>
    word.startsWith('.') ? posix.normalize(posix.join(posix.dirname(path), word)) : word
  const visit = (node: ts.Node): void => {
    if ((ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) && node.moduleSpecifier !== undefined) {
      const typeOnly = ts.isImportDeclaration(node) ? node.importClause?.isTypeOnly === true : node.isTypeOnly
      const word = (node.moduleSpecifier as ts.StringLiteral).text
      out.imports.push({ to: target(word), kind: typeOnly ? 'type' : 'static' })
    } else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) {
      out.imports.push({ to: target((node.argument.literal as ts.StringLiteral).text), kind: 'type' })
    } else if (ts.isCallExpression(node)) {
      const [first] = node.arguments
      const dynamic = node.expression.kind === ts.SyntaxKind.ImportKeyword
      const required = ts.isIdentifier(node.expression) && node.expression.text === 'require'
      if ((dynamic || required) && first !== undefined && ts.isStringLiteral(first)) {
        out.imports.push({ to: target(first.text), kind: dynamic ? 'dynamic' : 'static' })
      }
    } else if (grammar && ts.isObjectLiteralExpression(node) && /\bdaemon: true\b/.test(ownText(node))) {
      const load = node.properties.find(p => p.name?.getText() === 'load')?.getText() ?? ''
      const word = /import\('([^']+)'\)/.exec(load)?.[1]
      if (word !== undefined) out.daemons.push(target(word))
    } else if (ts.isStringLiteral(node) && /\.node$/.test(node.text)) {
      out.addons.push(node.text)
    }
    ts.forEachChild(node, visit)
  }
  visit(file)
  return out
}

/** An object literal's direct properties that are plain values. */
function ownText(node: ts.ObjectLiteralExpression): string {
  return node.properties
    .filter(p => ts.isPropertyAssignment(p) && !ts.isObjectLiteralExpression(p.initializer))
    .map(p => p.getText())
    .join('\n')
}

function sources(): string[] {
  return ['bin', 'cmd', 'lib', 'native'].flatMap(top => {
    const dir = join(packageRoot, top)
    if (!existsSync(dir)) return []
    return readdirSync(dir, { recursive: true, encoding: 'utf8' })
      .filter(name => /\.(ts|tsx|mjs|cjs|js)$/.test(name) && !name.includes('node_modules'))
      .map(name => posix.join(top, name))
  })
}

t.test('no arrow goes up', async t => {
  const files = sources()
  t.ok(files.length > 20, `${files.length} files`)
  const graph: Graph = new Map()
  const daemons: string[] = []
  const addons: string[] = []
  for (const path of files) {
    const source = read(path)
    graph.set(path, source.imports)
    daemons.push(...source.daemons)
    if (source.addons.length > 0 && path !== 'lib/native.ts') addons.push(`${path}: ${source.addons.join(', ')}`)
  }
  t.same(upward(graph), [])
  t.same(addons, [], 'only lib/native.ts names .node files')

  const missing = [...graph].flatMap(([from, imports]) =>
    imports
      .filter(i => /^(cmd|lib)\//.test(i.to) && !i.to.includes('/generated/') && !graph.has(i.to))
      .map(i => `${from} → ${i.to}`)
  )
  t.same(missing, [], 'every import leads to a file')

  if (files.some(f => f === 'cmd/zg-chain/cli.ts')) t.ok(daemons.length > 0, 'daemons were found')
  for (const start of daemons) {
    const loaded = closure(graph, start)
    t.notOk(loaded.has('ethers'), `${start} does not load ethers`)
    t.same(
      [...loaded].filter(x => P2P_PACKAGE.test(x)),
      [],
      `${start} does not load libp2p before it is ready`
    )
  }
  // --help must not pay for anything but the grammar.
  for (const start of files.filter(f => /^cmd\/zg-\w+\/cli\.ts$/.test(f))) {
    const packages = [...closure(graph, start)].filter(x => !/^(cmd|lib|node:)/.test(x) && x !== 'commander')
    t.same(packages, [], `${start} loads no package but commander`)
  }
})

t.test('canary: arrows that go up are reported, those that go down are not', async t => {
  const at = (to: string, kind: Kind = 'static'): Import[] => [{ to, kind }]
  const bad: [string, string][] = [
    ['lib/base/x.ts', 'cmd/zg-chain/core/types.ts'],
    ['lib/base/x.ts', 'lib/crypto/hash.ts'],
    ['lib/codec/x.ts', 'lib/adapters/disk.ts'],
    ['lib/core/x.ts', 'lib/ports/disk.ts'],
    ['lib/sim/x.ts', 'lib/adapters/disk.ts'],
    ['lib/adapters/x.ts', 'lib/clients/chain.ts'],
    ['lib/clients/x.ts', 'lib/cli/types.ts'],
    ['lib/ops/x.ts', 'lib/adapters/kv.ts'],
    ['lib/new/x.ts', 'lib/base/hex.ts'],
    ['cmd/zg-chain/x.ts', 'cmd/zg-store/cli.ts'],
    ['cmd/zg-chain/x.ts', 'bin/zg-chain'],
    ['cmd/zg-chain/x.ts', 'test/harness/tools.ts'],
    ['cmd/zg-store/x.ts', '@libp2p/tcp'],
    ['lib/adapters/http.ts', 'libp2p']
  ]
  for (const [from, to] of bad) {
    for (const kind of ['static', 'dynamic', 'type'] as const)
      t.equal(upward(new Map([[from, at(to, kind)]])).length, 1, `${from} → ${to}`)
  }
  const good: Graph = new Map([
    ['cmd/zg-chain/x.ts', at('lib/base/hex.ts')],
    ['lib/adapters/libp2p/node.ts', at('libp2p')],
    ['lib/adapters/x.ts', at('lib/ports/disk.ts')],
    ['lib/native.ts', at('lib/base/errors.ts')],
    ['lib/base/x.ts', at('node:fs')]
  ])
  t.same(upward(good), [])
  const lazy: Graph = new Map([
    ['a', [...at('b'), ...at('ethers', 'dynamic')]],
    ['b', [...at('c'), ...at('zod', 'type')]],
    ['c', at('level')]
  ])
  t.same([...closure(lazy, 'a')], ['a', 'b', 'c', 'level'])
})
