/**
 * Proves that pushed headers are only believed while the head that was given out is one of them: a head that had to be asked for may
 * be on a chain that replaced theirs, and a follower that compared it with old headers would never see the replacement.
 */
import t from 'tap'
import type { ChainClient, RpcHeader } from '../../lib/clients/chain.ts'
import { HeadWatch } from '../../lib/clients/head-watch.ts'
import { SimClock } from '../../lib/sim/clock.ts'

const header = (number: number, fork: string): RpcHeader =>
  ({
    number: `0x${number.toString(16)}`,
    hash: `0x${fork}${number}`,
    parentHash: `0x${fork}${number - 1}`
  }) as RpcHeader

/** A chain that says what the test says: heads pushed, and a height when asked. */
function setup() {
  let push = (_: RpcHeader) => {}
  let state = (_: boolean) => {}
  const chain = { height: 0, asked: 0 }
  const client = {
    subscribeHeads(onHead: typeof push, opts: { onState: typeof state }) {
      push = onHead
      state = opts.onState
      return () => {}
    },
    call: async () => 'another/1',
    async blockNumber() {
      chain.asked++
      return chain.height
    }
  }
  const clock = new SimClock()
  const heads = new HeadWatch(client as unknown as ChainClient, clock)
  return { heads, clock, chain, push: (h: RpcHeader) => push(h), state: (up: boolean) => state(up) }
}

t.test('a pushed head costs no call and its headers are known', async t => {
  const s = setup()
  s.state(true)
  for (let n = 1; n <= 4; n++) s.push(header(n, 'a'))
  t.equal((await s.heads.head()).number, 4)
  t.equal(s.chain.asked, 0)
  t.equal(s.heads.header(3)?.hash, '0xa3')
})

t.test('a head that was asked for makes the old headers unknown, until a pushed one is given again', async t => {
  const s = setup()
  // Polled headers come while there is no connection.
  for (let n = 1; n <= 4; n++) s.push(header(n, 'a'))
  s.chain.height = 6
  t.equal((await s.heads.head()).number, 6)
  t.equal(s.heads.header(4), undefined, 'no connection')
  s.state(true)
  s.push(header(6, 'b'))
  t.equal((await s.heads.head()).number, 6)
  t.equal(s.heads.header(6)?.hash, '0xb6')
  t.equal(s.heads.header(4), undefined, 'not on the chain of 6')
  await s.clock.advance(3_000)
  s.chain.height = 8
  t.equal((await s.heads.head()).number, 8)
  t.equal(s.heads.header(6), undefined, 'the push is silent')
})
