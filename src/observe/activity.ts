// What the service has done since it started, in memory: pulls, how content was found, and how each upstream answers. For people who look at it now;
// nothing of it outlives the process.
import { isDigest } from '../oci/digest.ts';
import type { RequestEnd } from './access-log.ts';
import type { CacheResult, RequestFacts } from './request.ts';

export interface Activity {
  /** By tag, answered with what was asked for: what `pulls.rate` counts. */
  readonly pulls: number;
  /** Manifests that were asked for by their digest: most clients do so after each pull. */
  readonly pullsByDigest: number;
  /** Requests for content of upstreams, by how it was found. */
  readonly found: Readonly<Record<CacheResult, number>>;
  /** Requests that a rule made the answer of, by its name. */
  readonly rules: ReadonlyMap<string, number>;
  /** By name, each that was asked or is configured. */
  readonly upstreams: ReadonlyMap<string, UpstreamActivity>;
}

export interface UpstreamActivity {
  readonly requests: number;
  /** Those without an answer, or with one that says that the registry fails or refuses for a while. */
  readonly failures: number;
  readonly askedAt: Date | undefined;
  /** Whether the last of them failed. */
  readonly isFailing: boolean;
  /** Whether it is left alone for a while, since it fails. */
  readonly isBroken: boolean;
  /** Requests that are left of its rate limit, as it last said. */
  readonly rateRemaining: number | undefined;
  readonly lastError: { readonly at: Date; readonly reason: string } | undefined;
}

/** What is reported, by the names that its reporters use. */
export interface ActivityLog {
  readonly activity: Activity;
  onEnd(facts: RequestFacts, end: RequestEnd): void;
  onExchange(exchange: { upstream: string; status: number | undefined; rateRemaining: number | undefined }): void;
  onBreaker(change: { upstream: string; state: 'open' | 'closed'; reason: string }): void;
}

/** Clients name upstreams: no more than so many are remembered beside those of the configuration. */
const MAX_OTHERS = 50;

type Counted = { -readonly [Key in keyof UpstreamActivity]: UpstreamActivity[Key] };

export function createActivityLog(configured: Iterable<string>, now: () => Date): ActivityLog {
  const upstreams = new Map<string, Counted>([...configured].map(name => [name, nothingYet()]));
  const most = upstreams.size + MAX_OTHERS;
  const found: Record<CacheResult, number> = { hit: 0, revalidated: 0, stale: 0, coalesced: 0, miss: 0 };
  const rules = new Map<string, number>();
  let pulls = 0;
  let pullsByDigest = 0;

  /** Undefined where too many others are known already. */
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
        if (isDigest(reference)) pullsByDigest += 1;
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
      // The end of the request that it was for says more.
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

/** The name of an upstream, without the host that a redirect of it led to: what that does counts for the upstream. */
export function ownName(reported: string): string {
  const [name = ''] = reported.endsWith(')') ? reported.split(' (at ', 1) : [reported];
  return name;
}

function isFailure(status: number | undefined): boolean {
  return status === undefined || status === 429 || status >= 500;
}
