/** Models that stay open between requests: the latest few. */

/** Of each kind; one more closes the one that was asked for longest ago. */
export const EVAL_MODELS_MAX = 4

export class Opened<T> {
  readonly #open: (path: string) => T | Promise<T>
  readonly #shut: (value: T) => void | Promise<void>
  /** By path, the latest used last. */
  readonly #values = new Map<string, T>()

  constructor(open: (path: string) => T | Promise<T>, shut: (value: T) => void | Promise<void> = () => {}) {
    this.#open = open
    this.#shut = shut
  }

  async get(path: string): Promise<T> {
    let value = this.#values.get(path)
    if (value === undefined) {
      // Room first: two large models may not fit.
      const oldest = this.#values.size < EVAL_MODELS_MAX ? undefined : this.#values.keys().next().value
      if (oldest !== undefined) await this.#close(oldest)
      value = await this.#open(path)
    }
    this.#values.delete(path)
    this.#values.set(path, value)
    return value
  }

  async #close(path: string): Promise<void> {
    const value = this.#values.get(path)!
    this.#values.delete(path)
    await this.#shut(value)
  }

  async close(): Promise<void> {
    for (const path of [...this.#values.keys()]) await this.#close(path)
  }
}
