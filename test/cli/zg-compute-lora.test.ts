/**
 * Proves LoRA adapters through the server as users of llama-server and vLLM meet them: some apply to every request, some are models of
 * their own, a request may choose by a list; wrong choices get one clear answer and the server goes on.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { entry, floatsOf, parseGguf, type RawTensor, writeGguf } from '../harness/gguf.ts'
import { packageRoot, runTool, sandbox, startTool } from '../harness/tools.ts'

const FIXTURES = ['..', '../..'].map(up => join(packageRoot, up, 'shared', 'fixtures', 'models')).find(existsSync)
const skip = FIXTURES === undefined && 'no model fixtures beside the repository'
const box = sandbox('lora')
t.teardown(() => box.remove())

const MODEL = skip === false ? join(FIXTURES!, 'stories260K-Q8_0.gguf') : ''

let state = 12345
function random(): number {
  state = (Math.imul(state, 1664525) + 1013904223) | 0
  return (state >>> 0) / 2 ** 32 - 0.5
}

function makeAdapter(file: string, size: number): string {
  const tensors: RawTensor[] = []
  for (const { name, dims } of parseGguf(readFileSync(MODEL)).tensors) {
    if (!/ffn_up|attn_v/.test(name)) continue
    const [columns, rows] = dims as [number, number]
    const one = (d: number[], scale: number) => ({
      dims: d,
      type: 0,
      data: floatsOf(Array.from({ length: d[0]! * d[1]! }, () => random() * scale))
    })
    tensors.push(
      { name: `${name}.lora_a`, ...one([columns, 4], 1) },
      { name: `${name}.lora_b`, ...one([4, rows], size) }
    )
  }
  const path = box.path(file)
  const head = { 'general.architecture': 'llama', 'general.type': 'adapter', 'adapter.type': 'lora' }
  const entries = Object.entries(head).map(([key, value]) => entry(key, 'text', value))
  writeFileSync(path, writeGguf({ entries: [...entries, entry('adapter.lora.alpha', 'f32', 4)], tensors }))
  return path
}

t.test('adapters are served as llama-server and vLLM serve them', { skip }, async t => {
  const [one, two] = [makeAdapter('one.gguf', 1), makeAdapter('two.gguf', 1.5)]
  const server = await startTool(
    'zg-compute',
    ['serve', '--port', '0', '--model', MODEL, '--lora', `${one}=0.5`, '--lora-modules', `pirate=${two}`],
    { env: box.env }
  )
  t.teardown(() => server.stop())
  const get = async (path: string): Promise<Record<string, unknown>> =>
    (await fetch(`${server.url}${path}`)).json() as Promise<Record<string, unknown>>
  const models = (await get('/v1/models')) as { data: { id: string; parent?: string }[] }
  t.strictSame(
    models.data.map(m => [m.id, m.parent]),
    [
      ['stories260K', undefined],
      ['one', 'stories260K'],
      ['pirate', 'stories260K']
    ]
  )
  t.equal((await get('/v1/models/pirate')).id, 'pirate')
  t.match(await get('/lora-adapters'), [
    { id: 0, name: 'one', scale: 0.5 },
    { id: 1, name: 'pirate', scale: 0 }
  ])
  const ask = async (body: Record<string, unknown>) => {
    const r = await fetch(`${server.url}/v1/completions`, {
      method: 'POST',
      body: JSON.stringify({ prompt: 'Once upon a time', max_tokens: 24, temperature: 0, ...body })
    })
    const json = (await r.json()) as { choices?: { text: string }[]; error?: { message: string; param: string } }
    return { status: r.status, text: json.choices?.[0]?.text, error: json.error }
  }
  const plain = await ask({})
  const none = await ask({ lora: [] })
  const pirate = await ask({ model: 'pirate' })
  t.equal(plain.status, 200)
  t.equal(new Set([plain.text, none.text, pirate.text]).size, 3, 'three different answers')
  t.equal((await ask({ lora: [{ id: 0, scale: 0.5 }] })).text, plain.text, 'what is on by itself, asked for by its id')
  t.equal((await ask({ lora: [{ id: 1, scale: 1 }] })).text, pirate.text, 'and the other one')
  t.equal((await ask({ model: 'stories260K', lora: [{ id: 1, scale: 0 }] })).text, none.text)
  const both = [
    { id: 0, scale: 1 },
    { id: 1, scale: 1 }
  ]
  t.equal((await ask({ lora: both })).text, (await ask({ lora: [...both].reverse() })).text, 'in any order')
  for (const [lora, words] of [
    ['pirate', /not a list/],
    [[{ id: 2, scale: 1 }], /names id 2, ids are 0 to 1/],
    [[{ id: 0, scale: '1' }], /scale that is not from -100 to 100/],
    [
      [
        { id: 0, scale: 1 },
        { id: 0, scale: 2 }
      ],
      /names an id twice/
    ],
    [Array(9).fill({ id: 0, scale: 1 }), /more than 8 entries/],
    [[7], /no \{"id", "scale"\}/]
  ] as const) {
    const r = await ask({ lora })
    t.match(r, { status: 400, error: { param: 'lora', message: words } })
  }
  t.match(await ask({ model: 'pirate', lora: [] }), { status: 400, error: { message: /for the base model/ } })
  t.match(await ask({ model: 'nobody' }), { status: 404 })
  t.equal((await ask({})).text, plain.text, 'the server goes on')
})

t.test('an adapter that does not fit ends the server with its reason', { skip }, async t => {
  const r = await runTool('zg-compute', ['serve', '--port', '0', '--model', MODEL, '--lora', MODEL], { env: box.env })
  t.equal(r.code, 65)
  t.match(r.stderr, /cannot be used: metadata 'general.type' is '.*', not 'adapter'/)
  const none = await runTool('zg-compute', ['serve', '--model', MODEL, '--lora-modules', 'x'], { env: box.env })
  t.match([none.code, none.stderr], [64, /'x' is not NAME=FILE/])
})
