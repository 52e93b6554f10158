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
    z.object({ ph: z.string(), name: z.string(), args: z.object({ new_path: z.string().optional() }).loose() }),
  ),
});

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veneer-durability-'));
});

afterEach(() => rm(folder, { recursive: true }));

/** What the process did with files while `work` was done, in order: ends of syncs, beginnings of renames into `blobs`. */
async function trace(work: (url: string) => Promise<void>): Promise<readonly string[]> {
  const args = ['--trace-event-categories', 'node.fs.async', MAIN, '--listen', '127.0.0.1:0', '--data-dir', 'data'];
  const child = spawn(process.execPath, args, { cwd: folder, stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    let output = '';
    while (!output.includes('listening')) output += String(await once(child.stdout, 'data'));
    await work(/http:\/\/127\.0\.0\.1:\d+/.exec(output)?.[0] ?? '');
  } finally {
    child.stdout.resume();
    child.kill('SIGTERM');
    await once(child, 'exit');
  }
  const { traceEvents } = traceSchema.parse(JSON.parse(await readFile(join(folder, 'node_trace.1.log'), 'utf8')));
  return traceEvents.flatMap(({ ph, name, args: { new_path } }) => {
    if (ph === 'e' && /^f(data)?sync$/.test(name)) return [name];
    return ph === 'b' && name === 'rename' && new_path?.includes('/blobs/') ? [new_path.split('/').at(-1) ?? ''] : [];
  });
}

test('bytes are synced before their rename, and the directory after it, for blobs and manifests', async () => {
  const [blob, index] = [makeContent('a blob', ''), makeIndex([])];
  const done = await trace(async url => {
    const repository = `${url}/v2/local/app`;
    const pushed = [
      await fetch(`${repository}/blobs/uploads/?digest=${blob.digest}`, { method: 'POST', body: 'a blob' }),
      await fetch(`${repository}/manifests/1`, {
        method: 'PUT',
        headers: { 'Content-Type': index.mediaType },
        body: index.raw.toString(),
      }),
    ];
    expect(pushed.map(({ status }) => status)).toEqual([201, 201]);
  });
  for (const { digest } of [blob, index]) {
    const at = done.indexOf(digest.slice('sha256:'.length));
    // Of the bytes, of the folder that was made for them, then the rename, then of the folder that has them now.
    expect(done.slice(at - 2, at + 2)).toEqual(['fdatasync', 'fsync', digest.slice('sha256:'.length), 'fsync']);
  }
});
