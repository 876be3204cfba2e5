/**
 * Node 20 lacks Promise.withResolvers, which libp2p 3 calls. Imported before any libp2p package; goes when Node 20 support goes.
 * Typed by hand, since the rest of the code is held to es2023.
 */
interface Resolvers<T> {
  promise: Promise<T>
  resolve: (value: T | PromiseLike<T>) => void
  reject: (reason?: unknown) => void
}

const promises = Promise as unknown as { withResolvers?: <T>() => Resolvers<T> }

promises.withResolvers ??= function withResolvers<T>(this: PromiseConstructor): Resolvers<T> {
  let resolve!: Resolvers<T>['resolve']
  let reject!: Resolvers<T>['reject']
  const promise = new this<T>((a, b) => {
    resolve = a
    reject = b
  })
  return { promise, resolve, reject }
}
