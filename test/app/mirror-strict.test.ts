// A strict upstream: failures of pulls at the root, by which dockerd mirrors Docker Hub, are such that it does not go there itself.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { makeContent, makeIndex } from '../conformance/documents.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { startServer, type TestServer } from '../support/server.ts';

const blob = makeContent('a blob', 'application/octet-stream');

let registry: TestRegistry;
let server: TestServer;

beforeEach(async () => {
  registry = await startRegistry();
  registry.put('team/app', [{ ...makeIndex([]), tags: ['3'] }, blob]);
});

afterEach(async () => {
  await server.close();
  await registry.close();
});

async function start(settings: Readonly<Record<string, unknown>> = {}): Promise<void> {
  server = await startServer({ upstreams: { 'docker.io': { url: registry.url } }, ...settings });
}

describe('a strict upstream at the root', () => {
  const DOCKER = {
    'User-Agent': 'docker/20.10.24 go/go1.19.8 os/linux arch/amd64 UpstreamClient(Docker-Client/28.2.2)',
  };

  async function startStrict(settings: Readonly<Record<string, unknown>> = {}) {
    await start({ upstreams: { 'docker.io': { url: registry.url, strict: true, deny: ['secret/**'] } }, ...settings });
  }

  async function reasonOf(path: string, headers: Readonly<Record<string, string>>, method = 'GET') {
    const { status, statusText } = await fetch(`http://127.0.0.1:${server.port}${path}`, { method, headers });
    return { status, statusText };
  }

  test.each([
    ['what the upstream has not', '/v2/team/app/manifests/9'],
    ['a repository that is closed', '/v2/secret/app/manifests/1'],
    ['a blob that is not there', `/v2/team/app/blobs/sha256:${'0'.repeat(64)}`],
    ['a name that is none', '/v2/team/App/manifests/1'],
  ])('%s is a failure that dockerd takes as final, and as it was to others', async (_, path) => {
    await startStrict();
    for (const method of ['GET', 'HEAD']) {
      const { status, statusText } = await reasonOf(path, DOCKER, method);
      expect(status).toBe(503);
      expect(statusText).toMatch(/ \(docker\.io is strict: no such process\)$/);
      expect((await reasonOf(path, {}, method)).status).toBeLessThan(500);
    }
  });

  test('what is there is served as ever', async () => {
    await startStrict();
    expect(await reasonOf('/v2/team/app/manifests/3', DOCKER)).toEqual({ status: 200, statusText: 'OK' });
    expect((await reasonOf(`/v2/team/app/blobs/${blob.digest}`, DOCKER)).status).toBe(200);
  });

  test('an upstream that fails, and a caller who may not, are final, with the reason', async () => {
    await startStrict({ access: {} });
    expect(await reasonOf('/v2/team/app/manifests/3', DOCKER)).toMatchObject({ status: 503 });
    registry.intercept((_, response) => {
      response.writeHead(500).end();
      return true;
    });
    server = await server.restart({ upstreams: { 'docker.io': { url: registry.url, strict: true } } });
    const { status, statusText } = await reasonOf('/v2/team/app/manifests/3', DOCKER);
    expect([status, statusText]).toEqual([503, expect.stringContaining('docker.io: team/app/manifests/3: status 500')]);
  });

  test.each([
    ['names another registry', '/v2/docker.io/team/app/manifests/9'],
    ['says ns', '/v2/team/app/manifests/9?ns=docker.io'],
  ])('a request that %s is no mirror of dockerd, and gets the failure as it is', async (_, path) => {
    await startStrict();
    expect((await reasonOf(path, DOCKER)).status).toBe(404);
  });

  test('without strict a failure is as it is', async () => {
    await start();
    expect(await reasonOf('/v2/team/app/manifests/9', DOCKER)).toEqual({
      status: 404,
      statusText: 'docker.io: team/app/manifests/9: status 404 (MANIFEST_UNKNOWN): check the name and the tag',
    });
  });
});

describe('the reason phrase of an error of the registry', () => {
  async function phraseOf(path: string): Promise<string> {
    const { statusText, status } = await fetch(`http://127.0.0.1:${server.port}${path}`);
    expect(status).toBeGreaterThanOrEqual(400);
    return statusText;
  }

  test('is its message, in printable ASCII and of bounded length', async () => {
    await start();
    expect(await phraseOf('/v2/docker.io/team/app/manifests/a%0a%1b%5b31m%C3%A9')).toBe(
      'invalid tag "a\\n\\u001b[31m?"',
    );
    expect(await phraseOf(`/v2/docker.io/team/${'A'.repeat(2000)}/manifests/1`)).toMatch(/^[\x20-\x7e]{20,403}$/);
  });

  test('has no token', async () => {
    await start();
    const token = '0123456789abcdef01234567';
    for (const path of [`wt/${token}/app/manifests/1?ns=quay.io`, `docker.io/wt/${token}/App/manifests/1`])
      expect(await phraseOf(`/v2/${path}`)).not.toContain(token);
  });

  test('is as ever where another API answers', async () => {
    await start();
    expect(await phraseOf('/v1alpha2/container/0123456789ab')).toBe('Not Found');
  });
});
