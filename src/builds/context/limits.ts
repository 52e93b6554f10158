// How large a build context may be, however it comes.

export interface ContextLimits {
  /** Of a tar, as it comes. */
  readonly maxPackedBytes: number;
  /** Of an unpacked tar, and of all files together. */
  readonly maxBytes: number;
  /** Directories count too, those that are only implied by a name as well. */
  readonly maxEntries: number;
  /** How many directories may lie in each other. */
  readonly maxDepth: number;
  /** Unpacked to packed; looked at only beyond `ratioFreeBytes` of unpacked bytes. */
  readonly maxRatio: number;
  readonly ratioFreeBytes: number;
}

const MIB = 1024 * 1024;

export const DEFAULT_CONTEXT_LIMITS: ContextLimits = {
  maxPackedBytes: 1024 * MIB,
  maxBytes: 2048 * MIB,
  maxEntries: 100_000,
  maxDepth: 64,
  maxRatio: 200,
  ratioFreeBytes: 64 * MIB,
};
