/**
 * Proves that what strangers type and send is read exactly or refused: hex, quantities, amounts, sizes, durations. Amounts and
 * hex round-trip for random values (fast-check prints its seed on failure).
 */
import fc from 'fast-check'
import t from 'tap'
import {
  bigToBytes,
  bytesToBig,
  compareBytes,
  concat,
  equalBytes,
  padLeft,
  readU64be,
  u64be
} from '../../lib/base/bytes.ts'
import { systemCode, ZgError } from '../../lib/base/errors.ts'
import { fromHex, fromQuantity, hashFromHex, toHex, toQuantity } from '../../lib/base/hex.ts'
import {
  formatAmount,
  formatCount,
  formatDuration,
  formatSize,
  parseAmount,
  parseDuration,
  parseSize,
  shortHash
} from '../../lib/base/units.ts'

const refused = (code: string) => (err: unknown) => err instanceof ZgError && err.code === code

function throwsCode(
  test: { ok(v: unknown, m: string): unknown; fail(m: string): unknown },
  fn: () => unknown,
  code: string,
  name: string
): void {
  try {
    fn()
  } catch (err) {
    test.ok(refused(code)(err), `${name}: ${(err as Error).message}`)
    return
  }
  test.fail(`${name}: nothing was thrown`)
}

t.test('hex round-trips and refuses what is not exactly hex', async t => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 80 }), b => equalBytes(fromHex(toHex(b)), b)))
  t.strictSame(fromHex('0xAbCd'), new Uint8Array([0xab, 0xcd]))
  for (const bad of ['abcd', '0xabc', '0xzz', '0x 1', 12, null, undefined, {}])
    throwsCode(t, () => fromHex(bad), 'ERR_BAD_INPUT', `hex ${String(bad)}`)
  t.equal(hashFromHex('11'.repeat(32)).length, 32, 'a root may come without 0x')
  throwsCode(t, () => hashFromHex(`0x${'11'.repeat(31)}`), 'ERR_BAD_INPUT', 'a short hash')
})

t.test('quantities have no leading zeros out and at most 32 bytes in', async t => {
  t.equal(toQuantity(0), '0x0')
  t.equal(toQuantity(255n), '0xff')
  fc.assert(fc.property(fc.bigInt({ min: 0n, max: 2n ** 256n - 1n }), n => fromQuantity(toQuantity(n)) === n))
  for (const bad of ['0x', '1', `0x${'f'.repeat(65)}`, '0xg', 1])
    throwsCode(t, () => fromQuantity(bad), 'ERR_BAD_INPUT', `quantity ${bad}`)
})

t.test('bytes and integers convert both ways within their size', async t => {
  fc.assert(fc.property(fc.bigInt({ min: 0n, max: 2n ** 256n - 1n }), n => bytesToBig(bigToBytes(n, 32)) === n))
  fc.assert(fc.property(fc.nat(), n => readU64be(u64be(n)) === n))
  t.throws(() => bigToBytes(256n, 1), RangeError)
  t.throws(() => bigToBytes(-1n, 8), RangeError)
  t.throws(() => padLeft(new Uint8Array(3), 2), RangeError)
  throwsCode(t, () => readU64be(new Uint8Array(8).fill(255)), 'ERR_CORRUPT', 'an integer above 2^53')
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 5 }),
      fc.uint8Array({ maxLength: 5 }),
      (a, b) => Math.sign(compareBytes(a, b)) === Math.sign(Buffer.compare(a, b))
    )
  )
  t.strictSame(concat(new Uint8Array([1]), new Uint8Array(), new Uint8Array([2, 3])), new Uint8Array([1, 2, 3]))
})

t.test('amounts are read in every unit and printed in 0G', async t => {
  const e18 = 10n ** 18n
  t.equal(parseAmount('1.5'), (3n * e18) / 2n)
  t.equal(parseAmount('1.5 0G'), (3n * e18) / 2n)
  t.equal(parseAmount('10 gneuron'), 10n * 10n ** 9n)
  t.equal(parseAmount('5 neuron'), 5n)
  t.equal(formatAmount(99999999480000n * 10n ** 6n), '99.99999948')
  t.equal(formatAmount(9_999_881_700_000_000_000_000n, 4), '9999.8817')
  t.equal(formatAmount(-5n), '-0.000000000000000005')
  fc.assert(fc.property(fc.bigInt({ min: 0n, max: 2n ** 128n }), n => parseAmount(formatAmount(n)) === n))
  for (const bad of ['', '-1', '1e3', '1.0000000000000000001', '0.5 neuron', '1 btc', '0x10', '1,5'])
    throwsCode(t, () => parseAmount(bad), 'ERR_USAGE', `amount '${bad}'`)
})

t.test('sizes and durations take units and refuse nonsense', async t => {
  t.equal(parseSize('64KiB'), 65_536)
  t.equal(parseSize('2G'), 2 * 1024 ** 3)
  t.equal(parseSize('7'), 7)
  t.equal(parseDuration('500ms'), 500)
  t.equal(parseDuration('2'), 2000)
  t.equal(parseDuration('1.5s'), 1500)
  for (const bad of ['', 'x', '-1', '1y']) {
    throwsCode(t, () => parseSize(bad), 'ERR_USAGE', `size '${bad}'`)
    throwsCode(t, () => parseDuration(bad), 'ERR_USAGE', `duration '${bad}'`)
  }
  t.equal(formatSize(4_299_161), '4.1 MiB')
  t.equal(formatSize(12), '12 B')
  t.equal(formatCount(1_234_567), '1,234,567')
  t.equal(formatDuration(3100), '3.1 s')
  t.equal(formatDuration(602_000), '10m 2s')
  t.equal(shortHash('0x5a3f000000000000000091c2'), '0x5a3f…91c2')
})

t.test('the system code is found behind wrapping errors', async t => {
  const inner = Object.assign(new Error('connect'), { code: 'ECONNREFUSED' })
  t.equal(
    systemCode(new ZgError('ERR_UNAVAILABLE', 'x', { cause: new Error('fetch failed', { cause: inner }) })),
    'ECONNREFUSED'
  )
  t.equal(systemCode(new AggregateError([inner])), 'ECONNREFUSED')
  t.equal(systemCode('text'), undefined)
})
