/** Proves that the loss curve of `zg-compute train` is where the numbers are: scale, direction, no holes, marks of the checks. */
import t from 'tap'
import { type Point, plot } from '../../cmd/zg-compute/train/plot.ts'

/** Columns of dots that hold a dot, and the mean row of each. */
function dots(lines: readonly string[]): Map<number, number> {
  const rows = new Map<number, number[]>()
  lines.forEach((line, row) => {
    ;[...line.slice(8)].forEach((character, column) => {
      const bits = character.codePointAt(0)! - 0x2800
      if (bits < 0 || bits > 0xff) return
      const places = [0x01, 0x02, 0x04, 0x40, 0x08, 0x10, 0x20, 0x80]
      places.forEach((bit, i) => {
        if ((bits & bit) === 0) return
        const x = column * 2 + (i >> 2)
        rows.set(x, [...(rows.get(x) ?? []), row * 4 + (i & 3)])
      })
    })
  })
  return new Map([...rows].map(([x, all]) => [x, all.reduce((sum, y) => sum + y, 0) / all.length]))
}

t.test('a falling curve falls, fills every column and carries its bounds', async t => {
  const points: Point[] = Array.from({ length: 12 }, (_, i) => ({ x: i * 10, y: 8 - i / 2 }))
  const lines = plot(points, [], 40, 8)
  t.equal(lines.length, 8)
  t.match(lines[0], /^ {3}8\.00 /)
  t.match(lines[7], /^ {3}2\.50 /)
  const found = dots(lines)
  t.equal(found.size, 80, 'no column is empty')
  for (let x = 1; x < 80; x++) t.ok(found.get(x)! >= found.get(x - 1)!, `column ${x} is not above the one before`)
})

t.test('the first steps do not flatten the rest, and checks are marked where they are', async t => {
  const points: Point[] = [{ x: 0, y: 100 }, ...Array.from({ length: 99 }, (_, i) => ({ x: i + 3, y: 2 - i / 100 }))]
  const lines = plot(points, [{ x: 101, y: 1.5 }], 30, 6)
  t.match(lines[0], /2\.00/)
  t.equal(lines.filter(line => line.includes('•')).length, 1)
  t.ok(lines.findIndex(line => line.endsWith('•')) > 0, 'at the right edge, below the top')
})

t.test('too few points, and numbers that are none, give no picture and no failure', async t => {
  t.strictSame(plot([], [], 40, 8), [])
  t.strictSame(plot([{ x: 1, y: 1 }], [], 40, 8), [])
  t.strictSame(
    plot(
      [
        { x: 1, y: Number.NaN },
        { x: 2, y: 1 }
      ],
      [],
      40,
      8
    ),
    []
  )
  t.equal(
    plot(
      [
        { x: 1, y: 1 },
        { x: 2, y: 1 }
      ],
      [],
      40,
      8
    ).length,
    8
  )
})
