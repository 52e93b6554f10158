// The registries that we pull from and push to, as the configuration has them.
import { join } from 'node:path';
import type { Logger } from 'pino';
import { loadPassThroughKeys } from '../access/keys.ts';
import {
  createRegistryCredentials,
  loadCredentialKeys,
  type RegistryCredentials,
} from '../access/registry-credentials.ts';
import { createSealedCredentials, type SealedCredentials } from '../access/sealed-credentials.ts';
import type { Config } from '../config/schema.ts';
import { breakerSchema } from '../config/upstream-schema.ts';
import type { Memory } from '../memory.ts';
import type { RecordStore } from '../state/store.ts';
import { type ActingCredentials, createActingCredentials, type ScopePolicy } from '../upstream/auth/scopes.ts';
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
  acting,
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
  /** Of callers who have stored some. */
  readonly acting?: ActingCredentials | undefined;
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
    acting,
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
  /** Undefined where callers have names, and credentials of registries are stored for them. */
  readonly sealed: SealedCredentials | undefined;
}

/** As long as most clients believe that a token lives at least; then they get another by themselves. */
const SEALED_TTL_MS = 5 * 60_000;

/** However long tags are believed: whoever is shut out of a registry must not have what it opened for days. */
const MAX_LIFE_MS = 3_600_000;

/** Undefined where no upstream sees credentials of any client. Throws AccessFault. */
export async function openCredentialPassThrough(config: Config, now: () => Date): Promise<Passing | undefined> {
  const isPassing = Object.values(config.upstreams).some(({ passCredentials }) => passCredentials);
  if (!isPassing && !config.access) return undefined;
  const keys = await loadPassThroughKeys(join(config.dataDir, 'passing-key'));
  return {
    scopes: { key: keys.scopes, lifeMs: Math.min(config.cache.tagFreshnessMs, MAX_LIFE_MS) },
    sealed: isPassing ? createSealedCredentials({ key: keys.sealing, ttlMs: SEALED_TTL_MS, now }) : undefined,
  };
}

/** The credentials of registries that callers have stored, and the work that is done with them. */
export interface OwnCredentials {
  readonly stored: RegistryCredentials;
  readonly acting: ActingCredentials;
  /** Runs the work of a caller with what it has stored, and with nothing of whoever began it; `caller` as in subjectOf, empty for nobody. */
  runAs<T>(caller: string, work: () => Promise<T>): Promise<T>;
}

const NOTHING = new Map<string, never>();

/** Throws AccessFault. */
export async function openOwnCredentials({
  config,
  log,
  records,
  now,
}: {
  readonly config: Config;
  readonly log: Logger;
  readonly records: RecordStore;
  readonly now: () => Date;
}): Promise<OwnCredentials> {
  const keys = await loadCredentialKeys(join(config.dataDir, 'credentials-key'), config.access?.credentialKeys ?? []);
  const stored = await createRegistryCredentials({ records, keys, now, onFault: reason => log.error(reason) });
  const acting = createActingCredentials();
  return {
    stored,
    acting,
    async runAs(caller, work) {
      return acting.run((await stored.open(caller)) ?? NOTHING, work);
    },
  };
}
