/**
 * Proves the family's grammar without any tool: option sources and their order, values that do not parse, configuration files,
 * suggestions, exit codes, help within 80 columns.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { ZgError } from '../../lib/base/errors.ts'
import { parseDuration } from '../../lib/base/units.ts'
import { completion } from '../../lib/cli/completion.ts'
import { readConfig } from '../../lib/cli/config.ts'
import { EXIT, EXIT_MEANING, toZgError } from '../../lib/cli/exit.ts'
import { toolHelp, topicHelp, verbHelp } from '../../lib/cli/help.ts'
import { parseInteger, parsePort, parseUrl, resolveOptions, shapeOf } from '../../lib/cli/options.ts'
import { suggest } from '../../lib/cli/suggest.ts'
import type { OptionSpec, ToolSpec } from '../../lib/cli/types.ts'

const port: OptionSpec = { flags: '--rpc-port <port>', help: 'port', default: '5678', parse: parsePort }
const wait: OptionSpec = { flags: '--no-wait', help: 'return early' }
const node: OptionSpec = { flags: '--node <url>', help: 'a node', repeat: true, parse: parseUrl }
const spec: ToolSpec = {
  name: 'zg-x',
  summary: 'a tool for this test',
  verbs: [
    {
      name: 'put',
      args: '[FILE]',
      summary: 'store a file',
      examples: ['zg-x put a'],
      options: [port, wait, node],
      load: async () => async () => undefined
    }
  ]
}

const resolve = (o: { flags?: object; env?: object; file?: object }) =>
  resolveOptions([port, wait, node], {
    tool: 'zg-x',
    flags: { ...o.flags },
    env: { ...o.env },
    file: o.file === undefined ? undefined : { path: 'zg-x.json', values: { ...o.file } }
  })

t.test('flag wins over environment, environment over file, file over default', async t => {
  t.equal(resolve({}).values.rpcPort, 5678)
  t.equal(resolve({ file: { 'rpc-port': 1 } }).values.rpcPort, 1)
  t.equal(resolve({ file: { 'rpc-port': 1 }, env: { ZG_X_RPC_PORT: '2' } }).values.rpcPort, 2)
  const all = resolve({ file: { 'rpc-port': 1 }, env: { ZG_X_RPC_PORT: '2' }, flags: { rpcPort: '3' } })
  t.equal(all.values.rpcPort, 3)
  t.equal(all.sources.get('rpcPort'), 'flag')
  t.equal(
    resolve({ env: { ZG_X_RPC_PORT: '' } }).sources.get('rpcPort'),
    'default',
    'an empty variable counts as unset'
  )
})

t.test('negated and repeated options', async t => {
  t.equal(resolve({}).values.wait, true)
  t.equal(resolve({ flags: { wait: false } }).values.wait, false)
  t.equal(resolve({ env: { ZG_X_WAIT: 'no' } }).values.wait, false)
  t.strictSame(resolve({ env: { ZG_X_NODE: 'http://a:1,http://b:2/' } }).values.node, ['http://a:1', 'http://b:2'])
  t.strictSame(shapeOf({ flags: '-n, --dry-run', help: '' }, 'zg-x'), {
    name: 'dryRun',
    long: '--dry-run',
    key: 'dry-run',
    negated: false,
    takesValue: false,
    env: 'ZG_X_DRY_RUN'
  })
})

t.test('a bad value names where it came from and is a usage or a configuration error', async t => {
  t.throws(() => resolve({ flags: { rpcPort: '99999' } }), {
    code: 'ERR_USAGE',
    message: /^--rpc-port: '99999' is not a port/
  })
  t.throws(() => resolve({ env: { ZG_X_RPC_PORT: 'x' } }), { code: 'ERR_USAGE', message: /^ZG_X_RPC_PORT: / })
  t.throws(() => resolve({ file: { 'rpc-port': 'x' } }), { code: 'ERR_CONFIG', message: /^'rpc-port' in zg-x\.json: / })
  t.throws(() => resolve({ env: { ZG_X_WAIT: 'maybe' } }), { code: 'ERR_USAGE' })
  t.throws(() => parseInteger(1, 16)('17'), { code: 'ERR_USAGE' })
  t.throws(() => parseUrl('ftp://x'), { code: 'ERR_USAGE' })
  t.throws(() => parseUrl('x'), { code: 'ERR_USAGE' })
  t.throws(
    () =>
      resolveOptions([{ flags: '--to <t>', help: '', parse: parseDuration }], {
        tool: 'zg-x',
        flags: { to: '1y' },
        env: {},
        file: undefined
      }),
    { code: 'ERR_USAGE' }
  )
})

t.test('configuration files: unknown keys, broken JSON and missing files are errors of their own', async t => {
  const dir = mkdtempSync(join(tmpdir(), 'zg-cli-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  const file = (text: string): string => {
    const path = join(dir, 'c.json')
    writeFileSync(path, text)
    return path
  }
  t.strictSame(readConfig(spec, file('{"rpc-port":7}'))?.values, { 'rpc-port': 7 })
  t.throws(() => readConfig(spec, file('{"rpc-prt":7}')), {
    code: 'ERR_CONFIG',
    message: /unknown key 'rpc-prt', did you mean 'rpc-port'\?/
  })
  t.throws(() => readConfig(spec, file('{')), { code: 'ERR_CONFIG' })
  t.throws(() => readConfig(spec, file('[]')), { code: 'ERR_CONFIG' })
  t.throws(() => readConfig(spec, join(dir, 'none.json')), { code: 'ERR_CONFIG', message: /no such file/ })
})

t.test('near misses are suggested, far ones are not', async t => {
  t.equal(suggest('pt', ['put', 'get', 'stat']), 'put')
  t.equal(suggest('sttaus', ['status', 'restart']), 'status')
  t.equal(suggest('zzz', ['put', 'get']), undefined)
})

t.test('every error code has an exit status with a meaning', async t => {
  for (const [code, exit] of Object.entries(EXIT)) t.ok(EXIT_MEANING[exit], `${code} → ${exit}`)
  t.equal(toZgError(Object.assign(new Error('x'), { code: 'ENOENT', path: 'f' }))?.code, 'ERR_NO_INPUT')
  t.equal(toZgError(Object.assign(new Error('x'), { code: 'ENOSPC' }))?.code, 'ERR_DISK_FULL')
  t.equal(toZgError(new TypeError('bug')), undefined)
  const err = new ZgError('ERR_IO', 'x')
  t.equal(toZgError(err), err)
})

t.test('help stays within 80 columns and names every option, default and environment name', async t => {
  const text = verbHelp(spec, spec.verbs[0]!, true)
  for (const word of [
    '--rpc-port <port>',
    '[5678]',
    '(ZG_X_RPC_PORT)',
    '--no-wait',
    '--json',
    'Exit status:',
    'zg-x put a'
  ])
    t.ok(text.includes(word), word)
  for (const help of [
    text,
    toolHelp(spec),
    ...['exit', 'environment', 'config', 'json'].map(topic => topicHelp(spec, topic)!)
  ]) {
    for (const line of help.split('\n')) t.ok(line.length <= 100 && !/\s$/.test(line), line)
  }
  t.equal(topicHelp(spec, 'none'), undefined)
})

t.test('completion scripts know verbs and flags in each shell', async t => {
  for (const shell of ['bash', 'zsh', 'fish']) t.match(completion(spec, shell)!, /put/)
  t.match(completion(spec, 'bash')!, /--rpc-port/)
  t.equal(completion(spec, 'csh'), undefined)
})
