// `veneer status` of a real service: what is slow, failing, limited or full.
import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createStatusCommand } from '../../src/cli/status.ts';
import { startServer, type TestServer } from '../support/server.ts';
import { runCommand } from './run.ts';

let cleanUp: AsyncDisposableStack;

beforeEach(() => {
  cleanUp = new AsyncDisposableStack();
});

afterEach(() => cleanUp.disposeAsync());

async function listen(answer: RequestListener): Promise<string> {
  const server = createServer(answer).listen(0, '127.0.0.1');
  await once(server, 'listening');
  cleanUp.defer(async () => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${Object(server.address()).port}`;
}

async function start(config: Record<string, unknown>): Promise<TestServer> {
  const server = await startServer(config);
  cleanUp.defer(() => server.close());
  return server;
}

function run(args: readonly string[], port: number) {
  const command = createStatusCommand({
    findService: () => ({ url: new URL(`http://127.0.0.1:${port}`) }),
    ...{ stdin: process.stdin, terminal: undefined, listenForInterrupt: () => new AbortController().signal },
  });
  return runCommand(command, args);
}

const MISSING: RequestListener = (_, response) => {
  response.writeHead(404, { 'content-type': 'application/json', 'ratelimit-remaining': '50;w=21600' });
  response.end('{"errors":[{"code":"MANIFEST_UNKNOWN"}]}');
};

test('says that all is well, and what upstreams did', async () => {
  const { port, send } = await start({ upstreams: { lab: { url: await listen(MISSING) } } });
  await send('GET', '/v2/lab/app/manifests/1');
  const { out, err, exitCode } = await run([], port);
  expect([err, exitCode]).toEqual(['no faults\n', 0]);
  expect(out).toMatch(/^service {2}UP, Veneer \S+ at http:\/\/127\.0\.0\.1:\d+, since 20/);
  expect(out).toMatch(/^cache {4}0 B of 47\.5 GiB, 0 items$/m);
  expect(out).toMatch(/^builds {3}0 running, 0 queued$/m);
  expect(out).toMatch(/^lab +\d+ +0 +0 +[\d.]+ ms +50$/m);
});

test('names an upstream that fails, and ends with 2', async () => {
  const { port, send } = await start({ upstreams: { lab: { url: 'http://127.0.0.1:1' } } });
  for (const tag of ['1', '2', '3']) await send('GET', `/v2/lab/app/manifests/${tag}`);
  const { out, err, exitCode } = await run([], port);
  expect([err, exitCode]).toEqual(['1 fault\n', 2]);
  expect(out).toMatch(/^FAULT upstream lab: failing: /m);
});

test('names an upstream that limits us, with what is left', async () => {
  const url = await listen((_, response) => {
    response.writeHead(429, { 'ratelimit-remaining': '3;w=21600' }).end();
  });
  const { port, send } = await start({ upstreams: { lab: { url } } });
  await send('GET', '/v2/lab/app/manifests/1');
  const { out } = await run(['--json'], port);
  const { upstreams, findings } = JSON.parse(out);
  expect(upstreams).toContainEqual(
    expect.objectContaining({ name: 'lab', limitRemaining: 3, limited: expect.any(Number) }),
  );
  expect(findings).toContainEqual({
    about: 'upstream lab',
    level: 'fault',
    message: 'limited: 3 requests are left of its rate limit',
    remedy: expect.stringContaining('a higher limit'),
  });
});

test('says what it may not read, and shows the rest', async () => {
  const { port } = await start({ access: { grants: [{ anyone: true, repositories: ['**'], allow: ['pull'] }] } });
  const { out, exitCode } = await run([], port);
  expect(exitCode).toBe(0);
  expect(out).toMatch(/^service {2}UP/);
  expect(out).toContain('note  metrics: metrics are for administrators');
  expect(out).toContain('→ set VENEER_TOKEN to a token made with --admin');
});

test('cannot tell where no service answers', async () => {
  const { err, exitCode } = await run([], 1);
  expect([err, exitCode]).toEqual([
    expect.stringMatching(/^error: no service answers at 127\.0\.0\.1:1 .*start it with/),
    1,
  ]);
});
