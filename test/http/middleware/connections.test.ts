// Connections in: what a client owes us has limits, and nobody can take all places.
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, expect, test } from 'vitest';
import {
  type AnswersFirst,
  type ConnectionLimits,
  type ConnectionsDeps,
  createConnections,
  type DroppedConnections,
} from '../../../src/http/middleware/connections.ts';

const LIMITS: ConnectionLimits = {
  connections: 100,
  connectionsPerAddress: 100,
  requestHeadMs: 60_000,
  keepAliveMs: 60_000,
  requestBodyRateBytes: 1024,
  requestBodyGraceMs: 60_000,
  unreadResponseMs: 60_000,
  idleConnectionMs: 60_000,
};

const servers: Server[] = [];
const sockets: Socket[] = [];

afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
  for (const server of servers.splice(0)) server.close().closeAllConnections();
});

type Answer = (request: IncomingMessage, response: ServerResponse) => void;

const OK: Answer = (request, response) => request.resume().on('end', () => response.end('ok'));

/** Listens on all of this machine, so that the address of a connection can be chosen. */
async function listen(
  limits: Partial<ConnectionLimits>,
  answer: Answer = OK,
  { repeat, ...deps }: Partial<ConnectionsDeps> & { readonly repeat?: AnswersFirst['repeat'] } = {},
) {
  const connections = createConnections({ limits: { ...LIMITS, ...limits }, findMaxFiles: () => undefined, ...deps });
  const server = createServer({ connectionsCheckingInterval: 50 }, async (request, response) => {
    const authorization = request.headers.authorization;
    const asked = new Request(`http://localhost${request.url}`, { headers: authorization ? { authorization } : {} });
    const refusal = connections.refuse(request.socket, asked);
    if (!refusal) return answer(request, response);
    response.writeHead(refusal.status, Object.fromEntries(refusal.headers)).end(await refusal.text());
  });
  servers.push(server);
  connections.guard(server, repeat && { answer: () => false, repeat });
  server.listen(0);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;

  /** Sends `text` and gives what comes back, and whether the connection is closed. */
  async function open(text: string, options: { readonly localAddress?: string } = {}) {
    const socket = connect({ port, host: '127.0.0.1', ...options });
    sockets.push(socket);
    const client = {
      socket,
      received: '',
      isClosed: false,
      closed: new Promise(resolve => socket.once('close', resolve)),
    };
    socket.on('error', () => {}).on('data', data => (client.received += data.toString()));
    socket.on('close', () => (client.isClosed = true));
    await once(socket, 'connect').catch(() => {});
    socket.write(text);
    return client;
  }

  return { server, open };
}

const GET = 'GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n';
const HEALTH = 'GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n';
const half = 'GET /x HTTP/1.1\r\n';
const post = (bytes: number) => `POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${bytes}\r\n\r\n`;

/** Answers at once, or only begins to. */
const holding: Answer = (request, response) => {
  if (request.url === '/hold') response.write('begun');
  else response.end('ok');
};

async function hold(open: Awaited<ReturnType<typeof listen>>['open']) {
  const held = await open(GET.replace('/x', '/hold'));
  await until(() => held.received.includes('begun'));
  return held;
}

function countOf(server: Server): Promise<number> {
  return new Promise(resolve => server.getConnections((_, count) => resolve(count)));
}

async function until(isTrue: () => boolean): Promise<void> {
  await expect.poll(isTrue).toBe(true);
}

test.each([
  ['a head that never ends', half],
  ['a connection that says nothing', ''],
])('cuts %s', async (_, text) => {
  const { open } = await listen({ requestHeadMs: 300 });
  const client = await open(text);
  const drip = setInterval(() => client.socket.write(text && 'X-a: b\r\n'), 50);
  await client.closed;
  clearInterval(drip);
});

test('cuts a body that trickles, and no body that keeps the rate', async () => {
  const { open } = await listen({ requestBodyGraceMs: 400, requestBodyRateBytes: 10_000 });
  const slow = await open(post(500_000));
  const steady = await open(post(500_000));
  const pieces = Array.from({ length: 50 }, () => 'x'.repeat(10_000));
  const timer = setInterval(() => {
    slow.socket.write('x');
    // No byte more than was announced: it would begin a second request, which is answered by a 400.
    steady.socket.write(pieces.pop() ?? '');
  }, 50);
  await slow.closed;
  expect(steady.isClosed).toBe(false);
  await until(() => steady.received.endsWith('ok'));
  clearInterval(timer);
});

test('lets a body stand still as long as its handler has not taken what came', async () => {
  const mayTake = Promise.withResolvers<void>();
  const { open } = await listen({ requestBodyGraceMs: 100 }, async (request, response) => {
    await mayTake.promise;
    OK(request, response);
  });
  const client = await open(`${post(2)}x`);
  await delay(500);
  expect(client.isClosed).toBe(false);
  client.socket.write('y', () => mayTake.resolve());
  await until(() => client.received.endsWith('ok'));
});

test('cuts a client that does not read what waits for it, and none for which nothing has come yet', async () => {
  const { open, server } = await listen({ unreadResponseMs: 300 }, (request, response) => {
    if (request.url === '/quiet') response.writeHead(200).write('begun');
    else if (request.url === '/wait') return;
    else response.write(Buffer.alloc(64 * 1024 * 1024));
  });
  const unread = await open('');
  unread.socket.pause();
  unread.socket.write(GET);
  const quiet = await open(GET.replace('/x', '/quiet'));
  const waiting = await open(GET.replace('/x', '/wait'));
  await until(() => quiet.received.includes('begun'));
  await expect.poll(() => countOf(server)).toBe(2);
  await delay(700);
  expect([quiet.isClosed, waiting.isClosed]).toEqual([false, false]);
});

test('cuts a response in which nothing goes either way for too long', async () => {
  const { open } = await listen({ unreadResponseMs: 100, idleConnectionMs: 500 }, (_, response) => {
    response.writeHead(200).write('begun');
  });
  await (await open(GET)).closed;
});

test('drops the longest idle connections when all places are taken', async () => {
  const { open } = await listen({ connections: 3 });
  const [first, second, third] = [await open(half), await open(half), await open(half)];
  const fourth = await open(GET);
  await until(() => fourth.received.endsWith('ok'));
  await first.closed;
  expect([second.isClosed, third.isClosed]).toEqual([false, false]);
  await open(half);
  await second.closed;
});

test('keeps those of known callers longest', async () => {
  const { open } = await listen({ connections: 2 });
  const known = await open(GET.replace('\r\n\r\n', '\r\nAuthorization: Basic eA==\r\n\r\n'));
  await until(() => known.received.endsWith('ok'));
  for (let i = 0; i < 10; i++) await open(half);
  known.received = '';
  known.socket.write(GET);
  await until(() => known.received.endsWith('ok'));
});

test('answers health checks and known callers alone where no place is left and nobody is idle', async () => {
  const { open } = await listen({ connections: 2 }, holding);
  const held = [await hold(open), await hold(open)];
  const stranger = await open(GET);
  await until(() => stranger.received.includes('503 Service Unavailable') && stranger.isClosed);
  expect(stranger.received).toContain('limits.connections');
  const health = await open(HEALTH);
  await until(() => health.received.endsWith('ok'));
  const known = await open(GET.replace('\r\n\r\n', '\r\nAuthorization: Basic right\r\n\r\n'));
  await until(() => known.received.endsWith('ok'));
  expect(held.map(({ isClosed }) => isClosed)).toEqual([false, false]);
});

test('leaves a health check its place, whatever comes without one', async () => {
  const { open } = await listen({ connections: 2 }, holding);
  for (let i = 0; i < 2; i++) await hold(open);
  for (let i = 0; i < 300; i++) await open(half);
  const health = await open(HEALTH);
  await until(() => health.received.endsWith('ok'));
});

test('gives no address more than its part, but this machine as many as in all', async () => {
  const crowded: DroppedConnections[] = [];
  const { open, server } = await listen({ connectionsPerAddress: 2 }, OK, { onDropped: seen => crowded.push(seen) });
  for (let i = 0; i < 20; i++) await open(half, { localAddress: '127.0.0.9' });
  expect(await countOf(server)).toBe(20);
  // As a connection of another machine.
  server.prependListener('connection', socket =>
    Object.defineProperty(socket, 'remoteAddress', { value: '203.0.113.7' }),
  );
  for (let i = 0; i < 20; i++) await open(half);
  await expect.poll(() => countOf(server)).toBe(22);
  // Some may be reported before the others come, and those a while later.
  await expect.poll(() => crowded.reduce((sum, { cut }) => sum + cut, 0)).toBe(18);
  expect(crowded.length).toBeLessThanOrEqual(2);
  expect(crowded.at(-1)).toMatchObject({ refused: 0, open: 22 });
});

test('takes no more places than a third of the files that may be open, whenever that changes', async () => {
  let files = 300;
  const { open, server } = await listen({ requestBodyGraceMs: 400 }, OK, { findMaxFiles: () => files });
  for (let i = 0; i < 20; i++) await open(half);
  files = 15;
  await expect.poll(() => countOf(server)).toBe(5);
});

test('leaves repeated requests to the server while that ends, which then closes their connections', async () => {
  const repeat: AnswersFirst['repeat'] = async socket => {
    socket.write('HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nrepeated');
    return { isAuthenticated: false };
  };
  const { server, open } = await listen({}, OK, { repeat });
  const client = await open(GET);
  await until(() => client.received.endsWith('ok'));
  client.socket.write(GET);
  await until(() => client.received.endsWith('repeated'));
  server.keepAliveTimeout = 1;
  client.socket.write(GET);
  await client.closed;
  expect(client.received).toMatch(/ok$/);
});

test('closes a connection whose client does not read the answer to a repeated request', async () => {
  const answer = Buffer.alloc(32 * 1024 * 1024, 'HTTP/1.1 200 OK\r\n');
  let repeats = 0;
  const repeat: AnswersFirst['repeat'] = socket => {
    repeats += 1;
    return new Promise(resolve => socket.write(answer, () => resolve({ isAuthenticated: false })));
  };
  const { server, open } = await listen({ keepAliveMs: 300 }, OK, { repeat });
  const client = await open(GET);
  await until(() => client.received.endsWith('ok'));
  client.socket.pause();
  client.socket.write(GET);
  await expect.poll(() => repeats).toBe(1);
  await expect.poll(() => countOf(server)).toBe(0);
});
