// Submits that need more than their own fields, and what is known of a token afterwards: a real app over a real registry.
import { afterEach, beforeEach, expect, test } from 'vitest';
import { HOST, startApi, type TestApi } from '../api.ts';

const UNKNOWN = 'this token is unknown, has expired or was revoked: submit the request again for a new one';

let api: TestApi;

beforeEach(async () => {
  api = await startApi({ limits: { requestBody: '1KiB' } });
});

afterEach(async () => {
  await api.close();
});

test.each(['/v1alpha2/container', '/container-token'])('%s gives out a token', async path => {
  api.putImage();
  const response = await api.post(path, { containerImage: api.image });
  const { containerToken, requestId, targetImage, expiration } = Object(await response.json());
  expect(response.status).toBe(200);
  expect(containerToken).toMatch(/^[0-9a-f]{24}$/);
  expect([requestId, targetImage]).toEqual([containerToken, `${HOST}/wt/${containerToken}/library/app:1`]);
  expect(new Date(expiration).toISOString()).toBe(expiration);
});

test('shows the request, the source and the target of a token', async () => {
  const { root } = api.putImage();
  const asked = { containerConfig: { env: ['A=b'] }, containerPlatform: 'amd64', fingerprint: 'f', workflowId: 'w' };
  const token = await submit({ ...asked, towerWorkspaceId: 7 });
  const record = Object(await (await api.request('GET', `/v1alpha2/container/${token}`)).json());
  const { request, source, wave } = Object(await (await api.request('GET', `/container-token/${token}`)).json());
  expect(record).toMatchObject({
    id: token,
    workspaceId: 7,
    containerImage: api.image,
    containerConfig: asked.containerConfig,
    platform: 'amd64',
    fingerprint: 'f',
    sourceImage: api.image,
    sourceDigest: root.digest,
    waveImage: `${HOST}/wt/${token}/library/app:1`,
  });
  expect(request).toMatchObject({ containerImage: api.image, platform: 'amd64', timestamp: record.timestamp });
  expect(source).toEqual({ image: record.sourceImage, digest: record.sourceDigest });
  expect(wave).toEqual({ image: record.waveImage, digest: record.waveDigest });
});

test('a token that was revoked is unknown to every route', async () => {
  api.putImage();
  const token = await submit({});
  const revoked = await api.request('DELETE', `/container-token/${token}`);
  expect([revoked.status, await revoked.json()]).toEqual([200, expect.objectContaining({ token })]);
  for (const [method, path] of routesOf(token)) {
    const response = await api.request(method, path);
    expect([response.status, await response.json()]).toEqual([404, { message: UNKNOWN }]);
  }
});

test.each(['0123456789ab', '0123456789AB', 'x', '%2e%2e%2fx', 'a'.repeat(5000)])(
  'no route knows the token %.20s',
  async id => {
    for (const [method, path] of routesOf(id)) {
      const response = await api.request(method, path);
      expect([response.status, await response.json()]).toEqual([404, { message: expect.any(String) }]);
    }
  },
);

test.each(['/v1alpha2/container', '/container-token', '/v1alpha1/inspect'])(
  '%s refuses a body over the limit, of known length or not',
  async path => {
    const body = JSON.stringify({ containerImage: api.image, novelty: 'x'.repeat(1024) });
    const whole = await api.post(path, body);
    const streamed = await api.app.fetch(
      new Request(`http://${HOST}${path}`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: new Blob([body]).stream(),
        duplex: 'half',
      }),
    );
    for (const response of [whole, streamed]) {
      const message = 'the body is larger than the limit of 1024 bytes';
      expect([response.status, await response.json()]).toEqual([413, { message }]);
    }
  },
);

test.each(['{', '', '"\ud800"'])('refuses the body %j, which is no JSON object', async body => {
  const response = await api.post('/v1alpha2/container', body);
  expect([response.status, await response.json()]).toEqual([400, { message: 'the body must be a JSON object' }]);
});

test.each([
  ['has more than 50000 values', `{"containerConfig":{"env":[${'0,'.repeat(60_000)}0]}}`],
  ['has more than 50000 values', `{"containerConfig":{"labels":{${'"":0,'.repeat(30_000)}"a":0}}}`],
  ['nests deeper than 64', `{"containerConfig":{"env":${'['.repeat(500)}${']'.repeat(500)}}}`],
  ['nests deeper than 64', '['.repeat(100_000)],
])('refuses a body that %s before it is parsed', async (reason, body) => {
  await api.close();
  api = await startApi();
  for (const path of ['/v1alpha2/container', '/container-token', '/v1alpha1/inspect']) {
    const response = await api.post(path, body);
    expect([response.status, await response.json()]).toEqual([400, { message: `the body ${reason}` }]);
  }
});

test('refuses a body while those of others take all the room, and takes it afterwards', async () => {
  api.putImage();
  const chunk = Buffer.alloc(1024, ' ');
  const begun = Array.from({ length: 4 }, () => {
    const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
    const writer = writable.getWriter();
    const headers = { Host: HOST, 'Content-Type': 'application/json' };
    const init = { method: 'POST', headers, body: readable, duplex: 'half' as const };
    return { writer, response: api.app.fetch(new Request(`http://${HOST}/v1alpha2/container`, init)) };
  });
  for (const { writer } of begun) await writer.write(chunk);
  const refused = await api.post('/v1alpha2/container', { containerImage: api.image });
  expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '2']);
  for (const { writer, response } of begun) {
    await writer.close();
    expect((await response).status).toBe(400);
  }
  await submit({});
});

test.each([
  [{}, 421, 'add the name to \\"hosts\\" in veneer.yaml'],
  [{ hosts: ['attacker.example'] }, 400, 'set publicUrl'],
  [{ listen: '0.0.0.0:8080' }, 400, 'set publicUrl'],
])('names no image after a Host that anybody may claim (%o)', async (config, status, message) => {
  const other = await startApi(config);
  const headers = { Host: 'attacker.example', 'Content-Type': 'application/json' };
  const body = JSON.stringify({ containerImage: other.image });
  const request = new Request(`http://${HOST}/v1alpha2/container`, { method: 'POST', headers, body });
  const response = await other.app.fetch(request);
  expect([response.status, await response.text()]).toEqual([status, expect.stringContaining(message)]);
  await other.close();
});

test('keeps access tokens out of the log, and out of what it shows', async () => {
  api.putImage();
  const secrets = { towerAccessToken: 'canary-access', towerRefreshToken: 'canary-refresh' };
  const token = await submit({ ...secrets, towerEndpoint: 'https://canary.example/api' });
  const shown = await Promise.all(
    [`/v1alpha2/container/${token}`, `/container-token/${token}`].map(async path =>
      (await api.request('GET', path)).text(),
    ),
  );
  expect(shown.join('')).toContain(token);
  expect([...shown, ...api.log].join('')).not.toContain('canary');
});

function routesOf(token: string): readonly (readonly [method: string, path: string])[] {
  return [
    ['GET', `/v1alpha2/container/${token}`],
    ['GET', `/v1alpha2/container/${token}/status`],
    ['GET', `/container-token/${token}`],
    ['DELETE', `/container-token/${token}`],
  ];
}

async function submit(fields: object): Promise<string> {
  const response = await api.post('/v1alpha2/container', { containerImage: api.image, ...fields });
  return Object(await response.json()).requestId;
}
