/** Chooses the kernels: native where built, else TypeScript. */
import { codec, type DaKernels } from '../../native.ts'
import { referenceKernels } from './reference.ts'

/** The kernels of this process; `codec()` says once when they are the slow ones. */
export function daKernels(): DaKernels {
  return codec().da ?? referenceKernels
}
