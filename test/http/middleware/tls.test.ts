// TLS of our own, with real clients: who is let in, with which certificate, and what becomes of a changed one.
import { once } from 'node:events';
import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage } from 'node:http';
import { Agent, type RequestOptions, request } from 'node:https';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { text } from 'node:stream/consumers';
import { connect, type TLSSocket } from 'node:tls';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { configSchema } from '../../../src/config/schema.ts';
import { createConnections } from '../../../src/http/middleware/connections.ts';
import { createTlsListener, readTlsFiles, type TlsFiles } from '../../../src/http/middleware/tls.ts';
import { pem } from '../../upstream/server.ts';

let folder: string;
let files: TlsFiles;
let cleanUp: AsyncDisposableStack;

beforeEach(async () => {
  cleanUp = new AsyncDisposableStack();
  folder = await mkdtemp(join(tmpdir(), 'veneer-tls-'));
  cleanUp.defer(() => rm(folder, { recursive: true }));
  files = { cert: join(folder, 'tls.crt'), key: join(folder, 'tls.key') };
  await use('server');
});

afterEach(() => cleanUp.disposeAsync());

async function use(name: 'server' | 'expired'): Promise<void> {
  await copyFile(resolve('fixtures/certificates', `${name}.pem`), files.cert);
  await copyFile(resolve('fixtures/certificates', `${name}.key`), files.key);
}

/** Echoes bodies. */
async function listen(given = files) {
  const { limits } = configSchema({}).parse({});
  const server = createServer((incoming, response) => void incoming.pipe(response));
  createConnections({ limits }).guard(server);
  const onReloaded = vi.fn();
  const onFault = vi.fn();
  const listener = createTlsListener({
    ...{ files: given, server, maxConnections: 100, handshakeMs: 10_000, checkEveryMs: 3_600_000, onReloaded, onFault },
  });
  const port = await new Promise<number>(done => listener.listen({ host: '127.0.0.1', port: 0 }, done));
  cleanUp.defer(async () => {
    listener.closeAllConnections();
    await new Promise<void>(done => listener.close(done));
  });
  return { port, listener, onReloaded, onFault };
}

async function ask(port: number, body: string, options: RequestOptions = {}) {
  const sent = request({ port, host: '127.0.0.1', method: 'POST', ca: pem('ca.pem'), agent: false, ...options });
  sent.end(body);
  const [response]: IncomingMessage[] = await once(sent, 'response');
  return response && { status: response.statusCode, body: await text(response) };
}

/** The name in the certificate that a new connection is shown. */
async function nameAt(port: number): Promise<string | undefined> {
  const socket: TLSSocket = connect({ port, host: '127.0.0.1', rejectUnauthorized: false });
  await once(socket, 'secureConnect');
  const { subject } = socket.getPeerCertificate();
  socket.destroy();
  return String(subject.CN);
}

test('serves requests, large ones and several on one connection', async () => {
  const { port } = await listen();
  const large = 'x'.repeat(10 * 1024 * 1024);
  expect(await ask(port, large)).toEqual({ status: 200, body: large });
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  expect(await ask(port, 'one', { agent })).toEqual({ status: 200, body: 'one' });
  expect(await ask(port, 'two', { agent })).toEqual({ status: 200, body: 'two' });
  agent.destroy();
});

test('lets in only clients with a certificate of clientCa', async () => {
  const { port } = await listen({ ...files, clientCa: resolve('fixtures/certificates/ca.pem') });
  await expect(ask(port, 'x')).rejects.toThrow(/certificate required|ECONNRESET|socket hang up/);
  const stranger = { cert: pem('expired.pem'), key: pem('expired.key') };
  await expect(ask(port, 'x', stranger)).rejects.toThrow(/unknown ca|certificate|ECONNRESET|socket hang up/);
  const known = { cert: pem('client.pem'), key: pem('client.key') };
  expect(await ask(port, 'x', known)).toEqual({ status: 200, body: 'x' });
});

test('shows a changed certificate to new connections, and keeps those that are open', async () => {
  const { port, listener, onReloaded } = await listen();
  const before = await nameAt(port);
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  await ask(port, 'one', { agent });
  await use('expired');
  listener.check();
  expect(await nameAt(port)).toBe('expired.lab.test');
  expect(before).not.toBe('expired.lab.test');
  expect(onReloaded).toHaveBeenCalledExactlyOnceWith({ validTo: new Date('2021-01-01T00:00:00Z') });
  expect(await ask(port, 'two', { agent })).toEqual({ status: 200, body: 'two' });
  agent.destroy();
});

test('looks for changes by itself', async () => {
  const server = createServer((_, response) => response.end());
  const onReloaded = vi.fn();
  const listener = createTlsListener({
    ...{ files, server, maxConnections: 100, handshakeMs: 10_000, checkEveryMs: 10, onReloaded, onFault: vi.fn() },
  });
  const port = await new Promise<number>(done => listener.listen({ host: '127.0.0.1', port: 0 }, done));
  cleanUp.defer(() => new Promise<void>(done => listener.close(done)));
  await use('expired');
  await expect.poll(() => nameAt(port)).toBe('expired.lab.test');
});

test.each([
  ['a certificate that is none', () => writeFile(files.cert, 'none'), /^tls\.cert: .*: expected a certificate as PEM$/],
  ['a key of another certificate', () => writeFile(files.key, pem('client.key')), /^tls\.key: .* is not the key of/],
  ['a file that is gone', () => rm(files.key), /^tls\.key: cannot read .* \(ENOENT\)$/],
  [
    'half a file',
    () => writeFile(files.cert, pem('server.pem').slice(0, 300)),
    /^tls\.cert: .*: expected a certificate/,
  ],
])('stays with what it has where the change is %s, and says so once', async (_, change, message) => {
  const { port, listener, onReloaded, onFault } = await listen();
  const before = await nameAt(port);
  await change();
  listener.check();
  listener.check();
  expect(await nameAt(port)).toBe(before);
  expect(onFault.mock.calls.map(([fault]) => fault.message)).toEqual([expect.stringMatching(message)]);
  await use('expired');
  listener.check();
  expect(await nameAt(port)).toBe('expired.lab.test');
  expect(onReloaded).toHaveBeenCalledOnce();
});

test('a start with files that cannot be used says which', () => {
  expect(() => readTlsFiles({ ...files, key: join(folder, 'none') })).toThrow(
    /^tls\.key: cannot read .*none \(ENOENT\)$/,
  );
  expect(() => readTlsFiles({ ...files, clientCa: files.key })).toThrow(
    /^tls\.clientCa: .*: expected certificates as PEM$/,
  );
});

test('no message quotes a key', async () => {
  await writeFile(files.key, 'hunter2');
  expect(() => readTlsFiles(files)).toThrow(expect.not.stringContaining('hunter2'));
});

test('a client that speaks plain HTTP, or breaks off, harms nobody', async () => {
  const { port } = await listen();
  await expect(fetch(`http://127.0.0.1:${port}/`)).rejects.toThrow('fetch failed');
  expect(await ask(port, 'x')).toEqual({ status: 200, body: 'x' });
});
