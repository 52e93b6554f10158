// Activity since the start, in memory only: pulls, cache results, and the health of each upstream. Shown in the console and by `veneer
// status`.
import type { CacheResult, RequestEnd, RequestFacts } from './request.ts';

export interface Activity {
  /** Successful pulls by tag: what `pulls.rate` limits. */
  readonly pulls: number;
  /** Successful requests for manifests by digest: most clients send them after each pull by tag. */
  readonly pullsByDigest: number;
  /** Requests for upstream content, by cache result. */
  readonly found: Readonly<Record<CacheResult, number>>;
  /** Requests that were answered with a rule applied, by the rule's name. */
  readonly rules: ReadonlyMap<string, number>;
  /** By name: all that are configured or have been contacted. */
  readonly upstreams: ReadonlyMap<string, UpstreamActivity>;
}

export interface UpstreamActivity {
  readonly requests: number;
  /** Requests without a response, or with a server error or a rate limit. */
  readonly failures: number;
  readonly askedAt: Date | undefined;
  /** Whether the most recent request failed. */
  readonly isFailing: boolean;
  /** Whether its circuit breaker is open. */
  readonly isBroken: boolean;
  /** The remaining requests of its rate limit, as last reported. */
  readonly rateRemaining: number | undefined;
  readonly lastError: { readonly at: Date; readonly reason: string } | undefined;
}

/** The activity, with the callbacks that update it. */
export interface ActivityLog {
  readonly activity: Activity;
  onEnd(facts: RequestFacts, end: RequestEnd): void;
  onExchange(exchange: { upstream: string; status: number | undefined; rateRemaining: number | undefined }): void;
  onBreaker(change: { upstream: string; state: 'open' | 'closed'; reason: string }): void;
}

/** The maximum number of upstreams besides the configured ones: clients choose their names. */
const MAX_OTHERS = 50;

type Counted = { -readonly [Key in keyof UpstreamActivity]: UpstreamActivity[Key] };

export function createActivityLog(configured: Iterable<string>, now: () => Date): ActivityLog {
  const upstreams = new Map<string, Counted>([...configured].map(name => [name, nothingYet()]));
  const most = upstreams.size + MAX_OTHERS;
  const found: Record<CacheResult, number> = { hit: 0, revalidated: 0, stale: 0, coalesced: 0, miss: 0 };
  const rules = new Map<string, number>();
  let pulls = 0;
  let pullsByDigest = 0;

  /** Undefined beyond the maximum number of others. */
  function upstreamOf(reported: string): Counted | undefined {
    const name = ownName(reported);
    const known = upstreams.get(name);
    if (known || upstreams.size >= most) return known;
    const counted = nothingYet();
    upstreams.set(name, counted);
    return counted;
  }

  return {
    activity: {
      get pulls() {
        return pulls;
      },
      get pullsByDigest() {
        return pullsByDigest;
      },
      found,
      rules,
      upstreams,
    },
    onEnd({ path, reference, cache, upstream: name, error, appliedRules }, { status }) {
      for (const rule of appliedRules) rules.set(rule, (rules.get(rule) ?? 0) + 1);
      if (cache) found[cache] += 1;
      if (status < 400 && reference !== undefined && path.includes('/manifests/')) {
        // A tag has no colon, and what is neither was not found.
        if (reference.includes(':')) pullsByDigest += 1;
        else pulls += 1;
      }
      if (name === undefined || !error || !isFailure(status)) return;
      const upstream = upstreamOf(name);
      if (upstream) upstream.lastError = { at: now(), reason: error.message };
    },
    onExchange({ upstream: name, status, rateRemaining }) {
      const upstream = upstreamOf(name);
      if (!upstream) return;
      upstream.requests += 1;
      upstream.askedAt = now();
      if (rateRemaining !== undefined) upstream.rateRemaining = rateRemaining;
      upstream.isFailing = isFailure(status);
      if (!upstream.isFailing) return;
      upstream.failures += 1;
      // Replaced by the more specific error of the request, once that ends.
      upstream.lastError = { at: now(), reason: status === undefined ? 'no answer' : `answered ${status}` };
    },
    onBreaker({ upstream: name, state, reason }) {
      const upstream = upstreamOf(name);
      if (!upstream) return;
      upstream.isBroken = state === 'open';
      if (state === 'open') upstream.lastError = { at: now(), reason };
    },
  };
}

function nothingYet(): Counted {
  const nothing = { askedAt: undefined, rateRemaining: undefined, lastError: undefined };
  return { requests: 0, failures: 0, isFailing: false, isBroken: false, ...nothing };
}

/** The name of an upstream, without the host of a redirect: its activity counts for the upstream. */
export function ownName(reported: string): string {
  const [name = ''] = reported.endsWith(')') ? reported.split(' (at ', 1) : [reported];
  return name;
}

function isFailure(status: number | undefined): boolean {
  return status === undefined || status === 429 || status >= 500;
}
