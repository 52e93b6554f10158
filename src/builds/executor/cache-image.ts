// Where the layer cache of a build is: under a tag of its own in the repository of the cache.
import { createHash } from 'node:crypto';
import { formatPlatform, type Platform } from '../../oci/platform.ts';
import type { ContainerFileSpec } from '../spec.ts';

/**
 * The name of the cache; undefined where none is kept. Builds share it that differ in their context, arguments and bases alone: those are
 * what a cache is for. Another file or other platforms have another one, for each export replaces the one before.
 */
export function cacheImage(spec: ContainerFileSpec, platforms: readonly Platform[]): string | undefined {
  if (spec.cacheRepository === undefined) return undefined;
  const key = JSON.stringify([spec.containerFile, spec.stage ?? null, platforms.map(formatPlatform).toSorted()]);
  return `${spec.cacheRepository}:cache-${createHash('sha256').update(key).digest('hex').slice(0, 16)}`;
}
