/** A curve as text: each character is a braille cell of 2 × 4 dots. */

export interface Point {
  x: number
  y: number
}

const DOTS = [
  [0x01, 0x08],
  [0x02, 0x10],
  [0x04, 0x20],
  [0x40, 0x80]
]

/**
 * The points joined by lines, and the checks as marks, scaled to what came after the first steps.
 * @returns rows of text with the largest and the smallest value in front; none for less than two points.
 */
export function plot(points: readonly Point[], validation: readonly Point[], columns: number, rows: number): string[] {
  const all = [...points, ...validation].filter(p => Number.isFinite(p.y))
  if (all.length < 2) return []
  const [lowX, highX] = bounds(all.map(p => p.x))
  // The first steps would flatten everything that matters later: the scale covers what came after them.
  const settled = all.length < 50 ? all : all.filter(p => p.x >= lowX + (highX - lowX) * 0.02)
  const [low, high] = bounds(settled.map(p => p.y))
  const wide = columns * 2
  const tall = rows * 4
  const cells = new Uint8Array(columns * rows)
  const column = (x: number): number => Math.min(wide - 1, Math.floor(((x - lowX) / (highX - lowX || 1)) * (wide - 1)))
  const level = (y: number): number => {
    const part = (high - y) / (high - low || 1)
    return Math.max(0, Math.min(tall - 1, Math.round(part * (tall - 1))))
  }
  const dot = (x: number, y: number): void => {
    cells[(y >> 2) * columns + (x >> 1)]! |= DOTS[y & 3]![x & 1]!
  }
  let before: [x: number, y: number] | undefined
  for (const p of points) {
    if (!Number.isFinite(p.y)) continue
    const x = column(p.x)
    const y = level(p.y)
    const [fromX, fromY] = before ?? [x, y]
    // Every column on the way gets its part of the way down or up.
    const steps = Math.max(x - fromX, Math.abs(y - fromY), 1)
    for (let i = 0; i <= steps; i++) {
      dot(Math.round(fromX + ((x - fromX) * i) / steps), Math.round(fromY + ((y - fromY) * i) / steps))
    }
    before = [x, y]
  }
  const marks = new Map(validation.map(p => [(level(p.y) >> 2) * columns + (column(p.x) >> 1), '•']))
  return Array.from({ length: rows }, (_, row) => {
    const label = row === 0 ? high.toFixed(2) : row === rows - 1 ? low.toFixed(2) : ''
    let line = ''
    for (let i = row * columns; i < (row + 1) * columns; i++) {
      line += marks.get(i) ?? String.fromCharCode(0x2800 + cells[i]!)
    }
    return `${label.padStart(7)} ${line}`
  })
}

function bounds(values: readonly number[]): [number, number] {
  let low = Number.POSITIVE_INFINITY
  let high = Number.NEGATIVE_INFINITY
  for (const v of values) {
    low = Math.min(low, v)
    high = Math.max(high, v)
  }
  return [low, high]
}
