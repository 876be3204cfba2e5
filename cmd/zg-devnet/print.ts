/** What `up` shows (ux.md section 1). */
import { formatAmount } from '../../lib/base/units.ts'
import type { NetworkFile } from '../../lib/clients/network.ts'
import { DEV_ACCOUNTS } from '../../lib/crypto/dev-accounts.ts'
import { LEDGER_AMOUNT } from './provision.ts'
import type { ServiceStatus } from './supervisor.ts'

/** One line of the table of services. */
export function serviceLine(s: Pick<ServiceStatus, 'name' | 'kind' | 'state' | 'url'>, note: string): string {
  const shown =
    s.kind === 'da' ? `${s.url.replace(/^http:\/\//, '')} (grpc)` : s.kind === 'compute' ? `${s.url}/v1` : s.url
  return `  ${s.name.padEnd(10)} ${s.state.padEnd(7)} ${shown.padEnd(26)}${note}`.trimEnd()
}

/** Accounts in two columns and the main contracts. */
export function summaryLines(file: NetworkFile): string[] {
  const rows: string[] = []
  for (let i = 0; i < 5; i++) rows.push(`  ${i} ${DEV_ACCOUNTS[i]!.address}   ${i + 5} ${DEV_ACCOUNTS[i + 5]!.address}`)
  const names = Object.keys(file.contracts)
  return [
    '',
    `  ten accounts, ${formatAmount(10_000n * 10n ** 18n)} 0G each, hardhat's mnemonic; 0 has a ledger of ${formatAmount(LEDGER_AMOUNT)} 0G     zg-devnet accounts --keys`,
    ...rows,
    `  ledger     ${file.contracts.ledger}   and ${names.length - 2} more: zg-devnet contracts`,
    `  inference  ${file.contracts.inference}`
  ]
}

export function readyLines(o: { seconds: number; dir: string; ephemeral: boolean; name: string }): string[] {
  const home = process.env.HOME
  const dir = home !== undefined && o.dir.startsWith(`${home}/`) ? `~${o.dir.slice(home.length)}` : o.dir
  const flag = o.name === 'devnet' ? '' : ` --name ${o.name}`
  return [
    `ready in ${o.seconds.toFixed(1)} s, Ctrl-C stops all, ${o.ephemeral ? 'nothing is kept' : `data stays in ${dir} (--fresh, --ephemeral)`}`,
    `next: eval "$(zg-devnet env${flag})" && zg-compute chat hello     # in another terminal`
  ]
}
