/**
 * V8 compiles a function anew, on threads of its own, once it has run for a while. In a node that moves data each function runs some
 * thousand times a second and waits for the disk and the network in between: the compiler, and the garbage it leaves, took a quarter of
 * a node's processor time in the first gigabytes, on the same cores that hash. Asked eight times later, it compiles what stays hot alone.
 */
import { setFlagsFromString } from 'node:v8'

/** Bytes of bytecode a function runs before V8 looks at it again; its own value is 132 KiB. */
const INTERRUPT_BUDGET_BYTES = 1_048_576

/** For the whole process, from now on. */
export function compileLater(): void {
  setFlagsFromString(`--interrupt-budget=${INTERRUPT_BUDGET_BYTES}`)
}
