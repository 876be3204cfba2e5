/** `zg-devnet contracts`: the contracts that stand in genesis. */

import type { Options, VerbContext } from '../../../lib/cli/types.ts'
import { readNetwork } from '../../../lib/clients/network.ts'
import { CONTRACT_NOTES, contractsOf } from '../contracts.ts'

export async function contracts(ctx: VerbContext, _args: string[], opts: Options): Promise<void> {
  const file = await readNetwork(opts.name as string)
  for (const [name, address] of Object.entries(file?.contracts ?? contractsOf(31337))) {
    ctx.print(
      { type: 'contract', name, address, note: CONTRACT_NOTES[name] ?? '' },
      `${name.padEnd(15)} ${address}  ${CONTRACT_NOTES[name] ?? ''}`.trimEnd()
    )
  }
}
