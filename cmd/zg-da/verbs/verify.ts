/**
 * `zg-da verify`: is it certified, and is it there? Random lines are asked of their owners and checked against the certificate.
 * If fewer than k code rows could be had, fewer than a third of the lines would answer (da-design.md 8); so the number of good
 * answers bounds the probability of being fooled, silent signers included.
 */
import { messageOf } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import { shortHash } from '../../../lib/base/units.ts'
import type { VerbFn } from '../../../lib/cli/types.ts'
import { SignerPool } from '../../../lib/clients/da/signer.ts'
import { decodeRecords } from '../../../lib/codec/da/records.ts'
import { PLACES } from '../../../lib/codec/da/types.ts'
import { verifyLines } from '../../../lib/codec/da/verify.ts'
import { type Located, locate, type RetrievalOptions, type Source } from '../retriever/rebuild.ts'
import { findCertificate, openChain, parseRoot } from './common.ts'

/** What is accepted as shown. */
const ERROR_MAX = 1e-6
const ASK_MS = 10_000

export const verify: VerbFn = async (ctx, args, opts) => {
  const root = parseRoot(args[0]!)
  const chain = await openChain(ctx, opts)
  const id = await findCertificate(chain, root, opts)
  const pool = new SignerPool()
  try {
    const o: RetrievalOptions = { chain, pool, logger: ctx.log('verify'), signal: ctx.signal }
    const standing = await chain.signersOf(id)
    const samples = opts.samples as number
    let good = 0
    let problem: string | undefined
    try {
      const located = await locate(id, o)
      const bar = ctx.progress('sample', { total: samples, unit: 'items' })
      for (const [source, places] of draw(located, samples)) {
        good += await ask(located, source, places, o).catch(err => {
          problem ??= messageOf(err)
          return 0
        })
        bar.update(good)
      }
      bar.done(`${good} of ${samples} lines`)
    } catch (err) {
      if (ctx.signal.aborted) throw err
      problem = messageOf(err)
    }
    const fooled = tail(samples, good)
    const available = fooled <= ERROR_MAX
    if (problem !== undefined) ctx.warn(`${ctx.tool}: ${problem}`)
    ctx.print(
      {
        type: 'blob_check',
        dataRoot: toHex(root),
        epoch: id.epoch,
        quorum_id: id.quorumId,
        certified: true,
        blockNumber: id.blockNumber,
        ...standing,
        samples,
        good,
        error_probability: fooled,
        available
      },
      `${ctx.tty ? shortHash(toHex(root)) : toHex(root)} certified in block ${id.blockNumber} by ${standing.signed} of ${standing.signers} signers, ${good} of ${samples} lines ${available ? 'good: available' : 'good: not shown to be available'}`
    )
    return available ? 0 : 1
  } finally {
    pool.close()
  }
}

/** Different random places, by owner. */
function draw(located: Located, samples: number): Map<Source, number[]> {
  const chosen = new Set<number>()
  const random = new Uint32Array(1)
  while (chosen.size < samples) {
    crypto.getRandomValues(random)
    // 2³² is a multiple of 1 024, not of 3 072: the rest is too small to matter here, and dropped all the same.
    if (random[0]! < Math.floor(2 ** 32 / PLACES) * PLACES) chosen.add(random[0]! % PLACES)
  }
  const owners = new Map<Source, number[]>()
  for (const source of located.sources) {
    const mine = source.places.filter(p => chosen.has(p))
    if (mine.length > 0) owners.set(source, mine)
  }
  return owners
}

/** Lines of one signer that pass; throws when it does not answer, or one is false. */
async function ask(located: Located, source: Source, places: number[], o: RetrievalOptions): Promise<number> {
  const answer = await o.pool.at(source.socket).retrieve(located.id, places, { timeoutMs: ASK_MS, signal: o.signal })
  const lines = decodeRecords(answer?.encoded_slice ?? [], located.blob.header)
  await verifyLines(located.blob.header, located.blob, lines, { places, reading: true })
  return places.length
}

/** Probability of at least `good` successes in `n` tries of 1/3 each. */
function tail(n: number, good: number): number {
  let sum = 0
  let term = (2 / 3) ** n
  for (let i = 0; i <= n; i++) {
    if (i >= good) sum += term
    term *= (n - i) / (i + 1) / 2
  }
  return Math.min(1, sum)
}
