/**
 * Files as the product's storage code sees them. Two implementations: `lib/adapters/disk.ts` (the file system) and
 * `lib/sim/disk.ts` (in memory, seeded, with a crash at any operation); `lib/ports/compliance.ts` is the suite both pass.
 *
 * What is promised, and no more (POSIX without favours):
 * - `write` may be lost, torn at 4 KiB pages or reordered with other writes until `sync` of that file has returned.
 * - A created, renamed or removed name may be undone until `syncDir` of its directory has returned.
 * - A failed `sync` means that nothing written since the last good one may be trusted: the caller must stop using the file.
 *
 * Paths are absolute in the real form and `/`-separated in both. Errors are ZgErrors: ERR_NOT_FOUND, ERR_EXISTS,
 * ERR_DISK_FULL, ERR_PERMISSION, ERR_IO.
 */
export interface Disk {
  /**
   * Opens a file for reading and writing.
   * @param mode - `open` fails with ERR_NOT_FOUND, `create` makes it when absent, `new` fails with ERR_EXISTS.
   */
  open(path: string, mode: 'open' | 'create' | 'new'): Promise<DiskFile>
  /** Creates a directory and its parents, durably; existing ones are fine. */
  mkdir(path: string): Promise<void>
  /** Names in a directory, sorted; ERR_NOT_FOUND when it is absent. */
  list(path: string): Promise<string[]>
  exists(path: string): Promise<boolean>
  /** Renames a file; atomically replaces `to`. */
  rename(from: string, to: string): Promise<void>
  /** Removes a file; an absent one is fine. */
  remove(path: string): Promise<void>
  /** Makes creations, renames and removals in this directory durable. */
  syncDir(path: string): Promise<void>
}

/** An open file. Offsets and sizes in bytes. Calls on one file may overlap; the caller orders them by awaiting. */
export interface DiskFile {
  size(): Promise<number>
  /** Exactly `length` bytes from `offset`, fewer only at the end of the file. */
  read(offset: number, length: number): Promise<Uint8Array>
  /** The same into memory of the caller's, where the disk can do it: fills `target`, less only at the end of the file. @returns bytes read. */
  readInto?(offset: number, target: Uint8Array): Promise<number>
  /** As readInto, for bytes that nobody will ask for again soon. */
  readCold?(offset: number, target: Uint8Array): Promise<number>
  /** Writes all buffers one behind the other from `offset`, extending the file when needed. */
  write(offset: number, ...buffers: Uint8Array[]): Promise<void>
  /** The same for much data that nobody will ask for soon, where the disk has a cheaper way for that. The buffers must not change meanwhile. */
  writeCold?(offset: number, ...buffers: Uint8Array[]): Promise<void>
  /** Cuts or zero-extends. */
  truncate(size: number): Promise<void>
  /** A hint, where the disk can take one: nobody will ask for these bytes soon, so the system need not keep them in memory. */
  letGo?(offset: number, length: number): void
  /** Data and size are on stable storage when this returns. */
  sync(): Promise<void>
  close(): Promise<void>
}
