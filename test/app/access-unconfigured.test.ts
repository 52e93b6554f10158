// Without a word about access in the configuration: all for this machine, and nothing but pulls for the rest of the world.
import { afterEach, expect, test } from 'vitest';
import { makeIndex } from '../conformance/documents.ts';
import { codeOf, type Sent, startServer, type TestServer } from '../support/server.ts';

const index = makeIndex([]);
const manifest: Sent = { headers: { 'Content-Type': index.mediaType }, body: index.raw };

let server: TestServer;

afterEach(() => server.close());

test('anyone on this machine may do all, as the log says', async () => {
  server = await startServer();
  expect((await push()).status).toBe(201);
  expect((await server.send('GET', '/v2/local/app/manifests/1')).status).toBe(200);
  expect((await server.send('DELETE', '/v2/local/app/manifests/1')).status).toBe(202);
  expect(server.log.join('')).toContain(
    'access is open: anyone on this machine may pull, push and delete; set \\"access\\"',
  );
});

test.each([
  ['a public address', { listen: '0.0.0.0:8080' }],
  ['a public address of IPv6', { listen: '[::]:8080' }],
  ['loopback behind a public name', { publicUrl: 'https://registry.example' }],
])('on %s anyone may pull, and a push says what to configure', async (_, config) => {
  server = await startServer();
  await push();
  server = await server.restart(config);
  expect((await server.send('GET', '/v2/local/app/manifests/1')).status).toBe(200);
  for (const method of ['PUT', 'DELETE']) {
    const answer = await server.send(method, '/v2/local/app/manifests/1', method === 'PUT' ? manifest : {});
    expect([answer.status, codeOf(answer)]).toEqual([403, 'DENIED']);
    expect(answer.body.toString()).toContain('set \\"access\\" in veneer.yaml to change who may');
  }
  expect(server.log.join('')).toContain('access is for reading: anyone may pull, and nobody may push or delete');
});

function push(headers: Readonly<Record<string, string>> = {}) {
  const { body = '' } = manifest;
  return server.send('PUT', '/v2/local/app/manifests/1', { headers: { ...manifest.headers, ...headers }, body });
}
