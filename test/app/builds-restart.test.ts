// Builds that go on after a restart, where callers need credentials: builders get theirs before anybody listens again.
import { afterEach, beforeEach, expect, test } from 'vitest';
import { generateImage } from '../support/images.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { startServer, type TestServer } from '../support/server.ts';
import { base64 } from './build-app.ts';

let registry: TestRegistry;
let server: TestServer;

beforeEach(async () => {
  registry = await startRegistry();
  const { root, content } = generateImage({ seed: 1, platforms: ['linux/amd64'], layers: 1, family: 'oci' });
  const contents = [...content].map(([digest, each]) => ({ ...each, ...(digest === root.digest && { tags: ['1'] }) }));
  registry.put('library/app', contents);
});

afterEach(async () => {
  await server.close();
  await registry.close();
});

test('a build that was under way continues under its id', async () => {
  const grants = [{ anyone: true, repositories: ['**'], allow: ['pull', 'push'] }];
  const config = { access: { grants }, upstreams: { lab: { url: registry.url } }, builds: { backends: ['embedded'] } };
  server = await startServer(config);
  const asked = Promise.withResolvers<void>();
  registry.intercept(({ url = '' }) => {
    const isBlob = url.includes('/blobs/');
    if (isBlob) asked.resolve();
    return isBlob;
  });
  const answer = await server.send('POST', '/v1alpha2/container', {
    headers: { Host: `127.0.0.1:${server.port}`, 'Content-Type': 'application/json' },
    body: JSON.stringify({ containerFile: base64('FROM lab/library/app:1\nLABEL a=b') }),
  });
  const { buildId } = JSON.parse(answer.body.toString());
  await asked.promise;
  registry.intercept();
  server = await server.restart(config);
  await server.send('GET', `/v1alpha1/builds/${buildId}/logs`);
  const { body } = await server.send('GET', `/v1alpha1/builds/${buildId}`);
  expect(JSON.parse(body.toString())).toMatchObject({ buildId, status: 'succeeded' });
});
