// How much a build without a builder may take: bases and archives are foreign, and a few bytes can unpack to very many.
import type { ContextLimits } from '../../context/limits.ts';

const MIB = 1024 * 1024;

/** For each layer of a base that is read, and for each archive that ADD unpacks. */
export const DEFAULT_EMBEDDED_LIMITS: ContextLimits = {
  maxPackedBytes: 8 * 1024 * MIB,
  maxBytes: 16 * 1024 * MIB,
  maxEntries: 500_000,
  maxDepth: 256,
  maxRatio: 400,
  ratioFreeBytes: 256 * MIB,
};
