/**
 * Proves that a coding group bears a power loss at every disk operation of its members: while a file becomes final, while shards are made
 * again (by a wiped member, by the others for a lost one, after rot, after wrong parity, under another code), while surplus shards are
 * dropped and while a file is deleted. After each crash and restart what was promised is there, no read gives a wrong byte, a file that
 * was final never needs its client again, a deleted one never comes back, and the work goes on by itself to the same end.
 * By default some members are victims at every second operation, and their disks come back in one of four ways in turn;
 * `npm run test:store-crash` takes all of them. Seeds are printed.
 */
import t from 'tap'
import type { GroupCodec } from '../../cmd/zg-store/group/ports.ts'
import { toHex } from '../../lib/base/hex.ts'
import { signTombstone } from '../../lib/codec/storage/members.ts'
import { CRASH_MODES } from '../../lib/sim/disk.ts'
import { SEED } from '../harness/seed.ts'
import { content, SimGroup, syncCodec } from '../harness/store-group.ts'

const ALL = process.env.CRASH_MODES === 'all'
t.setTimeout(ALL ? 3_000_000 : 280_000)

/** Three full stripes, so many that holders fetch their shards; one; a short one that is coded. */
const SEVERAL = 3 * 1_048_576
const LARGE = 1_048_576
const SMALL = 20_000

/** What a member has said before the power went. */
interface Told {
  /** Segments the entry node has answered for, by file. */
  readonly acked: Map<number, Set<number>>
  /** Files the victim called final. */
  readonly final: Set<number>
  /** A deletion was acknowledged. */
  gone: boolean
}

interface Play {
  /** Instead of the suite's. */
  seed?: number
  readonly members: number
  readonly codecs?: Map<number, GroupCodec>
  /** Puts files and makes the damage. @returns the files that are promised already. */
  before(g: SimGroup): Promise<number[]>
  /** Begins what is interrupted; does not wait for its end. */
  begin(g: SimGroup, told: Told): Promise<void>
  /** True when it has come to its end. */
  over(g: SimGroup): Promise<boolean>
  /** What a client does after the crash for what nobody promised. */
  again?(g: SimGroup, told: Told): Promise<void>
  /** Files that are deleted in the end. */
  readonly deletes?: readonly number[]
  /** How long it may take, in virtual ms. */
  readonly withinMs?: number
}

type T = Pick<typeof t, 'ok' | 'fail' | 'comment'>
const WITHIN_MS = 100_000
/** By default every second operation is interrupted, which ones depends on the seed. */
const FIRST = 1 + (Number(SEED) % 2)

/** Lets time pass until something holds, looked at twice a second; false when it never does. */
async function until(g: SimGroup, holds: () => Promise<boolean>, withinMs = WITHIN_MS): Promise<boolean> {
  for (const end = g.clock.monotonic() + withinMs; g.clock.monotonic() < end; await g.run(500)) {
    if (await holds()) return true
  }
  return false
}

/** Starts a member on its disk, and once more when the power goes while it starts. */
async function restart(g: SimGroup, i: number): Promise<void> {
  try {
    await g.up(i)
  } catch (err) {
    if (!g.members[i]!.disk.crashed) throw err
  }
}

/** Cuts the power of each victim at each of its operations, and looks at what is left. */
async function everywhere(t: T, name: string, play: Play, victims: readonly number[]): Promise<void> {
  const codecs = play.codecs === undefined ? {} : { codecs: play.codecs }
  const fresh = async () => {
    const g = await SimGroup.start(play.members, `${play.seed ?? SEED}/${name}`, codecs)
    const told: Told = { acked: new Map(), final: new Set(), gone: false }
    return { g, told, files: await play.before(g) }
  }
  const whole = await fresh()
  const opsBefore = whole.g.members.map(m => m.disk.ops)
  await play.begin(whole.g, whole.told)
  t.ok(await until(whole.g, () => play.over(whole.g)), 'comes to its end without a crash')
  const total = whole.g.members.map((m, i) => m.disk.ops - opsBefore[i]!)
  await whole.g.close()

  let runs = 0
  let failures = 0
  const failing: T = {
    ok: t.ok,
    comment: t.comment,
    fail: (...args) => {
      failures++
      return t.fail(...args)
    }
  }
  for (const victim of victims) {
    for (let p = ALL ? 1 : FIRST; p <= total[victim]! && failures < 3; p += ALL ? 1 : 2) {
      for (const mode of ALL ? CRASH_MODES : [CRASH_MODES[(p >> 1) % 4]!]) {
        const { g, told, files } = await fresh()
        const m = g.members[victim]!
        const { disk } = m
        disk.crashAt(disk.ops + p)
        await play.begin(g, told).catch(err => {
          if (!disk.crashed) throw err
        })
        await until(g, async () => disk.crashed || (await play.over(g)), play.withinMs)
        const at = `${name}, member ${victim}, operation ${p} of ${total[victim]} (${disk.trace.at(-1)}), ${mode}`
        for (const seq of g.chain.keys()) {
          if (m.up && (await m.flow.tx(seq))?.status === 'final') told.final.add(seq)
        }
        m.up = true
        await g.kill(victim, mode)
        await restart(g, victim)
        await rightAfter(failing, play, g, told, files, victim, at)
        await play.again?.(g, told)
        await g.run(1_000)
        if (!(await until(g, () => play.over(g), play.withinMs))) failing.fail(`${at}: does not come to its end`)
        await inTheEnd(failing, play, g, victim, at)
        runs++
        await g.close()
      }
    }
  }
  t.ok(runs > 3)
  t.comment(`operations by member ${total}, ${runs} crashes of ${victims}`)
}

/** What was promised is there at once; nothing is ever wrong. */
async function rightAfter(t: T, play: Play, g: SimGroup, told: Told, files: number[], victim: number, at: string) {
  const m = g.members[victim]!
  const other = g.members.find(x => x.up && x.index !== victim)!
  for (const seq of g.chain.keys()) {
    const deleted = play.deletes?.includes(seq) === true
    for (const x of [m, other]) {
      x.group.dropCaches()
      const found = await g.read(x.index, seq)
      if (found === 'wrong') t.fail(`${at}: wrong bytes of file ${seq} through ${x.index}`)
      if (deleted && told.gone && x === m && found !== 'none') t.fail(`${at}: file ${seq} was deleted and is there`)
      if (deleted) continue
      const promised = x === m ? told.final.has(seq) : files.includes(seq)
      if (promised && found !== 'same') t.fail(`${at}: file ${seq} through ${x.index} right after: ${found}`)
    }
    if (!deleted && told.final.has(seq) && !(await g.isFinal(victim, seq))) {
      t.fail(`${at}: file ${seq} was called final and is not any more`)
    }
  }
}

/** Every file is there through every member, and through the victim with as many others dead as the code bears. */
async function inTheEnd(t: T, play: Play, g: SimGroup, victim: number, at: string): Promise<void> {
  const read = async (through: readonly number[], when: string): Promise<void> => {
    for (const i of through) g.members[i]!.group.dropCaches()
    for (const seq of g.chain.keys()) {
      const deleted = play.deletes?.includes(seq) === true
      for (const i of through) {
        const found = await g.read(i, seq)
        if (found !== (deleted ? 'none' : 'same')) t.fail(`${at}: file ${seq} through ${i}${when}: ${found}`)
        if (deleted && (await g.isFinal(i, seq))) t.fail(`${at}: file ${seq} came back at ${i}`)
      }
    }
  }
  const up = g.members.filter(x => x.up).map(x => x.index)
  await read(up, '')
  const dead = up.filter(i => i !== victim).slice(0, 2)
  for (const i of dead) g.members[i]!.up = false
  await read([victim], ` with ${dead} dead`)
  for (const i of dead) g.members[i]!.up = true
}

/** A file that is on the chain and nowhere else. */
async function submitted(g: SimGroup, bytes: Uint8Array): Promise<number[]> {
  await g.submit(bytes)
  await g.run(100)
  return []
}

/** Uploads through a member without waiting for it; what it answers is noted. */
async function send(g: SimGroup, at: number, seq: number, told: Told): Promise<void> {
  const file = g.chain[seq]!
  const acked = new Set<number>()
  told.acked.set(seq, acked)
  const { store, flow } = g.members[at]!
  const tx = await flow.tx(seq)
  for (const s of file.segments) {
    void store.store({ ...s, proof: { ...s.proof } }, tx).then(
      () => acked.add(s.index),
      () => {}
    )
  }
}

/** A client sends again what was not answered. */
async function sendRest(g: SimGroup, at: number, seq: number, told: Told): Promise<void> {
  const acked = told.acked.get(seq)
  await g
    .upload(at, g.chain[seq]!, seq, i => acked?.has(i) !== true)
    .catch(err => {
      if (!/final/.test(String((err as { data?: string }).data))) throw err
    })
}

/** Final and whole as every live member sees it. */
async function soundEverywhere(g: SimGroup, seqs: readonly number[]): Promise<boolean> {
  for (const x of g.members) {
    if (!x.up) continue
    for (const seq of seqs) if (!(await g.isFinal(x.index, seq))) return false
    if (!(await g.sound(seqs, x.index))) return false
  }
  return true
}

/** Shards that live members know to have, together. */
async function shards(g: SimGroup): Promise<number> {
  return (await g.shares()).reduce((a, b) => a + b)
}

/** A large and a small file: two stripes, whole. */
async function twoFiles(g: SimGroup): Promise<number[]> {
  const seqs = [(await g.put(0, content('crash', LARGE))).seq, (await g.put(1, content('crash small', SMALL))).seq]
  if (!(await until(g, () => soundEverywhere(g, seqs)))) throw new Error('the files did not become whole')
  return seqs
}

for (const [who, victim, size] of [
  ['the entry node', 0, LARGE],
  ['a holder', 3, LARGE],
  ['the entry node, shards fetched', 0, SEVERAL],
  ['a holder that fetches its shards', 3, SEVERAL]
] as const) {
  t.test(`finalize: power loss of ${who}`, async t => {
    await everywhere(
      t,
      size === LARGE ? 'finalize' : 'finalize several',
      {
        members: 6,
        before: g => submitted(g, content('crash', size)),
        begin: (g, told) => send(g, 0, 0, told),
        over: async g =>
          (await soundEverywhere(g, [0])) &&
          (await shards(g)) === 6 * (size / LARGE) &&
          g.members.every(m => m.group.stagedFiles === 0),
        again: (g, told) => sendRest(g, 0, 0, told)
      },
      [victim]
    )
  })
}

t.test('repair: power loss of a wiped member that makes its shards again', async t => {
  await everywhere(
    t,
    'wiped',
    {
      members: 6,
      before: async g => {
        const seqs = await twoFiles(g)
        await g.kill(2)
        g.wipe(2)
        return seqs
      },
      begin: g => g.up(2),
      over: async g => (await soundEverywhere(g, [0, 1])) && (await shards(g)) === 12
    },
    [2]
  )
})

t.test('repair: power loss of those who make the shards of a lost member', async t => {
  await everywhere(
    t,
    'lost',
    {
      members: 7,
      before: twoFiles,
      begin: g => g.kill(3),
      over: async g => {
        const lost = g.members.every(m => !m.up || m.group.membership.losses().lost.length === 1)
        return lost && (await soundEverywhere(g, [0, 1]))
      }
    },
    ALL ? [0, 1, 2, 4, 5, 6] : [1, 2]
  )
})

t.test('repair: power loss of the member that comes back and drops what others have now', async t => {
  await everywhere(
    t,
    'back',
    {
      members: 7,
      before: async g => {
        const seqs = await twoFiles(g)
        await g.kill(3)
        const lost = () => g.members.every(m => !m.up || m.group.membership.losses().lost.length === 1)
        if (!(await until(g, async () => lost() && (await soundEverywhere(g, seqs))))) throw new Error('lost')
        return seqs
      },
      begin: g => g.up(3),
      over: async g => (await soundEverywhere(g, [0, 1])) && (await shards(g)) === 12
    },
    [3]
  )
})

t.test('repair: power loss of a member whose shards have rotted', async t => {
  await everywhere(
    t,
    'rot',
    {
      members: 6,
      before: async g => {
        const seqs = await twoFiles(g)
        await g.kill(1, 'all')
        const { disk } = g.members[1]!
        for (const path of disk.files().filter(f => f.startsWith('/segments/'))) {
          for (let at = 400; at < disk.peek(path).length; at += 60_000) disk.flipBit(path, 8 * at + 3)
        }
        return seqs
      },
      begin: async g => {
        await g.up(1)
        void g.members[1]!.group.scrub().catch(() => {})
      },
      over: async g => {
        const { group } = g.members[1]!
        return (await soundEverywhere(g, [0, 1])) && group.pendingRepairs === 0 && group.uncheckedParity === 0
      },
      // What the crash cut off is found by the next scrub at the latest.
      again: async g => void (await g.finish(g.members[1]!.group.scrub()))
    },
    [1]
  )
})

t.test('repair: power loss while wrong parity is made again', async t => {
  const wrong: GroupCodec = {
    ...syncCodec,
    encode: async (k, m, data) => {
      const parity = await syncCodec.encode(k, m, data)
      if (data[0]!.length > 16) parity[0]![100]! ^= 1
      return parity
    }
  }
  await everywhere(
    t,
    'parity',
    {
      members: 6,
      codecs: new Map([[0, wrong]]),
      before: g => submitted(g, content('parity', SMALL)),
      begin: (g, told) => send(g, 0, 0, told),
      over: async g => {
        if (!(await soundEverywhere(g, [0]))) return false
        // The encoder may be the one that checks; then nothing was wrong in its eyes.
        const [stripe] = await g.members[1]!.group.stripes(g.chain[0]!.root)
        return stripe!.epoch > 0 || stripe!.holders[4] === toHex(g.members[0]!.key.publicKey)
      },
      again: (g, told) => sendRest(g, 0, 0, told)
    },
    ALL ? [1, 2, 3, 4, 5] : [4]
  )
})

t.test('repair: power loss while a file is coded again for the whole group', async t => {
  await everywhere(
    t,
    'recode',
    {
      members: 6,
      before: async g => {
        await g.kill(4)
        await g.kill(5)
        await g.run(5_000)
        const { seq } = await g.put(2, content('recode', SMALL))
        return [seq]
      },
      begin: async g => {
        // One whose power goes while it starts does not keep the other from starting.
        for (const i of [4, 5]) {
          await g.up(i).catch(err => {
            if (!g.members[i]!.disk.crashed) throw err
          })
        }
      },
      over: async g => {
        for (const x of g.members) {
          const stripes = await x.group.stripes(g.chain[0]!.root)
          if (stripes.length === 0 || !stripes.every(s => s.code === '4+2' && s.survivors === s.count)) return false
        }
        return (await shards(g)) === 6 && g.members.every(m => m.group.stagedFiles === 0)
      }
    },
    ALL ? [0, 1, 2, 3, 4, 5] : [2]
  )
})

t.test('prune: power loss of the member that is told to delete a file, and of one that hears of it', async t => {
  await everywhere(
    t,
    'prune',
    {
      members: 6,
      before: twoFiles,
      begin: async (g, told) => {
        const stone = signTombstone(g.chain[0]!.root, 5, 'test', g.groupKey)
        void g.members[0]!.group.bury(stone).then(
          yes => {
            told.gone = yes
          },
          () => {}
        )
      },
      over: async g => {
        for (const x of g.members) {
          if ((await g.tx(x.index, 0)).status !== 'pruned') return false
          if ((await g.manifests(x.index, g.chain[0]!.root)).length > 0) return false
        }
        return (await soundEverywhere(g, [1])) && (await shards(g)) === 6
      },
      again: async (g, told) => {
        // Who got no answer asks again; after an answer nobody does.
        const stone = signTombstone(g.chain[0]!.root, 5, 'test', g.groupKey)
        if (!told.gone) await g.finish(g.members[0]!.group.bury(stone))
      },
      deletes: [0]
    },
    [0, 4]
  )
})

t.test('canary: these checks notice a disk whose syncs do nothing', async t => {
  const failed: string[] = []
  const seen: T = {
    ok: () => true,
    comment: () => {},
    fail: (...[message]) => {
      failed.push(String(message))
      return false
    }
  }
  await everywhere(
    seen,
    'canary',
    {
      members: 6,
      // Whether a lost write is one that was promised is a matter of the draw; with this one it is.
      seed: 1,
      before: async g => {
        await g.kill(0, 'all')
        const { disk } = g.members[0]!
        const open = disk.open.bind(disk)
        disk.open = async (path, mode) => ({ ...(await open(path, mode)), sync: async () => {} })
        await g.up(0)
        await g.run(2_000)
        return submitted(g, content('canary', SMALL))
      },
      begin: (g, told) => send(g, 0, 0, told),
      over: g => soundEverywhere(g, [0]),
      again: (g, told) => sendRest(g, 0, 0, told),
      withinMs: 10_000
    },
    [0]
  )
  t.ok(
    failed.some(x => /called final|does not come to its end|: none/.test(x)),
    `${failed.length} broken promises noticed`
  )
})
