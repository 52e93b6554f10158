// How many tags a caller may resolve, and what each answer says is left: by caller, else by network; digests and blobs are free.
import { afterEach, beforeEach, expect, test } from 'vitest';
import { HOST, startApp, type TestApp } from '../support/app.ts';

let app: TestApp;
let digest: string;

beforeEach(async () => {
  app = await startApp({
    config: {
      pulls: { rate: { anonymous: '2/10m', known: '3/10m' } },
      tokens: { rate: { anonymous: '5/10m' } },
      access: { grants: [{ anyone: true, repositories: ['**'], allow: ['pull'] }] },
    },
  });
  digest = app.putImage().root.digest;
});

afterEach(() => app.close());

const pull = (reference: string, address: string, method = 'GET') =>
  app.request(`/v2/lab/library/app/manifests/${reference}`, { address, method });

const rateOf = ({ headers, status }: Response) => [status, headers.get('ratelimit-policy'), headers.get('ratelimit')];

test('each tag counts for its address, and the answer says what is left and when more may be had', async () => {
  const policy = '"pulls";q=2;w=600';
  expect(rateOf(await pull('1', '192.0.2.1'))).toEqual([200, policy, '"pulls";r=1;t=600']);
  expect(rateOf(await pull('1', '192.0.2.1', 'HEAD'))).toEqual([
    200,
    policy,
    expect.stringMatching(/^"pulls";r=0;t=\d+$/),
  ]);
  const refused = await pull('1', '192.0.2.1');
  expect(rateOf(refused)).toEqual([429, policy, expect.stringMatching(/^"pulls";r=0;t=\d+$/)]);
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(590);
  expect(await refused.json()).toEqual({
    errors: [{ code: 'TOOMANYREQUESTS', message: expect.stringContaining('pulls.rate.anonymous') }],
  });
  expect((await pull('1', '192.0.2.2')).status).toBe(200);
});

test('what is asked for by digest is free', async () => {
  for (let at = 0; at < 10; at += 1) expect(rateOf(await pull(digest, '192.0.2.1'))).toEqual([200, null, null]);
  expect((await app.request(`/v2/lab/library/app/tags/list`, { address: '192.0.2.1' })).headers.get('ratelimit')).toBe(
    null,
  );
});

test('all addresses of an IPv6 network are one', async () => {
  for (const host of ['1', '2']) expect((await pull('1', `2001:db8:0:1::${host}`)).status).toBe(200);
  expect((await pull('1', '2001:db8:0:1:ffff::1')).status).toBe(429);
  expect((await pull('1', '2001:db8:0:2::1')).status).toBe(200);
});

test('a submit says what is left of tokens', async () => {
  const body = { containerImage: 'lab/library/app:1', containerConfig: { env: ['A=1'] } };
  const submit = () => app.request('/v1alpha2/container', { method: 'POST', body, address: '192.0.2.1' });
  expect(rateOf(await submit())).toEqual([200, '"tokens";q=5;w=600', '"tokens";r=4;t=600']);
  for (let at = 0; at < 4; at += 1) await submit();
  expect(rateOf(await submit())).toEqual([429, '"tokens";q=5;w=600', expect.stringMatching(/^"tokens";r=0;t=\d+$/)]);
});

test('anyone who is on this machine, where nothing is configured, is not limited', async () => {
  await app.configure({ pulls: { rate: { anonymous: '1/10m' } } });
  for (let at = 0; at < 3; at += 1)
    expect(
      (await app.request(`/v2/${app.registry.host}/library/app/manifests/1`, { headers: { Host: HOST } })).status,
    ).toBe(200);
});
