/**
 * What does the fast mode cost on one core? Processor time of each stage of da-design.md 13 for the largest blob, least of five.
 *
 *   node --import tsx bench/da.ts
 */
import { randomFillSync } from 'node:crypto'
import { encodeBlob } from '../lib/codec/da/blob.ts'
import { openZ } from '../lib/codec/da/open.ts'
import { decodeMatrix, strictCheck } from '../lib/codec/da/retrieve.ts'
import { verifyLines } from '../lib/codec/da/verify.ts'
import { codec } from '../lib/native.ts'

const LEN = 32_505_852
const data = randomFillSync(new Uint8Array(LEN))
const da = codec().da
if (da === undefined) throw new Error("bench: no native codec, run 'npm run build:native'")

async function stage<T>(name: string, sizeBytes: number, work: () => Promise<T>): Promise<T> {
  let least = Number.POSITIVE_INFINITY
  let result: T | undefined
  for (let i = 0; i < 5; i++) {
    const before = process.cpuUsage()
    result = await work()
    const used = process.cpuUsage(before)
    least = Math.min(least, (used.user + used.system) / 1000)
  }
  process.stdout.write(
    `${name.padEnd(34)} ${least.toFixed(1).padStart(8)} ms ${(sizeBytes / least / 1e6).toFixed(2).padStart(7)} GB/s\n`
  )
  return result!
}

process.stdout.write(`${codec().cpu}, code paths ${da.paths.join(' ')}\n`)
const blob = await stage('encode', LEN, () => encodeBlob(data))
const { header, z } = blob
const rows = Array.from({ length: 1024 }, (_, c) => blob.row(c))
await stage('  row roots, a third', LEN, () => da.rowRoots(header.tag, rows))
await stage('  sums', LEN, () => da.rowSums(header.p, rows))
const parity = new Map(Array.from({ length: 1024 }, (_, i) => [1024 + 2 * i, blob.row(1024 + 2 * i)]))
const matrix = await stage('decode from parity', LEN, () => decodeMatrix(header, parity))
await stage('strict check', LEN, () => strictCheck(header, matrix))
const quarter = Array.from({ length: 768 }, (_, i) => 4 * i)
const roots = blob.records(quarter, 'roots')
const shared = new Set(quarter.map(p => blob.codeRow(p))).size * header.w
await stage('verify 768 lines, roots', shared, () => verifyLines(header, z, roots, { rowRoots: blob.rowRoots }))
const few = blob.records(quarter.slice(0, 31), 'paths')
await stage('verify 31 lines, paths', 31 * header.w, () => verifyLines(header, z, few))
await stage('  of these opening z', 31 * header.w, async () => openZ(header, z))
for (const path of da.paths)
  await stage(`encode, code on ${path}`, LEN, () => encodeBlob(data, { kernels: da.with(path) }))
