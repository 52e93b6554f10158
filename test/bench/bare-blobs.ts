// The limit of rows of blobs: a server that does no more with a blob than every registry in Node must. A push is hashed, its blocks get sums, and
// what was acknowledged survives a power cut: its file is synced, then the name of that, then a record of it, which shares a sync with those that
// wait as well. A pull reads the file into two buffers and checks the sums. With an upstream, the first pull takes the same from there, and passes it
// on, as it does manifests: with `layers-first` once all layers have come, as a rule whose layer follows the links in them must.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { type FileHandle, open, rename } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { crc32 } from 'node:zlib';
import { z } from 'zod';
import { receive } from './receive.ts';

// As Veneer has them: src/main.ts.
setFlagsFromString('--heap-growing-percent=80');
setFlagsFromString('--semi-space-growth-factor=1');

const BLOCK_BYTES = 64 * 1024;
const BUFFER_BYTES = 512 * 1024;
const MAX_WAITING_BYTES = 256 * 1024;

const [, , directory = '.', upstream, order] = process.argv;
const digestIn = (pathname: string) => pathname.slice(pathname.lastIndexOf('/') + 1);
/** What has come from the upstream. */
const kept = new Set<string>();
const pathOf = (digest: string) => join(directory, digest.replace(':', '-'));

const folder = await open(directory);
const records = await open(join(directory, 'records'), 'a');
let waitingRecords = '';
let lastRecords: Promise<void> = Promise.resolve();
let nextRecords: Promise<void> | undefined;

async function push(incoming: IncomingMessage, response: ServerResponse, digest: string): Promise<void> {
  const path = pathOf(digest);
  const isWhole = await keep(incoming, { digest, path: `${path}.part` });
  if (isWhole) {
    await rename(`${path}.part`, path);
    await folder.sync();
    await record(digest);
  }
  response.writeHead(isWhole ? 201 : 400).end();
}

/** Those that come during a sync share the next one. */
function record(digest: string): Promise<void> {
  waitingRecords += `${digest}\n`;
  nextRecords ??= lastRecords.then(writeRecords);
  lastRecords = nextRecords;
  return nextRecords;
}

async function writeRecords(): Promise<void> {
  const lines = waitingRecords;
  waitingRecords = '';
  nextRecords = undefined;
  await records.appendFile(lines);
  await records.datasync();
}

/** Whether the body has the digest: then it is synced. `onPiece` gets each piece once it is hashed. */
async function keep(
  body: AsyncIterable<Uint8Array>,
  { digest, path }: { readonly digest: string; readonly path: string },
  onPiece: (piece: Uint8Array) => Promise<unknown> | undefined = () => undefined,
): Promise<boolean> {
  await using file = await open(path, 'w');
  const hash = createHash('sha256');
  let waiting: Uint8Array[] = [];
  let bytes = 0;
  let writing: Promise<void> | undefined;
  const write = async () => {
    while (waiting.length > 0) {
      const batch = waiting;
      [waiting, bytes] = [[], 0];
      await file.writev(batch);
    }
    writing = undefined;
  };
  for await (const chunk of body) {
    hash.update(chunk);
    sumOf(chunk);
    waiting.push(chunk);
    bytes += chunk.byteLength;
    writing ??= write();
    if (bytes >= MAX_WAITING_BYTES) await writing;
    await onPiece(chunk);
  }
  await writing;
  await file.datasync();
  return `sha256:${hash.digest('hex')}` === digest;
}

/** The last piece waits for the digest. */
async function passOn(response: ServerResponse, url: string, digest: string): Promise<void> {
  const { body, length } = await receive(url);
  response.writeHead(200, { 'Content-Length': length });
  let last: Uint8Array = new Uint8Array(0);
  const isWhole = await keep(body, { digest, path: pathOf(digest) }, piece => {
    const isTaken = response.write(last);
    last = piece;
    return isTaken ? undefined : once(response, 'drain');
  });
  if (isWhole) {
    kept.add(digest);
    response.end(last);
  } else response.destroy();
}

const manifestSchema = z.object({ layers: z.array(z.object({ digest: z.string() })) });

async function passManifest(response: ServerResponse, url: string): Promise<void> {
  const pieces: Uint8Array[] = [];
  const { body } = await receive(url);
  await keep(body, { digest: '', path: pathOf(digestIn(url)) }, async piece => pieces.push(Buffer.from(piece)));
  const raw = Buffer.concat(pieces);
  if (order === 'layers-first') {
    const { layers } = manifestSchema.parse(JSON.parse(raw.toString()));
    await Promise.all(layers.map(({ digest }) => fetchFirst(`${url.replace(/manifests\/.*/, 'blobs/')}${digest}`)));
  }
  response.writeHead(200, { 'Content-Length': raw.byteLength }).end(raw);
}

async function fetchFirst(url: string): Promise<void> {
  const digest = digestIn(url);
  if (kept.has(digest)) return;
  const { body } = await receive(url);
  if (await keep(body, { digest, path: pathOf(digest) })) kept.add(digest);
}

async function pull(response: ServerResponse, digest: string): Promise<void> {
  await using file = await open(pathOf(digest));
  const { size } = await file.stat();
  response.writeHead(200, { 'Content-Length': size });
  await send(file, size, response);
  response.end();
}

async function send(file: FileHandle, size: number, response: ServerResponse): Promise<void> {
  let [free, other] = [new Uint8Array(BUFFER_BYTES), new Uint8Array(BUFFER_BYTES)];
  let written: Promise<unknown> = Promise.resolve();
  for (let offset = 0; offset < size; ) {
    const { bytesRead } = await file.read(free, 0, BUFFER_BYTES, offset);
    offset += bytesRead;
    const bytes = free.subarray(0, bytesRead);
    sumOf(bytes);
    await written;
    written = new Promise(resolve => response.write(bytes, resolve));
    [free, other] = [other, free];
  }
  await written;
}

function sumOf(bytes: Uint8Array): void {
  for (let at = 0; at < bytes.byteLength; at += BLOCK_BYTES) crc32(bytes.subarray(at, at + BLOCK_BYTES));
}

const server = createServer((incoming, response) => {
  const { pathname, searchParams } = new URL(incoming.url ?? '/', 'http://bare');
  const digest = digestIn(pathname);
  const answer = async () => {
    if (incoming.method === 'POST') response.writeHead(202, { Location: '/v2/upload' }).end();
    else if (incoming.method === 'PUT') await push(incoming, response, searchParams.get('digest') ?? '');
    else if (upstream && pathname.includes('/manifests/')) await passManifest(response, `${upstream}${pathname}`);
    else if (upstream && !kept.has(digest)) await passOn(response, `${upstream}${pathname}`, digest);
    else await pull(response, digest);
  };
  answer().catch(error => response.destroy(error));
}).listen(0, '127.0.0.1');
await once(server, 'listening');
const address = server.address();
process.stdout.write(`listening on 127.0.0.1:${typeof address === 'object' ? address?.port : ''}\n`);
