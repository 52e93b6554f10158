// What an answer acknowledges is synced before it is renamed into place, and its directory after: read from Node's trace of a real process.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { z } from 'zod';
import { makeContent, makeIndex } from '../conformance/documents.ts';

const MAIN = join(import.meta.dirname, '../../src/main.ts');
const traceSchema = z.object({
  traceEvents: z.array(
    z.object({
      ph: z.string(),
      name: z.string(),
      args: z.object({ old_path: z.string().optional(), new_path: z.string().optional() }).loose(),
    }),
  ),
});

/** Not held in memory until it is whole. */
const LARGE = 'x'.repeat(600_000);

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veneer-durability-'));
});

afterEach(() => rm(folder, { recursive: true }));

/** Prints the path of each file whose writes are synced: Node's trace does not tell how a file was opened. */
const PRELOAD = `
  import fs from 'node:fs';
  import { syncBuiltinESMExports } from 'node:module';
  const { open } = fs;
  fs.open = (path, flags, ...rest) => {
    if (flags & fs.constants.O_DSYNC) process.stdout.write('synced ' + path + '\\n');
    open(path, flags, ...rest);
  };
  syncBuiltinESMExports();`;

interface Traced {
  /** In order: ends of syncs, beginnings of renames into `blobs`. */
  readonly done: readonly string[];
  /** By the names of files in `blobs`: what was renamed. */
  readonly sources: ReadonlyMap<string, string>;
  /** The files of which each write is synced. */
  readonly synced: ReadonlySet<string>;
}

/** What the process did with files while `work` was done. */
async function trace(work: (url: string) => Promise<void>): Promise<Traced> {
  const preload = ['--import', `data:text/javascript,${encodeURIComponent(PRELOAD)}`];
  const options = ['--listen', '127.0.0.1:0', '--data-dir', 'data'];
  const args = [...preload, '--trace-event-categories', 'node.fs.async', MAIN, ...options];
  const child = spawn(process.execPath, args, { cwd: folder, stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  try {
    child.stdout.on('data', (data: Buffer) => {
      output += data.toString();
    });
    while (!output.includes('listening')) await once(child.stdout, 'data');
    await work(/http:\/\/127\.0\.0\.1:\d+/.exec(output)?.[0] ?? '');
  } finally {
    child.kill('SIGTERM');
    await once(child, 'close');
  }
  const { traceEvents } = traceSchema.parse(JSON.parse(await readFile(join(folder, 'node_trace.1.log'), 'utf8')));
  const sources = new Map<string, string>();
  const done = traceEvents.flatMap(({ ph, name, args: { old_path = '', new_path } }) => {
    if (ph === 'e' && /^f(data)?sync$/.test(name)) return [name];
    if (ph !== 'b' || name !== 'rename' || !new_path?.includes('/blobs/')) return [];
    const stored = new_path.split('/').at(-1) ?? '';
    sources.set(stored, old_path);
    return [stored];
  });
  const synced = new Set([...output.matchAll(/^synced (.+)$/gm)].map(([, path = '']) => path));
  return { done, sources, synced };
}

test('bytes are synced before their rename, and the directory after it, for blobs and manifests', async () => {
  const [blob, large, index] = [makeContent('a blob', ''), makeContent(LARGE, ''), makeIndex([])];
  const { done, sources, synced } = await trace(async url => {
    const repository = `${url}/v2/local/app`;
    const pushed = [
      await fetch(`${repository}/blobs/uploads/?digest=${blob.digest}`, { method: 'POST', body: 'a blob' }),
      await fetch(`${repository}/blobs/uploads/?digest=${large.digest}`, { method: 'POST', body: LARGE }),
      await fetch(`${repository}/manifests/1`, {
        method: 'PUT',
        headers: { 'Content-Type': index.mediaType },
        body: index.raw.toString(),
      }),
    ];
    expect(pushed.map(({ status }) => status)).toEqual([201, 201, 201]);
  });
  for (const { digest } of [blob, large, index]) {
    const hex = hexOf(digest);
    const at = done.indexOf(hex);
    // Of the folder that was made for them, then the rename, then of the folder that has them now.
    expect(done.slice(at - 1, at + 2)).toEqual(['fsync', hex, 'fsync']);
    // Of the bytes: a write of few ends when they are on the disk.
    if (digest === large.digest) expect(done.slice(done.indexOf(hexOf(blob.digest)), at)).toContain('fdatasync');
    else expect(synced).toContain(sources.get(hex));
  }
});

function hexOf(digest: string): string {
  return digest.slice('sha256:'.length);
}
