// Bodies of requests over a socket: whole, broken off, left early, and not taken.
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import { connect, type Socket } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { readIncoming } from '../../../src/http/middleware/body-memory.ts';

const MIB = 2 ** 20;
/** More than the sockets of both ends hold. */
const body = Buffer.alloc(64 * MIB, 'veneer');

let server: Server;
let client: Socket;
let incoming: IncomingMessage;

beforeEach(async () => {
  server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  const port = typeof address === 'object' && address ? address.port : 0;
  client = connect(port, '127.0.0.1').on('error', () => {});
  client.write(`PUT / HTTP/1.1\r\nHost: veneer\r\nContent-Length: ${body.byteLength}\r\n\r\n`);
  [incoming] = await once(server, 'request');
});

afterEach(async () => {
  client.destroy();
  server.closeAllConnections();
  server.close();
  await once(server, 'close');
});

test('has each byte in its place', async () => {
  client.write(body);
  const pieces = await Array.fromAsync(readIncoming(incoming));
  expect(Buffer.concat(pieces).equals(body)).toBe(true);
});

test('is not read from the socket while nobody takes it', async () => {
  const pieces = readIncoming(incoming);
  client.write(body);
  await pieces.next();
  await untilStill(() => incoming.socket.bytesRead);
  expect(incoming.socket.bytesRead).toBeLessThan(MIB);
  let size = 0;
  for await (const { byteLength } of pieces) size += byteLength;
  expect(size).toBeGreaterThan(body.byteLength - MIB);
});

test('gives what came before the client left, and then throws', async () => {
  client.write(body.subarray(0, 1000), () => client.destroySoon());
  let size = 0;
  const read = async () => {
    for await (const { byteLength } of readIncoming(incoming)) size += byteLength;
  };
  await expect(read()).rejects.toThrow();
  expect(size).toBe(1000);
});

test('throws where the client has left before', async () => {
  client.destroy();
  await new Promise(resolve => incoming.on('error', () => {}).once('close', resolve));
  await expect(readIncoming(incoming).next()).rejects.toThrow();
});

test('leaves the rest to anyone who reads on', async () => {
  client.write(body);
  for await (const piece of readIncoming(incoming)) if (piece.byteLength > 0) break;
  expect(incoming.listenerCount('data')).toBe(0);
  incoming.resume();
  await once(incoming, 'end');
});

/** Resolves when the figure has not changed for many turns of the event loop. */
async function untilStill(figure: () => number): Promise<void> {
  for (let seen = -1, turns = 0; turns < 200; turns += 1) {
    await setImmediate();
    if (figure() !== seen) turns = 0;
    seen = figure();
  }
}
