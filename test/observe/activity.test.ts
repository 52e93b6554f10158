// What a service remembers of what it has done.
import { beforeEach, expect, test } from 'vitest';
import { type ActivityLog, createActivityLog } from '../../src/observe/activity.ts';
import { beginRequest, type RequestFacts } from '../../src/observe/request.ts';

const AT = new Date('2030-01-01T00:00:00Z');
const DIGEST = `sha256:${'0'.repeat(64)}`;
const QUIET = { rateRemaining: undefined };

let done: ActivityLog;

beforeEach(() => {
  done = createActivityLog(['docker.io'], () => AT);
});

function end(facts: Partial<RequestFacts>, status = 200): void {
  const begun = beginRequest({
    method: 'GET',
    path: '/v2/a/manifests/1',
    route: '',
    address: undefined,
    header: () => undefined,
  });
  done.onEnd({ ...begun, ...facts }, { status, durationMs: 1, isAborted: false });
}

test('counts pulls by tag apart from manifests by digest, and neither where nothing was found', () => {
  end({ reference: '1' });
  end({ reference: DIGEST });
  end({ reference: DIGEST });
  end({ reference: '1' }, 404);
  end({ reference: DIGEST, path: '/v2/a/blobs/x' });
  expect(done.activity).toMatchObject({ pulls: 1, pullsByDigest: 2 });
});

test('counts how content was found', () => {
  for (const cache of ['hit', 'hit', 'miss', 'stale'] as const) end({ cache });
  expect(done.activity.found).toEqual({ hit: 2, miss: 1, stale: 1, revalidated: 0, coalesced: 0 });
});

test('knows of an upstream whether it answers, what is left of its limit, and why it failed last', () => {
  done.onExchange({ upstream: 'docker.io', status: 200, rateRemaining: 7 });
  const hub = () => done.activity.upstreams.get('docker.io');
  expect(hub()).toMatchObject({ requests: 1, failures: 0, isFailing: false, rateRemaining: 7, lastError: undefined });
  done.onExchange({ upstream: 'docker.io (at cdn.example)', status: undefined, ...QUIET });
  expect(hub()).toMatchObject({ failures: 1, isFailing: true, rateRemaining: 7 });
  expect(hub()?.lastError).toEqual({ at: AT, reason: 'no answer' });
  end({ upstream: 'docker.io', error: { code: 'UNKNOWN', message: 'docker.io: timed out' } }, 504);
  expect(hub()?.lastError).toEqual({ at: AT, reason: 'docker.io: timed out' });
  end({ upstream: 'docker.io', error: { code: 'MANIFEST_UNKNOWN', message: 'there is none' } }, 404);
  expect(hub()?.lastError?.reason).toBe('docker.io: timed out');
  done.onBreaker({ upstream: 'docker.io', state: 'open', reason: 'five in a row' });
  expect(hub()).toMatchObject({ isBroken: true, lastError: { reason: 'five in a row' } });
  done.onBreaker({ upstream: 'docker.io', state: 'closed', reason: 'five in a row' });
  done.onExchange({ upstream: 'docker.io', status: 404, ...QUIET });
  expect(hub()).toMatchObject({ isBroken: false, isFailing: false, askedAt: AT });
});

test('remembers a bounded number of upstreams that clients have named', () => {
  for (let at = 0; at < 1000; at += 1) done.onExchange({ upstream: `r${at}.example`, status: 200, ...QUIET });
  done.onExchange({ upstream: 'docker.io', status: 200, ...QUIET });
  expect(done.activity.upstreams.size).toBe(51);
  expect(done.activity.upstreams.get('docker.io')?.requests).toBe(1);
});
