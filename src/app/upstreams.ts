// Wires the upstream registries from the configuration.
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
import type { Observer } from './observing.ts';

/** Timeouts and retries for upstreams. */
export type Patience = Pick<UpstreamsOptions, 'timeouts' | 'retries' | 'retryDelayMs'>;

const PATIENCE: Patience = { timeouts: { connectMs: 10_000, headersMs: 30_000, bodyMs: 60_000 }, retries: 3 };

export function openUpstreams({
  config,
  log,
  now,
  memory,
  scopes,
  acting,
  observer,
  ...options
}: {
  readonly config: Config;
  readonly log: Logger;
  readonly now: () => Date;
  readonly memory: Memory;
  readonly dockerConfigPath: string | undefined;
  readonly patience: Partial<Patience> | undefined;
  readonly observer: Pick<Observer, 'onExchange' | 'onBreaker'> & Partial<Pick<Observer, 'traceRequest'>>;
  /** For upstreams that receive clients' credentials. */
  readonly scopes?: ScopePolicy | undefined;
  /** For callers who have stored registry credentials. */
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
    breaker: breakerSchema().parse({}, { jitless: true }),
    onExchange: observer.onExchange,
    traceRequest: observer.traceRequest,
    onBreaker(change) {
      observer.onBreaker(change);
      logBreaker(log, change);
    },
    ...{ scopes, acting, memory, dockerConfigPath },
    clock: { ...systemClock, now },
    ...PATIENCE,
    ...patience,
    timeouts: { minBytesPerSecond: config.limits.upstreamRateBytes, ...PATIENCE.timeouts, ...patience?.timeouts },
    allowPrivateUrls: config.layers.allowPrivateAddresses,
    onHelperFailed: failure =>
      log.warn({ reason: failure.message }, 'a credential helper failed: its upstream is used without credentials'),
    onDockerConfigFault: reason =>
      log.warn({ file: dockerConfigPath, reason }, "docker's config.json has an unusable part, which is ignored"),
  });
}

function logBreaker(log: Logger, { upstream, state, reason }: BreakerChange): void {
  if (state === 'open') log.warn({ upstream, reason }, 'an upstream keeps failing: circuit breaker opened');
  else log.info({ upstream }, 'an upstream has recovered: circuit breaker closed');
}

interface PassThrough {
  readonly scopes: ScopePolicy;
  /** Undefined where callers have names, and store registry credentials instead. */
  readonly sealed: SealedCredentials | undefined;
}

/** The minimum lifetime that most clients assume for a token; they then get another one on their own. */
const SEALED_TTL_MS = 5 * 60_000;

/** Limits tag freshness: a client that loses access to a registry must not retain it for days. */
const MAX_LIFE_MS = 3_600_000;

/** Undefined where no upstream sees credentials of any client. Throws AccessFault. */
export async function openCredentialPassThrough(config: Config, now: () => Date): Promise<PassThrough | undefined> {
  const isUsed = Object.values(config.upstreams).some(({ passCredentials }) => passCredentials);
  if (!isUsed && !config.access) return undefined;
  const keys = await loadPassThroughKeys(join(config.dataDir, 'passing-key'));
  return {
    scopes: { key: keys.scopes, lifeMs: Math.min(config.cache.tagFreshnessMs, MAX_LIFE_MS) },
    sealed: isUsed ? createSealedCredentials({ key: keys.sealing, ttlMs: SEALED_TTL_MS, now }) : undefined,
  };
}

/** The registry credentials that callers have stored, and the execution of work with them. */
export interface OwnCredentials {
  readonly stored: RegistryCredentials;
  readonly acting: ActingCredentials;
  /** Runs work with the registry credentials stored by `caller` (see subjectOf; empty: none), and no others. */
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
