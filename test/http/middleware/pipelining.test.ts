// Requests that a client sends before it has the answer to the one before.
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, expect, test } from 'vitest';
import { createPipelining, type PipeliningDeps } from '../../../src/http/middleware/pipelining.ts';

const servers: Server[] = [];
const sockets: Socket[] = [];

afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
  for (const server of servers.splice(0)) server.close().closeAllConnections();
});

type Answer = (request: IncomingMessage, response: ServerResponse) => void;

async function listen(answer: Answer, deps: Partial<PipeliningDeps> = {}) {
  const pipelining = createPipelining({ cut: socket => socket.destroy(), ...deps });
  const server = createServer(answer);
  server.prependListener('request', pipelining.begin).on('connection', pipelining.take);
  servers.push(server.listen(0));
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;

  return async () => {
    const socket = connect(port, '127.0.0.1');
    sockets.push(socket);
    socket.on('error', () => {});
    await once(socket, 'connect');
    return socket;
  };
}

function get(path: string): string {
  return `GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`;
}

function getLast(path: string): string {
  return `GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`;
}

/** The bodies of the answers, in their order: each ends with a line break. */
function bodiesOf(received: string): readonly string[] {
  return [...received.matchAll(/^(.*)\n/gm)].map(([, line = '']) => line).filter(line => line.startsWith('> '));
}

test('begins one after the other, and answers in order', async () => {
  let active = 0;
  const most: number[] = [];
  const open = await listen(async ({ url }, response) => {
    active += 1;
    most.push(active);
    await turn();
    active -= 1;
    response.end(`> ${url}\n`);
  });
  const socket = await open();
  const paths = Array.from({ length: 500 }, (_, i) => `/${i}`);
  socket.write(paths.map(get).join('') + getLast('/end'));
  expect(bodiesOf(await text(socket))).toEqual([...paths, '/end'].map(path => `> ${path}`));
  expect(Math.max(...most)).toBe(1);
});

test('does not read from who does not read', async () => {
  let begun = 0;
  const open = await listen((_, response) => {
    begun += 1;
    response.end('x'.repeat(1024 * 1024));
  });
  const socket = await open();
  socket.pause();
  socket.write(get('/').repeat(1_000_000));
  for (let before = -1; before !== begun; ) {
    before = begun;
    await new Promise(resolve => setTimeout(resolve, 300));
  }
  // As many as the buffers of the system have room for.
  expect(begun).toBeLessThan(200);
  expect(socket.writableLength).toBeGreaterThan(0);
  socket.resume();
  await expect.poll(() => begun).toBeGreaterThan(200);
});

test('cuts the one that has waited longest, where too many wait', async () => {
  const open = await listen(() => {}, { maxWaiting: 2 });
  const clients = [await open(), await open(), await open()];
  for (const client of clients) {
    client.write(get('/').repeat(2));
    await turn();
  }
  await expect.poll(() => clients.map(({ closed }) => closed)).toEqual([true, false, false]);
});

test('begins no more in one turn of the loop than is said', async () => {
  let inTurn = 0;
  const most: number[] = [];
  const open = await listen(
    ({ url }, response) => {
      if (inTurn === 0) setImmediate(() => (inTurn = 0));
      inTurn += 1;
      most.push(inTurn);
      response.end(`> ${url}\n`);
    },
    { maxPerIteration: 3 },
  );
  const clients = await Promise.all(Array.from({ length: 40 }, open));
  for (const client of clients) client.write(get('/').repeat(19) + getLast('/'));
  const received = await Promise.all(clients.map(text));
  expect(received.map(all => bodiesOf(all).length)).toEqual(clients.map(() => 20));
  // Those of the turn, and those that came before it ended.
  expect(Math.max(...most)).toBeLessThanOrEqual(2 * 3);
});

test('leaves half of each turn to those that have had no answer yet', async () => {
  let inTurn = 0;
  const most: number[] = [];
  const open = await listen(
    ({ url }, response) => {
      if (inTurn === 0) setImmediate(() => (inTurn = 0));
      if (url === '/again') inTurn += 1;
      most.push(inTurn);
      response.end(`> ${url}\n`);
    },
    { maxPerIteration: 20 },
  );
  const clients = await Promise.all(Array.from({ length: 60 }, open));
  for (const client of clients) client.write(get('/') + get('/again').repeat(20) + getLast('/last'));
  await Promise.all(clients.map(text));
  expect(Math.max(...most)).toBeLessThanOrEqual(10);
});

const PUT = (body: string) => `PUT /put HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
const CHUNKED = (...parts: string[]) =>
  `PUT /chunked HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n${[...parts, '']
    .map(part => `${part.length.toString(16)}\r\n${part}\r\n`)
    .join('')}`;

const MIXED = [
  PUT('a\r\n\r\nb'),
  get('/1'),
  CHUNKED('GET / HTTP/1.1\r\n\r\n', 'c'),
  PUT(''),
  '\r\n',
  get('/2'),
  CHUNKED(),
  PUT('d'.repeat(100_000)),
  getLast('/3'),
].join('');

test.each([
  ['whole', MIXED.length],
  ['byte by byte', 1],
  ['in pieces of 3', 3],
  ['in pieces of 17', 17],
  ['in pieces of 1000', 1000],
])('reads bodies and heads as they are meant: %s', async (_, size) => {
  const open = await listen(async (request, response) => {
    const body = await text(request);
    response.end(`> ${request.method} ${request.url} ${body.length} ${JSON.stringify(body.slice(0, 25))}\n`);
  });
  const socket = await open();
  socket.setNoDelay(true);
  const received = text(socket);
  // The long body is no matter of small pieces.
  const [start, end] = [MIXED.slice(0, -90_000), MIXED.slice(-90_000)];
  for (let at = 0; at < start.length && at < 3000; at += size) {
    socket.write(start.slice(at, Math.min(at + size, 3000)));
    await turn();
  }
  socket.write(start.slice(3000));
  socket.write(end);
  expect(bodiesOf(await received)).toEqual([
    '> PUT /put 6 "a\\r\\n\\r\\nb"',
    '> GET /1 0 ""',
    '> PUT /chunked 19 "GET / HTTP/1.1\\r\\n\\r\\nc"',
    '> PUT /put 0 ""',
    '> GET /2 0 ""',
    '> PUT /chunked 0 ""',
    `> PUT /put 100000 "${'d'.repeat(25)}"`,
    '> GET /3 0 ""',
  ]);
});

test('repeats nothing that continues a head, also where that began with the end of a body of unknown length', async () => {
  const known = getLast('/known');
  const open = await listen(
    async (request, response) => {
      await text(request);
      response.end(`> ${request.url}\n`);
    },
    {
      repeat(socket, head) {
        if (head !== known) return false;
        socket.end('HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n> repeated\n');
        return Promise.resolve({ isAuthenticated: false });
      },
    },
  );
  const socket = await open();
  let received = '';
  socket.on('data', bytes => {
    received += bytes.toString();
  });
  socket.write(
    'PUT /chunked HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n',
  );
  await expect.poll(() => received).toContain('100 Continue');
  socket.write(`0\r\n\r\n${get('/1')}GET /2 HTTP/1.1\r\nX-Begun: `);
  await expect.poll(() => bodiesOf(received)).toEqual(['> /chunked', '> /1']);
  socket.write(known);
  await once(socket, 'close');
  expect(bodiesOf(received)).toEqual(['> /chunked', '> /1', '> /2']);
});
