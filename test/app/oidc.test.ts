// Callers of an OpenID Connect issuer, and of a network, through the whole app: what they submit, pull and see refused.
import { afterEach, beforeEach, expect, test } from 'vitest';
import { z } from 'zod';
import { basic } from '../access/fixture.ts';
import { startApp, type TestApp } from '../support/app.ts';
import { AUDIENCE, startIssuer, type TestIssuer } from '../support/oidc.ts';

const WITHIN = '10.1.2.3';
const containerConfig = { env: ['A=1'] };
const answerSchema = z.object({ requestId: z.string(), targetImage: z.string() });

let provider: TestIssuer;
let app: TestApp;

beforeEach(async () => {
  provider = await startIssuer();
  app = await startApp({
    config: {
      access: {
        oidc: { issuer: provider.issuer, audience: AUDIENCE },
        grants: [
          { groups: ['pipelines'], repositories: ['lab/library/*'], allow: ['pull'] },
          { networks: ['10.0.0.0/8'], repositories: ['lab/library/*'], allow: ['pull'] },
          { networks: ['10.0.0.0/8'], repositories: ['local/builds'], allow: ['pull', 'build'] },
        ],
      },
    },
  });
  app.putImage();
});

afterEach(async () => {
  await app.close();
  await provider.stop();
});

function submit(body: object, options: { headers?: Record<string, string>; address?: string } = {}) {
  const wanted = { containerImage: 'lab/library/app:1', containerConfig, ...body };
  return app.request('/v1alpha2/container', { method: 'POST', body: wanted, ...options });
}

test('a token of the issuer names the caller, in the header and in the body', async () => {
  const token = await provider.token({ groups: ['pipelines'] });
  const ways = [
    submit({}, { headers: { Authorization: `Bearer ${token}` } }),
    submit({ towerAccessToken: token }),
    submit({ towerAccessToken: token }, { headers: { Authorization: `Bearer ${token}` } }),
  ];
  for (const response of await Promise.all(ways)) {
    expect(response.status).toBe(200);
    const { requestId } = answerSchema.parse(await response.json());
    expect((await app.request(`/v2/wt/${requestId}/library/app/manifests/1`)).status).toBe(200);
  }
  expect((await submit({})).status).toBe(401);
  expect(app.log.join('')).not.toContain(token);
});

test('a token of another service is nothing, one of the issuer that is not valid is a 401', async () => {
  const foreign = `${Buffer.from('{"alg":"none"}').toString('base64url')}.${Buffer.from('{"iss":"https://other.example"}').toString('base64url')}.AA`;
  const within = { address: WITHIN };
  expect((await submit({ towerAccessToken: foreign }, within)).status).toBe(200);
  const wrong = await provider.token({ audience: 'https://other.example', groups: ['pipelines'] });
  for (const response of [
    await submit({ towerAccessToken: wrong }, within),
    await submit({}, { ...within, headers: { Authorization: `Bearer ${wrong}` } }),
  ]) {
    expect(response.status).toBe(401);
    expect(await response.json()).toEqual({ message: expect.stringContaining('its claim "aud" is not acceptable') });
  }
});

test('docker logs in with a token of the issuer as its password', async () => {
  const token = await provider.token({ groups: ['pipelines'] });
  const scope = 'repository:lab/library/app:pull';
  const login = await app.request(`/token?service=veneer&scope=${scope}`, {
    headers: { Authorization: basic('oidc', token) },
  });
  const { token: bearer } = z.object({ token: z.string() }).parse(await login.json());
  const pulled = await app.request('/v2/lab/library/app/manifests/1', {
    headers: { Authorization: `Bearer ${bearer}` },
  });
  expect(pulled.status).toBe(200);
});

test('while the issuer is away, its tokens are a 503 that says so, and all else is answered', async () => {
  await provider.stop();
  await app.restart();
  const fake = `${Buffer.from('{"alg":"ES256"}').toString('base64url')}.${Buffer.from(JSON.stringify({ iss: provider.issuer })).toString('base64url')}.AA`;
  const response = await submit({ towerAccessToken: fake });
  expect(response.status).toBe(503);
  expect(response.headers.get('retry-after')).toBe('10');
  expect(await response.json()).toEqual({ message: expect.stringContaining('access.oidc.issuer') });
  expect((await submit({}, { address: WITHIN })).status).toBe(200);
  await expect.poll(() => app.log.join('')).toContain('the keys of the OIDC issuer cannot be fetched');
});

test('a network may augment and build, and not push', async () => {
  const within = { address: WITHIN };
  const augmented = await submit({}, within);
  expect(augmented.status).toBe(200);
  const { requestId } = answerSchema.parse(await augmented.json());
  // The token works for the runtime that pulls, wherever it is.
  expect((await app.request(`/v2/wt/${requestId}/library/app/manifests/1`, { address: '192.168.0.9' })).status).toBe(
    200,
  );
  const frozen = await submit({ freeze: true, buildRepository: `${'127.0.0.1:8080'}/local/builds` }, within);
  expect(await frozen.text()).toContain('local/builds');
  expect(frozen.status).toBe(200);
  const upload = await app.request('/v2/local/builds/blobs/uploads/', { method: 'POST', ...within });
  expect(upload.status).toBe(401);
  for (const address of ['192.168.0.9', undefined])
    expect((await submit({}, address === undefined ? {} : { address })).status).toBe(401);
});
