/** Randomness as handed to a core. The real one is the system's; the simulated one is seeded and split per purpose. */
export interface Random {
  /** `size` random bytes. */
  bytes(size: number): Uint8Array
  /** A uniform integer in [0, bound), 1 ≤ bound ≤ 2³². */
  below(bound: number): number
}
