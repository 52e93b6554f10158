// Rights to see scans: what was found in a private image is for those who requested it.
import { execPath } from 'node:process';
import { fileURLToPath } from 'node:url';
import { afterEach, expect, test } from 'vitest';
import { generateImage } from '../support/images.ts';
import { ADMIN, type GuardedServer, startGuarded } from './callers.ts';

const scanner = fileURLToPath(new URL('../support/scanner.ts', import.meta.url));
const SCOPE = 'repository:local/app:pull';
let server: GuardedServer;

afterEach(() => server.close());

async function ask(path: string, user: string, body?: object) {
  const isKnown = user !== 'anonymous';
  const authorization = isKnown ? await server.authorizationOf({ user, by: 'password' }, SCOPE) : undefined;
  return server.send(body ? 'POST' : 'GET', path, {
    headers: {
      Host: `127.0.0.1:${server.port}`,
      ...(body && { 'Content-Type': 'application/json' }),
      ...(authorization && { Authorization: authorization }),
    },
    ...(body && { body: JSON.stringify(body) }),
  });
}

/** Pushes local/app:1. */
async function push(): Promise<void> {
  const options = { seed: 1, platforms: ['linux/amd64'], layers: 1, family: 'oci', index: false } as const;
  const { root, content } = generateImage(options);
  for (const [digest, { raw: body, mediaType }] of content) {
    const headers = { Authorization: ADMIN, 'Content-Type': mediaType };
    if (digest === root.digest) await server.send('PUT', '/v2/local/app/manifests/1', { headers, body });
    else await server.send('POST', `/v2/local/app/blobs/uploads/?digest=${digest}`, { headers, body });
  }
}

async function scanBy(user: string): Promise<string> {
  const body = { containerImage: 'local/app:1', containerConfig: { env: ['A=secret'] }, scanMode: 'async' };
  const answer = await ask('/v1alpha2/container', user, body);
  expect(answer.status, answer.body.toString()).toBe(200);
  return JSON.parse(answer.body.toString()).scanId;
}

test('a scan is for those who requested it and may pull, and for administrators', async () => {
  server = await startGuarded({ scans: { command: [execPath, scanner, '{layout}'] } });
  await push();
  const id = await scanBy('builder');
  const seenBy = async (user: string) => {
    const paths = [`/v1alpha1/scans/${id}`, `/v1alpha1/scans/${id}/logs`, `/view/scans/${id}`];
    return Promise.all(paths.map(async path => (await ask(path, user)).status));
  };
  expect(await seenBy('builder')).toEqual([200, 200, 200]);
  expect(await seenBy('admin')).toEqual([200, 200, 200]);
  expect(await seenBy('reader')).toEqual([404, 404, 404]);
  expect(await seenBy('nobody')).toEqual([403, 403, 403]);
  expect(await seenBy('anonymous')).toEqual([401, 401, 401]);
  expect((await ask(`/v1alpha1/scans/${id}/spdx`, 'reader')).body.toString()).toContain('this scan is unknown');
  expect(await scanBy('reader')).toBe(id);
  expect(await seenBy('reader')).toEqual([200, 200, 200]);
  expect(await seenBy('writer')).toEqual([404, 404, 404]);
});
