/** `zg-store quote`: what storing so many bytes costs, from the contracts themselves; nothing is read but a file's size. */
import { stat } from 'node:fs/promises'
import { bytesToBig } from '../../../lib/base/bytes.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import { fromHex, type Hex, toHex } from '../../../lib/base/hex.ts'
import { formatAmount, formatCount, formatDuration, formatSize, parseSize } from '../../../lib/base/units.ts'
import type { VerbFn } from '../../../lib/cli/types.ts'
import { ChainClient } from '../../../lib/clients/chain.ts'
import { findEndpoint } from '../../../lib/clients/network.ts'
import { SECTOR_BYTES, shape } from '../../../lib/codec/storage/shape.ts'
import { contractAddresses } from '../../../lib/contracts/addresses.ts'

const SECTORS_PER_GIB = 2 ** 30 / SECTOR_BYTES

export const quote: VerbFn = async (ctx, args, opts) => {
  const url = await findEndpoint(opts.rpcUrl as string | undefined, ctx.network, 'rpc', 'zg-store quote')
  const chain = new ChainClient(url, { signal: ctx.signal })
  const { price, releaseSeconds } = await prices(chain)
  for (const text of args) {
    const { size, file } = await sizeOf(text)
    if (size < 1) throw new ZgError('ERR_BAD_INPUT', `'${text}' is empty: an empty file cannot be stored`)
    const { padded } = shape(size)
    const fee = price * BigInt(padded)
    const perGiB = price * BigInt(SECTORS_PER_GIB)
    ctx.print(
      {
        type: 'quote',
        file,
        size,
        sectors: padded,
        price_neuron: price.toString(),
        price_gib_neuron: perGiB.toString(),
        fee_neuron: fee.toString(),
        release_seconds: releaseSeconds
      },
      `${formatAmount(fee)} 0G for ${formatSize(size)}: ${formatCount(padded)} sectors at ${price} neuron (${formatAmount(perGiB)} 0G a GiB), released over ${formatDuration(releaseSeconds * 1000)}`
    )
  }
}

/** What the market asks a sector, and how long the reward pool takes to pay it out. */
async function prices(chain: ChainClient): Promise<{ price: bigint; releaseSeconds: number }> {
  const chainId = await chain.chainId()
  const { flow } = contractAddresses(chainId)
  const view = async (to: Hex, data: Hex): Promise<Uint8Array> => {
    const answer = fromHex(await chain.call<Hex>('eth_call', [{ to, data }, 'latest']), 'answer of eth_call')
    if (answer.length === 32) return answer
    throw new ZgError('ERR_NO_CONTRACT', `no contract of the storage layer at ${to} on chain ${chainId}`, {
      hint: "give the chain that the storage nodes follow by '--rpc-url URL'"
    })
  }
  const address = async (to: Hex, data: Hex): Promise<Hex> => toHex((await view(to, data)).slice(12))
  const market = await address(flow, '0x80f55605')
  const reward = await address(market, '0x228cb733')
  const [price, seconds] = await Promise.all([view(market, '0x61ec5082'), view(reward, '0x21295931')])
  return { price: bytesToBig(price), releaseSeconds: Number(bytesToBig(seconds)) }
}

/** A file's size, or a size as people write it; a file of that name comes first. */
async function sizeOf(text: string): Promise<{ size: number; file: string | null }> {
  const found = await stat(text).catch(() => undefined)
  if (found?.isFile() === true) return { size: found.size, file: text }
  if (/^[0-9]/.test(text)) return { size: parseSize(text), file: null }
  throw new ZgError('ERR_NO_INPUT', `'${text}' is neither a file nor a size`, {
    hint: "a size is written '1048576' or '1MiB'"
  })
}
