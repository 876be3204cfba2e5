/**
 * Proves that networks that start at the same time never share a port: each claims its block before its services open a port of it, a
 * block with one port in use is passed over, and what was released can be had again.
 */
import { createServer } from 'node:net'
import t from 'tap'
import { claimBlock, claimFreeBlock, type PortBlock, portFree } from '../../cmd/zg-devnet/ports.ts'
import { listOfPorts, planPorts } from '../../cmd/zg-devnet/services.ts'
import { runTool, sandbox } from '../harness/tools.ts'

const OFFSETS = listOfPorts(planPorts(2, 18_000)).map(p => p - 18_000)

t.test('whoever asks at the same time gets a block of his own', async t => {
  const blocks = await Promise.all(Array.from({ length: 12 }, () => claimFreeBlock(OFFSETS)))
  const bases = blocks.map(b => b!.base)
  t.equal(new Set(bases).size, 12, bases.join(' '))
  for (const block of blocks) {
    t.equal(await claimBlock(block!.base), undefined, `${block!.base} is taken`)
    block!.release()
  }
  const again = await claimBlock(bases[0]!)
  t.equal(again?.base, bases[0], 'released')
  again?.release()
})

t.test('a block with a port in use is passed over, and is not kept', async t => {
  const block = (await claimFreeBlock(OFFSETS)) as PortBlock
  block.release()
  const taken = createServer()
  await new Promise<void>(resolve => taken.listen(block.base + OFFSETS[3]!, '127.0.0.1', resolve))
  t.teardown(() => taken.close())
  const other = (await claimFreeBlock(OFFSETS)) as PortBlock
  t.not(other.base, block.base)
  other.release()
})

t.test('all ports of the largest network are different and inside its block', async t => {
  const ports = listOfPorts(planPorts(16, 18_000))
  t.equal(new Set(ports).size, ports.length)
  t.ok(ports.every(p => p >= 18_000 && p < 18_099))
})

t.test('a block that was asked for and belongs to another network is refused', async t => {
  const box = sandbox('devnet-ports')
  t.teardown(() => box.remove())
  const block = (await claimFreeBlock(OFFSETS)) as PortBlock
  t.teardown(() => block.release())
  const args = ['up', '--name', 'second', '--port-base', `${block.base}`]
  const { code, stderr } = await runTool('zg-devnet', args, { env: box.env })
  t.equal(code, 78)
  t.match(stderr, `the ports from ${block.base} on belong to another network`)
  t.ok(await portFree(block.base), 'nothing was started')
})
