// The registries that we pull from and push to, as the configuration has them.
import type { Logger } from 'pino';
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

interface OpenUpstreamsDeps {
  readonly config: Config;
  readonly log: Logger;
  readonly now: () => Date;
  readonly memory: Memory;
  readonly dockerConfigPath: string | undefined;
  readonly patience: Partial<Patience> | undefined;
  /** Of upstreams that see the credentials of clients. */
  readonly scopes?: ScopePolicy | undefined;
}

const PATIENCE: Patience = { timeouts: { connectMs: 10_000, headersMs: 30_000, bodyMs: 60_000 }, retries: 3 };

export function openUpstreams({ config, log, now, memory, scopes, ...options }: OpenUpstreamsDeps): Upstreams {
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
