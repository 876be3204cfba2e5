/**
 * The RLP codec: what it writes it reads back, the published examples come out byte for byte, and everything an encoder would not have
 * written is refused: long forms of short things, leading zeros, bytes behind the item, input that ends early, endless nesting.
 */
import t from 'tap'
import { decodeRlp, encodeRlp, type RlpInput, rlpNumber } from '../../lib/codec/rlp.ts'

const hex = (b: Uint8Array): string => Buffer.from(b).toString('hex')
const utf8 = (s: string): Uint8Array => new TextEncoder().encode(s)

t.test('items are written in their only form', async t => {
  const cases: [RlpInput, string][] = [
    [utf8('dog'), '83646f67'],
    [[utf8('cat'), utf8('dog')], 'c88363617483646f67'],
    [null, '80'],
    [[], 'c0'],
    [0, '80'],
    [0n, '80'],
    [15, '0f'],
    [127n, '7f'],
    [128, '8180'],
    [1024, '820400'],
    [1n << 255n, `a080${'00'.repeat(31)}`],
    [[[], [[]], [[], [[]]]], 'c7c0c1c0c3c0c1c0'],
    [new Uint8Array(56), `b838${'00'.repeat(56)}`],
    [new Uint8Array(1024), `b90400${'00'.repeat(1024)}`],
    [Array.from({ length: 56 }, () => 1), `f838${'01'.repeat(56)}`]
  ]
  for (const [item, want] of cases) {
    const bytes = encodeRlp(item)
    t.equal(hex(bytes), want)
    t.equal(hex(encodeRlp(decodeRlp(bytes))), want, 'and read back')
  }
  for (const x of [0n, 1n, 255n, 256n, 2n ** 48n - 1n, 2n ** 53n + 1n, 2n ** 256n - 1n])
    t.equal(rlpNumber(decodeRlp(encodeRlp(x))), x)
  t.throws(() => encodeRlp(-1n), { code: 'ERR_BAD_INPUT' })
  t.throws(() => encodeRlp(1.5), { code: 'ERR_BAD_INPUT' })
})

t.test('what no encoder writes is refused', async t => {
  const bad: Record<string, string> = {
    nothing: '',
    'one byte in the long form': '8105',
    'a short string with a length of its own': 'b801ff',
    'a length with a leading zero': `b90038${'00'.repeat(56)}`,
    'a string that ends early': '83646f',
    'a list that ends early': 'c883636174',
    'an item that leaves its list': 'c283646f67',
    'a byte behind the item': '83646f6700',
    'a length beyond everything': 'bfffffffffffffffff',
    'a list as long as memory': 'ffffffffffffffffff'
  }
  for (const [name, bytes] of Object.entries(bad))
    t.throws(() => decodeRlp(Buffer.from(bytes, 'hex')), { code: 'ERR_BAD_INPUT' }, name)
  // Each head holds the rest: written by hand, since the codec would have to go as deep.
  let deep = Buffer.from([0xc0])
  for (let i = 0; i < 1000; i++) {
    const size = Buffer.from([deep.length >> 8, deep.length & 255])
    const head = deep.length <= 55 ? [0xc0 + deep.length] : deep.length < 256 ? [0xf8, size[1]!] : [0xf9, ...size]
    deep = Buffer.concat([Buffer.from(head), deep])
  }
  t.throws(() => decodeRlp(deep), { code: 'ERR_BAD_INPUT', message: /nested/ }, 'lists a thousand deep')
  t.throws(() => rlpNumber(Uint8Array.of(0, 1)), { code: 'ERR_BAD_INPUT' }, 'a number with a leading zero')
})
