// The registries that we pull from and push to, as the configuration has them.
import { join } from 'node:path';
import type { Logger } from 'pino';
import { loadPassThroughKeys } from '../access/keys.ts';
import { createSealedCredentials, type SealedCredentials } from '../access/sealed-credentials.ts';
import type { Config } from '../config/schema.ts';
import { breakerSchema } from '../config/upstream-schema.ts';
import type { Memory } from '../memory.ts';
import type { ScopePolicy } from '../upstream/auth/scopes.ts';
import type { BreakerChange } from '../upstream/limits/breaker.ts';
import type { Upstreams } from '../upstream/upstream.ts';
import { createUpstreams, type UpstreamsOptions } from '../upstream/upstreams.ts';
import { systemClock } from '../upstream/waiting.ts';

/** How long we wait for upstreams, and how often we try again. */
export type Patience = Pick<UpstreamsOptions, 'timeouts' | 'retries' | 'retryDelayMs'>;

const PATIENCE: Patience = { timeouts: { connectMs: 10_000, headersMs: 30_000, bodyMs: 60_000 }, retries: 3 };

export function openUpstreams({
  config,
  log,
  now,
  memory,
  scopes,
  ...options
}: {
  readonly config: Config;
  readonly log: Logger;
  readonly now: () => Date;
  readonly memory: Memory;
  readonly dockerConfigPath: string | undefined;
  readonly patience: Partial<Patience> | undefined;
  /** Of upstreams that see the credentials of clients. */
  readonly scopes?: ScopePolicy | undefined;
}): Upstreams {
  const { dockerConfigPath, patience } = options;
  return createUpstreams({
    entries: Object.fromEntries(
      Object.entries(config.upstreams).map(([name, { url, mirrors, ...entry }]) => [
        name,
        { ...entry, url: url?.href, mirrors: mirrors.map(mirror => ({ ...mirror, url: mirror.url.href })) },
      ]),
    ),
    openUpstreams: config.openUpstreams,
    offline: config.offline,
    breaker: breakerSchema().parse({}),
    onBreaker: logBreaker(log),
    scopes,
    clock: { ...systemClock, now },
    memory,
    ...PATIENCE,
    ...patience,
    timeouts: { minBytesPerSecond: config.limits.upstreamRateBytes, ...PATIENCE.timeouts, ...patience?.timeouts },
    allowPrivateUrls: config.layers.allowPrivateAddresses,
    dockerConfigPath,
    onHelperFailed: failure =>
      log.warn({ reason: failure.message }, 'a credential helper failed: its upstream is asked without'),
    onDockerConfigFault: reason =>
      log.warn({ file: dockerConfigPath, reason }, "docker's config.json has what cannot be used: it is left out"),
  });
}

function logBreaker(log: Logger): (change: BreakerChange) => void {
  return ({ upstream, state, reason }) => {
    if (state === 'open')
      log.warn({ upstream, reason }, 'an upstream fails again and again: it is left alone for a while');
    else log.info({ upstream }, 'an upstream that failed answers again');
  };
}

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
