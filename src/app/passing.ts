// What it takes to show upstreams the credentials of clients, where the configuration has one that is to see them.
import { join } from 'node:path';
import { loadPassThroughKeys } from '../access/keys.ts';
import { createSealedCredentials, type SealedCredentials } from '../access/sealed-credentials.ts';
import type { Config } from '../config/schema.ts';
import type { ScopePolicy } from '../upstream/auth/scopes.ts';

interface Passing {
  readonly scopes: ScopePolicy;
  readonly sealed: SealedCredentials;
}

/** As long as most clients believe that a token lives at least; then they get another by themselves. */
const SEALED_TTL_MS = 5 * 60_000;

/** However long tags are believed: whoever is shut out of a registry must not have what it opened for days. */
const MAX_LIFE_MS = 3_600_000;

/** Undefined where no upstream sees any. Throws AccessFault. */
export async function openCredentialPassThrough(config: Config, now: () => Date): Promise<Passing | undefined> {
  if (!Object.values(config.upstreams).some(({ passCredentials }) => passCredentials)) return undefined;
  const keys = await loadPassThroughKeys(join(config.dataDir, 'passing-key'));
  return {
    scopes: { key: keys.scopes, lifeMs: Math.min(config.cache.tagFreshnessMs, MAX_LIFE_MS) },
    sealed: createSealedCredentials({ key: keys.sealing, ttlMs: SEALED_TTL_MS, now }),
  };
}
