import { expect, test } from 'vitest';
import { createObserver } from '../../src/app/observing.ts';

test('lists configured upstreams while their breaker is open, and none that only a client has named', () => {
  const observer = createObserver(() => {}, { upstreams: new Set(['docker.io', 'lab']), now: () => new Date() });
  for (const upstream of ['lab', 'made-up.example']) observer.onBreaker({ upstream, state: 'open', reason: 'down' });
  expect(observer.listBroken()).toEqual(['lab']);
  observer.onBreaker({ upstream: 'lab', state: 'closed', reason: '' });
  expect(observer.listBroken()).toEqual([]);
});
