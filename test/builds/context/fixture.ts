// Tars as anybody may send them, right and wrong, and what becomes of them in a store.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { extract, type Header, pack } from 'tar-stream';
import { onTestFinished } from 'vitest';
import { type ContextSource, storeContext } from '../../../src/builds/context/store-context.ts';
import { type ContextLimits, DEFAULT_CONTEXT_LIMITS, InvalidContext } from '../../../src/builds/context/tree.ts';
import { createDiskStore } from '../../../src/content/disk.ts';
import type { ContentStore } from '../../../src/content/store.ts';

export type TarPart = (Partial<Header> & { readonly name: string; readonly text?: string }) | Uint8Array;

/** A tar of the parts in their order; bytes are put in as they are. */
export async function tarOf(...parts: readonly TarPart[]): Promise<Buffer> {
  const archives = await Promise.all(parts.map(part => (part instanceof Uint8Array ? part : entryOf(part))));
  return Buffer.concat([...archives, Buffer.alloc(1024)]);
}

async function entryOf({ text = '', ...header }: Exclude<TarPart, Uint8Array>): Promise<Buffer> {
  const archive = pack();
  const full = { mtime: new Date(), ...header };
  if (header.type && header.type !== 'file') archive.entry(full);
  else archive.entry(full, text);
  archive.finalize();
  return (await buffer(bytes(archive))).subarray(0, -1024);
}

async function* bytes(stream: AsyncIterable<unknown>): AsyncGenerator<Uint8Array> {
  for await (const chunk of stream) if (chunk instanceof Uint8Array) yield chunk;
}

export interface RawHeader {
  readonly name: string | Uint8Array;
  readonly type?: string;
  readonly size?: number;
  readonly linkname?: string;
  /** What follows the header, padded to blocks. */
  readonly body?: string;
}

/** A header that no tar writer would make. */
export function rawHeader({ name, type = '0', size, linkname = '', body = '' }: RawHeader): Buffer {
  const block = Buffer.alloc(512);
  Buffer.from(name).copy(block, 0, 0, 100);
  block.write('0000644\x000000000\x000000000\0', 100);
  block.write(`${(size ?? body.length).toString(8).padStart(11, '0')}\0${'0'.repeat(11)}\0`, 124);
  block.write(type, 156);
  block.write(linkname.slice(0, 100), 157);
  block.write('ustar\u000000', 257);
  block.write(' '.repeat(8), 148);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return Buffer.concat([block, Buffer.from(body), Buffer.alloc((512 - (body.length % 512)) % 512)]);
}

/** A PAX header for the entry that follows it. */
export function paxHeader(records: Readonly<Record<string, string>>): Buffer {
  return rawHeader({ name: 'PaxHeader', type: 'x', body: Object.entries(records).map(paxRecord).join('') });
}

function paxRecord([key, value]: readonly [string, string]): string {
  const rest = ` ${key}=${value}\n`;
  const length = rest.length + 1 + String(rest.length + 1).length - 1;
  const total = rest.length + String(length).length;
  return `${total}${rest}`;
}

export function streamOf(bytes: Uint8Array, chunkBytes = 64 * 1024): ReadableStream<Uint8Array> {
  let at = 0;
  return new ReadableStream({
    pull(controller) {
      if (at >= bytes.byteLength) return controller.close();
      controller.enqueue(bytes.subarray(at, at + chunkBytes));
      at += chunkBytes;
    },
  });
}

export function tarSource(bytes: Uint8Array, chunkBytes?: number): ContextSource {
  return { kind: 'tar', open: async () => streamOf(bytes, chunkBytes) };
}

/** A folder that is gone after the test. */
export async function makeFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'veneer-context-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

export async function openStore(): Promise<ContentStore> {
  const content = await createDiskStore({ directory: await makeFolder() });
  onTestFinished(() => content.close());
  return content;
}

export interface Canonical {
  readonly digest: string;
  /** Each entry as `<type> <mode> <name>[ -> <target>][ = <text>]`. */
  readonly lines: readonly string[];
  readonly headers: readonly Header[];
}

/** What is stored of a context. */
export async function canonical(source: ContextSource, limits: Partial<ContextLimits> = {}): Promise<Canonical> {
  const content = await openStore();
  const { digest, size } = await storeContext(source, content, { limits: { ...DEFAULT_CONTEXT_LIMITS, ...limits } });
  const tar = await content.read(digest, 2 ** 30);
  if (tar?.byteLength !== size) throw new Error('the size is wrong');
  const entries = await listTar(tar);
  return { digest, lines: entries.map(({ line }) => line), headers: entries.map(({ header }) => header) };
}

export async function listTar(tar: Uint8Array): Promise<readonly { readonly line: string; readonly header: Header }[]> {
  const archive = extract();
  archive.end(tar);
  const entries: { line: string; header: Header }[] = [];
  for await (const entry of archive) {
    const { type, mode, name, linkname } = entry.header;
    const text = (await buffer(bytes(entry))).toString();
    const end = type === 'symlink' ? ` -> ${linkname}` : type === 'file' ? ` = ${text}` : '';
    entries.push({ line: `${type} ${mode.toString(8)} ${name}${end}`, header: entry.header });
  }
  return entries;
}

/** The message of the InvalidContext that a source gets. */
export async function refusal(source: ContextSource, limits: Partial<ContextLimits> = {}): Promise<string> {
  const outcome = await canonical(source, limits).catch((error: unknown) => error);
  if (outcome instanceof InvalidContext) return outcome.message;
  throw new Error(`it was not refused: ${String(outcome)}`, { cause: outcome });
}
