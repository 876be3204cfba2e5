/**
 * Proves that native base64 writes what Node writes and reads nothing but that: every length around the vectors on every path, every
 * byte value in every place of a vector, and the texts that loose decoders take.
 */
import { existsSync } from 'node:fs'
import t from 'tap'
import { codec, nativePath, reference } from '../../lib/native.ts'
import { SEED } from '../harness/seed.ts'

const seed = SEED
const skip = existsSync(nativePath('codec')) ? false : 'no native build here'
let state = seed >>> 0
const random = (size: number): Uint8Array =>
  Uint8Array.from({ length: size }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state >>> 24
  })
const ascii = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, 'latin1'))
const same = (a: Uint8Array | undefined, b: Uint8Array): boolean => a !== undefined && Buffer.compare(a, b) === 0

t.test('every length is written as Node does, and read back', { skip }, async t => {
  for (const cpu of codec().paths) {
    for (let n = 0; n <= 300; n++) {
      const data = random(n + 3).subarray(3)
      const text = ascii(Buffer.from(data).toString('base64'))
      if (!same(codec().base64Encode(data, cpu), text)) t.fail(`${cpu}: encode ${n}`)
      // Within a body: characters before and behind it are not looked at.
      const body = new Uint8Array(text.length + 9).fill(34)
      body.set(text, 5)
      if (!same(codec().base64Decode(body, 5, 5 + text.length, cpu), data)) t.fail(`${cpu}: decode ${n}`)
    }
    const segment = random(262_144)
    const text = codec().base64Encode(segment, cpu)
    t.equal(text.length, 349_528, cpu)
    t.ok(same(codec().base64Decode(text, 0, text.length, cpu), segment), cpu)
  }
})

t.test('one foreign byte anywhere is refused', { skip }, async t => {
  const text = ascii(Buffer.from(random(96)).toString('base64'))
  const alphabet = /[A-Za-z0-9+/]/
  for (const cpu of codec().paths) {
    let accepted = 0
    for (let at = 0; at < text.length; at++) {
      for (let b = 0; b < 256; b++) {
        const bent = text.slice()
        bent[at] = b
        const taken = codec().base64Decode(bent, 0, bent.length, cpu) !== undefined
        if (taken) accepted++
        const good = alphabet.test(String.fromCharCode(b))
        // At the very end padding may stand if no bits are lost by it.
        if (taken !== good && !(b === 61 && at === text.length - 1)) t.fail(`${cpu}: byte ${b} at ${at}`)
      }
    }
    t.ok(accepted >= 64 * text.length && accepted <= 64 * text.length + 1, `${cpu}: ${accepted} of them are base64`)
  }
})

t.test('what loose decoders take is refused, natively and by the reference', async t => {
  const bad = [
    'Q',
    'QQ',
    'QQQ',
    'QQ=',
    'Q===',
    '====',
    'QR==',
    'QUF=',
    'QQ==QQ==',
    'QUFB\n',
    'QU-B',
    'QU_B',
    ' QUF',
    'QQ==\0\0\0\0',
    'QUFBQ'
  ]
  for (const c of skip === false ? [codec(), reference()] : [reference()]) {
    for (const text of bad) t.equal(c.base64Decode(ascii(text)), undefined, `${c.path}: ${JSON.stringify(text)}`)
    t.same(c.base64Decode(ascii('')), new Uint8Array(0))
    t.same(c.base64Decode(ascii('QQ==')), Uint8Array.of(65))
    t.same(c.base64Decode(ascii('QUE=')), Uint8Array.of(65, 65))
    t.same(c.base64Encode(Uint8Array.of(251, 255)), ascii('+/8='))
    t.throws(() => c.base64Decode(ascii('QQ=='), 0, 5), { code: 'ERR_BAD_INPUT' })
    t.throws(() => c.base64Decode(ascii('QQ=='), 3, 2), { code: 'ERR_BAD_INPUT' })
  }
})
