// Bytes that are kept hold no more memory than they have.
import { randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { request } from 'undici';
import { expect, test } from 'vitest';
import { createPieces, joinBytes } from '../../src/oci/bytes.ts';
import { readLimited } from '../../src/upstream/failure.ts';

test('chunks are joined in their order, in memory of their own', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 100 })), chunks => {
      const joined = joinBytes(chunks.map(chunk => Buffer.from(chunk)));
      expect([...joined]).toEqual(chunks.flatMap(chunk => [...chunk]));
      expect(joined.buffer.byteLength).toBe(joined.byteLength);
    }),
  );
});

test('a small body of an upstream does not keep what its socket was read into', async () => {
  const server = createServer((_, response) => response.end('{"schemaVersion":2}'));
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const { body } = await request(`http://127.0.0.1:${port}/`);
  const bytes = await readLimited(body, 1024);
  expect([Buffer.from(bytes).toString(), bytes.buffer.byteLength]).toEqual(['{"schemaVersion":2}', 19]);
  server.close();
});

test('pieces of a byte each are joined in their order, and take little memory until then', () => {
  setFlagsFromString('--expose-gc');
  const collectGarbage: () => void = runInNewContext('gc');
  const usedBytes = () => {
    collectGarbage();
    const { heapUsed, external } = process.memoryUsage();
    return heapUsed + external;
  };
  const body = randomBytes(500_000);
  const before = usedBytes();
  const pieces = createPieces();
  for (let at = 0; at < body.length; at += 1) pieces.add(body.subarray(at, at + 1));
  // Each by itself they take more than 50 MB.
  expect(usedBytes() - before).toBeLessThan(20_000_000);
  expect(Buffer.compare(pieces.join(), body)).toBe(0);
});
