/**
 * Every JSON-RPC method of a network's nodes, with values that are not its own at every place and in every field: answered, or refused
 * with a code that says why; never an internal error, never the words of a failure inside, and the nodes live on.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { SeededRandom } from '../../lib/sim/random.ts'
import { startNetwork } from '../harness/network.ts'
import { SEED } from '../harness/seed.ts'
import { packageRoot } from '../harness/tools.ts'

t.setTimeout(400_000)
const network = await startNetwork('hostile')
t.teardown(() => network.stop())

/** Names of methods as the sources have them. */
function methodsOf(folder: string, pattern: RegExp): string[] {
  const files = readdirSync(join(packageRoot, folder), { recursive: true, encoding: 'utf8' })
  const sources = files.filter(f => f.endsWith('.ts')).map(f => readFileSync(join(packageRoot, folder, f), 'utf8'))
  return [...new Set(sources.flatMap(text => text.match(pattern) ?? []))].sort()
}

const A = `"0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"`
const H = `"0x${'11'.repeat(32)}"`
const nested = (open: string, close: string): string => `${open.repeat(5_000)}1${close.repeat(5_000)}`
/** As JSON, since not all of it could be made otherwise. */
const BAD = [
  ...[
    'null',
    'true',
    '-1',
    '0',
    '1',
    '2.5',
    '1e15',
    '1e308',
    '1e400',
    '9007199254740993',
    '""',
    '"x"',
    '"0x"',
    '"0x0"'
  ],
  ...['"0xzz"', `"0x${'f'.repeat(64)}"`, `"0x1${'0'.repeat(80)}"`, '"-0x1"', '"latest"', '"earliest"', '"pending"'],
  ...['"\\ud800"', '"\\u0000"', '[]', '[[]]', '[null]', '{}', '{"a":1}', A, H, `"0x${'00'.repeat(1_000)}"`],
  ...[nested('[', ']'), nested('{"a":', '}'), '{"__proto__":{"a":1}}', '{"constructor":1}', '{"length":1e9}']
]
const CALL = `{"from":${A},"to":${A},"value":"0x1","gas":"0x5208","data":"0x","nonce":"0x0","gasPrice":"0x77359400"}`
const SEGMENT = `{"root":${H},"data":"AAAA","index":0,"proof":{"lemma":[${H}],"path":[]},"fileSize":256}`
const OBJECTS = [
  ...[CALL, '{}', `{"address":${A},"fromBlock":"0x0","toBlock":"latest"}`, '{"tracer":"callTracer"}', SEGMENT],
  `{"blockStateCalls":[{"calls":[${CALL}]}],"returnFullTransactions":true}`,
  `{"seq":0,"dataMerkleRoot":${H},"size":1,"startEntryIndex":1,"data":[],"streamIds":[]}`
]
const GOOD = [A, H, '"0x1"', '"latest"', '0', '1', 'true', '"AAAA"', ...OBJECTS, '["0x0"]', '[0]', `[${H}]`]
const FIELDS: Record<string, string[]> = {
  chain:
    `from to value gas data input nonce gasPrice maxFeePerGas maxPriorityFeePerGas accessList authorizationList type chainId
    blobVersionedHashes blobs maxFeePerBlobGas address topics fromBlock toBlock blockHash blockNumber requireCanonical tracer
    tracerConfig timeout stateOverrides blockOverrides limit balance code state stateDiff movePrecompileToAddress number time
    baseFee gasLimit withdrawals blockStateCalls validation traceTransfers returnFullTransactions`.split(/\s+/),
  store:
    `root data index proof fileSize lemma path tx txSeq size dataMerkleRoot startEntryIndex seq identity streamIds key version
    len start_index startIndex endIndex shard numShard shardId locations`.split(/\s+/)
}
const INSIDE = /TypeError|RangeError|\[object|not a function|undefined|internal|call stack/i

async function sweep(t: Test, url: string, methods: string[], fields: string[], perMethod: number): Promise<void> {
  const random = new SeededRandom(`${SEED}/${url.length}/${methods[0]}`)
  const pick = (list: readonly string[]): string => list[random.below(list.length)]!
  const drawn = (): string => {
    const before = Array.from({ length: random.below(3) }, () => pick(GOOD))
    if (random.below(2) === 0) return `[${[...before, pick(BAD), pick(GOOD)].slice(0, 1 + random.below(4)).join(',')}]`
    const base = pick(OBJECTS)
    const object = `${base.slice(0, -1)}${base === '{}' ? '' : ','}"${pick(fields)}":${pick(BAD)}}`
    return `[${[...before.slice(0, random.below(2)), object, pick(['"latest"', '"0x0"', pick(GOOD)])].join(',')}]`
  }
  const asked = methods.flatMap(method =>
    ['[]', '{}', 'null', '7', '"x"', `[${'0,'.repeat(50)}0]`, nested('[', ']')]
      .concat(Array.from({ length: perMethod }, drawn))
      .map(params => `{"jsonrpc":"2.0","id":1,"method":"${method}","params":${params}}`)
  )
  const count = asked.length
  const wrong: string[] = []
  const seen = new Map<string, number>()
  const worker = async (): Promise<void> => {
    for (let body = asked.pop(); body !== undefined; body = asked.pop()) {
      const res = await fetch(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body })
      const text = await res.text()
      const code = /"error":\{"code":(-?\d+)/.exec(text)?.[1] ?? 'answer'
      seen.set(code, (seen.get(code) ?? 0) + 1)
      if (res.status >= 500 || code === '-32603' || (code !== 'answer' && INSIDE.test(text)))
        wrong.push(`${body.slice(0, 600)} -> ${res.status} ${text.slice(0, 300)}`)
    }
  }
  await Promise.all(Array.from({ length: 4 }, worker))
  t.same(wrong.slice(0, 10), [], `${count} requests: ${JSON.stringify([...seen])}`)
  t.ok(
    (seen.get('answer') ?? 0) > count / 100 && (seen.get('-32602') ?? 0) > count / 10,
    'some are answered, some refused'
  )
}

const storage = methodsOf('cmd/zg-store', /\b(zgs|admin|indexer|kv)_[a-zA-Z]+/g)
const of = (pattern: RegExp): string[] => storage.filter(name => pattern.test(name) && name !== 'admin_shutdown')

t.test('a storage node', t => sweep(t, network.nodes[0]!, of(/^(zgs|admin)_/), FIELDS.store!, 120))
t.test('the indexer', t => sweep(t, network.indexer, of(/^indexer_/), FIELDS.store!, 200))
t.test('the key-value node', t => sweep(t, network.kv, of(/^kv_/), FIELDS.store!, 120))
t.test('the chain', t =>
  sweep(
    t,
    network.rpc,
    methodsOf('cmd/zg-chain/rpc', /\b(eth|net|web3|txpool|debug|rpc|evm|anvil|hardhat)_\w+/g),
    FIELDS.chain!,
    120
  )
)
t.test('all of them answer as before', async t => {
  const asked = [
    [network.nodes[0]!, 'zgs_getStatus'],
    [network.indexer, 'indexer_getShardedNodes'],
    [network.kv, 'kv_getStatus'],
    [network.rpc, 'eth_chainId']
  ] as const
  for (const [url, method] of asked) {
    const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method, params: [] })
    const res = await fetch(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body })
    t.match(await res.json(), { result: /./ }, method)
  }
})
