// `veneer repo ls` and the catalog behind it: only names that the caller may pull.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { createRepoCommand } from '../../src/cli/repo.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { basic, htpasswdOf, temporaryDirectory } from '../access/fixture.ts';
import { ADMIN, startGuarded } from '../app/callers.ts';
import { startServer, type TestServer } from '../support/server.ts';
import { runCommand } from './run.ts';

async function start(config: Record<string, unknown> = {}): Promise<TestServer> {
  const server = await startServer(config);
  onTestFinished(() => server.close());
  return server;
}

/** An image without layers. */
async function push(server: TestServer, name: string, tag: string, authorization?: string): Promise<void> {
  const headers = authorization === undefined ? {} : { authorization };
  const config = '{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}';
  const digest = digestOf(Buffer.from(config));
  const path = `/v2/${name}/blobs/uploads/?digest=${digest}`;
  const length = { 'content-length': `${config.length}`, 'content-type': 'application/octet-stream' };
  expect((await server.send('POST', path, { headers: { ...headers, ...length }, body: config })).status).toBe(201);
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const manifest = JSON.stringify({
    ...{ schemaVersion: 2, mediaType, layers: [] },
    config: { mediaType: 'application/vnd.oci.image.config.v1+json', digest, size: config.length },
  });
  const sent = { headers: { ...headers, 'content-type': mediaType }, body: manifest };
  expect((await server.send('PUT', `/v2/${name}/manifests/${tag}`, sent)).status).toBe(201);
}

function run(args: readonly string[], port: number, token?: string) {
  const command = createRepoCommand({
    findService: () => ({ url: new URL(`http://127.0.0.1:${port}`), token }),
    ...{ stdin: process.stdin, terminal: undefined, listenForInterrupt: () => new AbortController().signal },
  });
  return runCommand(command, args);
}

test('lists repositories and tags', async () => {
  const server = await start();
  for (const [name, tag] of [
    ['local/b', '1'],
    ['local/a/deep', '1'],
    ['local/a', '2'],
    ['local/a', '1'],
  ] as const)
    await push(server, name, tag);
  const { out } = await run(['ls'], server.port);
  expect(out.trim().split('\n').sort()).toEqual(['local/a', 'local/a/deep', 'local/b']);
  expect(await run(['ls', 'local/a'], server.port)).toEqual({ out: '1\n2\n', err: '', exitCode: 0 });
  expect(JSON.parse((await run(['ls', 'local/a', '--json'], server.port)).out)).toEqual(['1', '2']);
  expect(await run(['ls', 'local/none'], server.port)).toMatchObject({
    err: expect.stringMatching(/answered 404, .*local\/none/),
    exitCode: 1,
  });
});

test('the catalog has pages, each of which leads to the next', async () => {
  const server = await start();
  for (const name of ['local/a', 'local/b', 'local/c']) await push(server, name, '1');
  const first = await server.send('GET', '/v2/_catalog?n=2');
  expect([JSON.parse(first.body.toString()), first.headers.link]).toEqual([
    { repositories: ['local/a', 'local/b'] },
    '</v2/_catalog?n=2&last=local%2Fb>; rel="next"',
  ]);
  const second = await server.send('GET', '/v2/_catalog?n=2&last=local%2Fb');
  expect([JSON.parse(second.body.toString()), second.headers.link]).toEqual([{ repositories: ['local/c'] }, undefined]);
  expect((await server.send('GET', '/v2/_catalog?n=x')).status).toBe(400);
});

test('a caller sees what it may pull, and nobody sees more', async () => {
  const folder = await temporaryDirectory();
  const path = join(folder, 'htpasswd');
  await writeFile(path, htpasswdOf({ ada: 'secret', bob: 'secret' }));
  const server = await start({
    access: {
      htpasswd: path,
      grants: [
        { users: ['ada'], repositories: ['local/**'], allow: ['pull', 'push'] },
        { users: ['bob'], repositories: ['local/b'], allow: ['pull'] },
        { anyone: true, repositories: ['local/open'], allow: ['pull'] },
      ],
    },
  });
  for (const name of ['local/a', 'local/b', 'local/open']) await push(server, name, '1', `Basic ${btoa('ada:secret')}`);
  expect((await run(['ls'], server.port, 'ada:secret')).out).toBe('local/a\nlocal/b\nlocal/open\n');
  expect((await run(['ls'], server.port, 'bob:secret')).out).toBe('local/b\nlocal/open\n');
  expect(await run(['ls'], server.port)).toMatchObject({
    out: '',
    err: expect.stringContaining('set VENEER_TOKEN'),
    exitCode: 1,
  });
  expect((await run(['ls', 'local/a'], server.port, 'bob:secret')).err).toContain('set VENEER_TOKEN');
});

test('a bearer token for the catalog lists what its user may pull, and pulls nothing', async () => {
  const guarded = await startGuarded();
  onTestFinished(() => guarded.close());
  for (const name of ['local/app', 'local/other']) await push(guarded, name, '1', ADMIN);
  const challenge = await guarded.send('GET', '/v2/_catalog');
  expect([challenge.status, challenge.headers['www-authenticate']]).toEqual([
    401,
    expect.stringContaining('scope="registry:catalog:*"'),
  ]);
  const tokenOf = async (user: string, scope: string) => {
    const query = new URLSearchParams({ service: 'veneer', ...(scope && { scope }) });
    const headers = { Authorization: basic(user, 'password') };
    return `Bearer ${JSON.parse(String((await guarded.send('GET', `/token?${query}`, { headers })).body)).token}`;
  };
  const list = async (Authorization: string) => {
    const { status, body } = await guarded.send('GET', '/v2/_catalog', { headers: { Authorization } });
    return [status, JSON.parse(String(body)).repositories];
  };
  const token = await tokenOf('reader', 'registry:catalog:*');
  expect(await list(token)).toEqual([200, ['local/app']]);
  expect(await list(await tokenOf('nobody', 'registry:catalog:*'))).toEqual([200, []]);
  expect(await list(await tokenOf('reader', ''))).toEqual([200, []]);
  expect(await list(await tokenOf('admin', 'registry:catalog:* repository:local/app:pull'))).toEqual([
    200,
    ['local/app', 'local/other'],
  ]);
  const headers = { Authorization: token };
  expect((await guarded.send('GET', '/v2/local/app/manifests/1', { headers })).status).toBe(401);
});
