/**
 * Proves the JSON-RPC against recorded answers of other clients (execution-apis): a chain of 54 blocks that crosses every fork is
 * executed, then all requests are replayed. Results must be equal, error codes too; error texts are free. Where the record says that
 * only the shape counts, the shape is compared. What is left out is listed with its reason, and counted.
 */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import t from 'tap'
import { parseGenesis } from '../../cmd/zg-chain/core/genesis.ts'
import { splitList } from '../../cmd/zg-chain/core/records.ts'
import { engineOptions, openChain } from '../../cmd/zg-chain/open.ts'
import { chainMethods } from '../../cmd/zg-chain/rpc/methods.ts'
import { systemClock } from '../../lib/adapters/clock.ts'
import { JsonText, RPC, type RpcContext, RpcError, type RpcMethods } from '../../lib/adapters/jsonrpc/types.ts'
import { systemRandom } from '../../lib/adapters/random.ts'
import { toHex } from '../../lib/base/hex.ts'
import { evmAddon } from '../../lib/evm/native.ts'
import { evmFixtures } from '../harness/evm-fixtures.ts'

/** Method or file → why it is not replayed. */
const LEFT_OUT: Record<string, string> = {
  testing_buildBlockV1: 'a method of test networks; zg-chain builds blocks through the Engine API',
  'eth_getLogs/filter-error-future-block-range':
    'a range that ends beyond the head is cut there (chain.md 9.5): pollers that ask one block ahead get an answer'
}

/** Fields that a specification calls optional. */
const OPTIONAL = ['deleteStrategy']

type Json = unknown
interface Exchange {
  request: { id: Json; method: string; params?: Json[] }
  answer: { result?: Json; error?: { code: number; message: string } }
}

const folder = evmFixtures('rpc-compat')

if (folder === undefined || !existsSync(folder)) {
  t.plan(0, 'the fixtures are not here')
} else {
  await t.test('recorded requests are answered as recorded', async t => {
    const dir = mkdtempSync(join(tmpdir(), 'zg-rpc-compat-'))
    t.teardown(() => rmSync(dir, { recursive: true, force: true }))
    const genesis = parseGenesis(readFileSync(join(folder, 'genesis.json'), 'utf8'))
    await execute(dir, genesis, readFileSync(join(folder, 'chain.rlp')))

    const chain = await openChain({
      dir,
      kept: false,
      genesis,
      clock: systemClock,
      random: systemRandom,
      blockTimeMs: 0
    })
    t.teardown(() => chain.close())
    const head = JSON.parse(readFileSync(join(folder, 'headfcu.json'), 'utf8')).params[0].headBlockHash
    t.equal(toHex(chain.head().hash), head, 'the head is the recorded one')

    const methods = chainMethods(chain, { dev: false, forks: genesis.config })
    const counts = { equal: 0, shape: 0, leftOut: 0 }
    for (const file of files(folder)) {
      const name = file.slice(folder.length + 1, -'.io'.length)
      const reason = LEFT_OUT[name] ?? LEFT_OUT[name.split('/')[0]!]
      if (reason !== undefined) {
        counts.leftOut++
        t.comment(`left out: ${name}: ${reason}`)
        continue
      }
      const { exchanges, isShape } = read(readFileSync(file, 'utf8'))
      let difference: string | undefined
      for (const { request, answer } of exchanges) {
        const got = await call(methods, request)
        difference ??= compare(got, answer, isShape)
      }
      counts[isShape ? 'shape' : 'equal']++
      t.equal(difference, undefined, name)
    }
    t.comment(`${counts.equal} files equal, ${counts.shape} of the same shape, ${counts.leftOut} left out`)
    t.ok(counts.equal + counts.shape > 150, 'all of the records were replayed')
  })
}

/** Runs every block of the file through the engine: executed, checked against its header, committed. */
async function execute(dir: string, genesis: ReturnType<typeof parseGenesis>, file: Uint8Array): Promise<void> {
  const native = await evmAddon().open(engineOptions({ dir, kept: false, genesis, dev: false }))
  for (let at = 0; at < file.length; ) {
    // Blocks stand one behind the other without a list around them.
    const size = itemSize(file.subarray(at))
    const block = file.subarray(at, at + size)
    splitList(block)
    at += size
    const hash = await native.newPayload(block).catch(err => {
      throw new Error(`block at byte ${at - size}: ${err.message}`)
    })
    await native.commit(hash)
  }
  await native.close()
}

function itemSize(raw: Uint8Array): number {
  const head = raw[0]!
  if (head < 0xf8) return 1 + head - 0xc0
  const bytes = head - 0xf7
  let size = 0
  for (let i = 1; i <= bytes; i++) size = size * 256 + raw[i]!
  return 1 + bytes + size
}

/** Transactions are sent before the pool is asked. */
function files(folder: string): string[] {
  const names = readdirSync(folder, { withFileTypes: true })
    .filter(e => e.isDirectory())
    .map(e => e.name)
    .sort((a, b) => Number(b === 'eth_sendRawTransaction') - Number(a === 'eth_sendRawTransaction') || (a < b ? -1 : 1))
  return names.flatMap(name =>
    readdirSync(join(folder, name))
      .filter(f => f.endsWith('.io'))
      .sort()
      .map(f => join(folder, name, f))
  )
}

function read(text: string): { exchanges: Exchange[]; isShape: boolean } {
  const exchanges: Exchange[] = []
  let request: Exchange['request'] | undefined
  for (const line of text.split('\n')) {
    if (line.startsWith('>> ')) request = JSON.parse(line.slice(3))
    else if (line.startsWith('<< ') && request !== undefined)
      exchanges.push({ request, answer: JSON.parse(line.slice(3)) })
  }
  return { exchanges, isShape: /^\/\/ speconly:/m.test(text) }
}

async function call(methods: RpcMethods, { method, params }: Exchange['request']): Promise<Exchange['answer']> {
  const ctx: RpcContext = {
    transport: 'unix',
    signal: new AbortController().signal,
    session: new Map(),
    onClose: () => {}
  }
  const run = methods[method]
  if (run === undefined) return { error: { code: RPC.method, message: `no method ${method}` } }
  try {
    const result = await run(params ?? [], ctx)
    return { result: result instanceof JsonText ? JSON.parse(result.text) : JSON.parse(JSON.stringify(result)) }
  } catch (err) {
    if (!(err instanceof RpcError)) throw err
    return { error: { code: err.code, message: err.message, ...(err.data === undefined ? {} : { data: err.data }) } }
  }
}

/** What differs, in a line; undefined when nothing does. */
function compare(got: Exchange['answer'], want: Exchange['answer'], isShape: boolean): string | undefined {
  if (want.error !== undefined) {
    if (got.error?.code === want.error.code) return undefined
    return `wanted error ${want.error.code} (${want.error.message}), got ${brief(got)}`
  }
  if (got.error !== undefined) return `got error ${got.error.code}: ${got.error.message}`
  return isShape ? shape(got.result, want.result, 'result') : equal(got.result, want.result, 'result')
}

function equal(got: Json, want: Json, path: string): string | undefined {
  if (isDeepStrictEqual(got, want)) return undefined
  if (typeof got === 'object' && typeof want === 'object' && got !== null && want !== null) {
    const keys = new Set([...Object.keys(got), ...Object.keys(want)])
    for (const key of keys) {
      const difference = equal((got as never)[key], (want as never)[key], `${path}.${key}`)
      if (difference !== undefined) return difference
    }
  }
  return `${path}: wanted ${brief(want)}, got ${brief(got)}`
}

function shape(got: Json, want: Json, path: string): string | undefined {
  if (kindOf(got) !== kindOf(want)) return `${path}: wanted ${kindOf(want)}, got ${brief(got)}`
  if (Array.isArray(want)) {
    return want.length === 0 || (got as Json[]).length === 0
      ? undefined
      : shape((got as Json[])[0], want[0], `${path}[0]`)
  }
  if (typeof want !== 'object' || want === null) return undefined
  for (const [key, value] of Object.entries(want)) {
    if (OPTIONAL.includes(key) && !Object.hasOwn(got as object, key)) continue
    // Keys that are data, such as addresses, need not be the same.
    if (/^(0x|[0-9])/.test(key)) continue
    const difference = shape((got as never)[key], value, `${path}.${key}`)
    if (difference !== undefined) return difference
  }
  return undefined
}

function kindOf(value: Json): string {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'array'
  return typeof value === 'string' ? (value.startsWith('0x') ? 'hex' : 'string') : typeof value
}

function brief(value: Json): string {
  const text = JSON.stringify(value) ?? 'nothing'
  return text.length > 200 ? `${text.slice(0, 200)}…` : text
}
