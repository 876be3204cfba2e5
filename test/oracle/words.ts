/** The EVM library's errors in geth's words, which tools match on. */
import type { CallResult } from '../../cmd/zg-chain/core/types.ts'

const WORDS: Record<string, string> = {
  'code store out of gas': 'contract creation code storage out of gas',
  'code size to deposit exceeds maximum code size': 'max code size exceeded',
  'stack overflow': 'stack limit reached 1024 (1023)',
  'invalid JUMP': 'invalid jump destination',
  'static state change': 'write protection',
  'create collision': 'contract address collision',
  'initcode exceeds max initcode size': 'max initcode size exceeded',
  'invalid bytecode deployed': 'invalid code: must not begin with 0xef',
  'insufficient balance': 'insufficient balance for transfer',
  'value out of range': 'return data out of bounds'
}

/** An exceptional halt as a call's error. */
export function haltError(error: string): NonNullable<CallResult['error']> {
  if (error === 'revert') return { kind: 'revert', text: 'execution reverted' }
  if (error === 'out of gas') return { kind: 'out of gas', text: 'out of gas' }
  if (error === 'code store out of gas') return { kind: 'out of gas', text: WORDS[error]! }
  return { kind: 'other', text: WORDS[error] ?? error }
}

/** What the transaction runner threw before execution, in geth's words. */
export function refusalWords(message: string): string {
  if (message.includes("doesn't have enough funds")) return 'insufficient funds for gas * price + value'
  if (message.includes('INTRINSIC_GAS_TOO_LOW')) return 'intrinsic gas too low'
  if (message.includes("doesn't have the correct nonce")) return 'invalid nonce'
  if (message.includes('baseFeePerGas')) return 'max fee per gas less than block base fee'
  if (message.includes('EIP-3607')) return 'sender not an eoa'
  if (message.includes('max initcode size') || message.includes('maximum initcode size'))
    return 'max initcode size exceeded'
  return message.replace(/ \(vm hf=.*$/s, '').trim()
}
