// The entries of `upstreams`: how each is asked, and what may not be in one.
import { expect, test } from 'vitest';
import { upstreamsSchema } from '../../src/config/upstream-schema.ts';

const schema = upstreamsSchema({ SECRET: 's' });

test('an entry says how its upstream is asked', () => {
  const entry = {
    mirrors: [{ url: 'http://10.0.0.1:5000', credentials: { username: 'me', password: { env: 'SECRET' } } }],
    allow: ['library/*'],
    offline: true,
    concurrency: 4,
    rate: '100/1m',
    breaker: { failures: 3 },
  };
  expect(schema.parse({ 'docker.io': entry })['docker.io']).toMatchObject({
    mirrors: [{ url: new URL('http://10.0.0.1:5000'), credentials: { password: 's' }, tokenRealms: [] }],
    allow: ['library/*'],
    deny: [],
    offline: true,
    concurrency: 4,
    queue: 1000,
    rate: { count: 100, perMs: 60_000 },
    breaker: { failures: 3, pauseMs: 10_000 },
  });
});

test.each([
  ['a mirror without a url', { mirrors: [{}] }, 'mirrors.0.url'],
  ['a mirror with credentials in its url', { mirrors: [{ url: 'http://me:p@10.0.0.1' }] }, 'mirrors.0.url'],
  ['a mirror of a mirror', { mirrors: [{ url: 'http://10.0.0.1', mirrors: [] }] }, 'mirrors.0'],
  ['more mirrors than anybody needs', { mirrors: Array(17).fill({ url: 'http://10.0.0.1' }) }, 'mirrors'],
  ['no call at a time', { concurrency: 0 }, 'concurrency'],
  ['a rate without a time', { rate: '100' }, 'rate'],
  ['a pause that is none', { breaker: { pause: '0s' } }, 'breaker.pause'],
  ['less than no failures', { breaker: { failures: -1 } }, 'breaker.failures'],
  ['an empty glob', { deny: [''] }, 'deny.0'],
  ['a glob that takes long for some name', { deny: ['**/*-*-*-*x'] }, 'deny.0'],
  [
    'credentials of ours beside those of clients',
    { passCredentials: true, credentials: { username: 'me', password: 'p' } },
    'passCredentials',
  ],
  [
    'a mirror beside credentials of clients',
    { passCredentials: true, mirrors: [{ url: 'http://10.0.0.1' }] },
    'passCredentials',
  ],
])('%s is a fault', (_, entry, path) => {
  const { error } = schema.safeParse({ 'docker.io': entry });
  expect(error?.issues.map(issue => issue.path.join('.'))).toEqual([`docker.io.${path}`]);
});
