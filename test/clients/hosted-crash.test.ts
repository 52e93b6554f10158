// A Veneer that is killed while it takes a push: what it had acknowledged is all there, and the push succeeds the second time.
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { pack } from 'tar-stream';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { clientPath, findMissing } from './support/clients.ts';
import { startVeneer } from './support/daemons.ts';
import { run, waitUntil } from './support/process.ts';

const missing = findMissing(['crane']);
const MIB = 1024 * 1024;
const LARGE_BYTES = 64 * MIB;
const IMAGES_BEFORE = 5;

describe.skipIf(missing)(`a crash${missing ? ` (${missing})` : ''}`, { timeout: 240_000 }, () => {
  let folder = '';
  let large: Buffer = Buffer.alloc(0);

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'veneer-crash-'));
    large = await makeTar('large', LARGE_BYTES);
    await writeFile(join(folder, 'large.tar'), large);
  });

  afterAll(() => rm(folder, { recursive: true, force: true }));

  test('during a large push loses nothing that was acknowledged, and the same push succeeds after it', async () => {
    const settings = { dataDir: join(folder, 'data') };
    const crashing = await startVeneer(folder, undefined, settings);
    const acknowledged: string[] = [];
    const push = spawn(clientPath('crane'), ['append', '-f', '-', '-t', `${crashing.address}/local/large:1`], {
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    const left = once(push, 'exit');
    try {
      push.stdin.on('error', () => {});
      // crane gets no more than half before the crash: the push cannot end earlier.
      push.stdin.write(large.subarray(0, LARGE_BYTES / 2));
      await waitUntil(async () => expect(await measureDrafts(settings.dataDir)).toBeGreaterThan(8 * MIB));
      for (let i = 0; i < IMAGES_BEFORE; i++) acknowledged.push(await pushSmall(crashing.address, `small/${i}`));
      await crashing.kill();
      push.stdin.end(large.subarray(LARGE_BYTES / 2));
      expect((await left)[0]).not.toBe(0);
    } finally {
      push.kill();
      await crashing.stop();
    }

    const restarted = await startVeneer(folder, undefined, settings);
    try {
      const hosted = `${restarted.address}/local`;
      for (const [i, digest] of acknowledged.entries()) {
        expect(await crane('digest', `${hosted}/small/${i}:1`)).toBe(digest);
        await expect(crane('validate', '--remote', `${hosted}/small/${i}:1`)).resolves.toMatch(/^PASS/);
      }
      await expect(crane('digest', `${hosted}/large:1`)).rejects.toThrow('404');
      await crane('append', '-f', join(folder, 'large.tar'), '-t', `${hosted}/large:1`);
      await expect(crane('validate', '--remote', `${hosted}/large:1`)).resolves.toMatch(/^PASS/);
    } finally {
      await restarted.stop();
    }
  });

  /** Gives the digest of what is now there, as crane was told. */
  async function pushSmall(address: string, repository: string): Promise<string> {
    const layer = join(folder, 'small.tar');
    await writeFile(layer, await makeTar(repository, MIB));
    const pushed = await crane('append', '-f', layer, '-t', `${address}/local/${repository}:1`);
    return pushed.slice(pushed.indexOf('@') + 1);
  }
});

/** The tar of one file that does not compress. */
async function makeTar(name: string, size: number): Promise<Buffer> {
  const tar = pack();
  tar.entry({ name, mtime: new Date(0) }, randomBytes(size));
  tar.finalize();
  return await buffer(tar);
}

/** How many bytes of unfinished uploads have arrived. */
async function measureDrafts(dataDir: string): Promise<number> {
  const drafts = join(dataDir, 'hosted/drafts');
  const sizes = await Promise.all((await readdir(drafts)).map(async name => (await stat(join(drafts, name))).size));
  return sizes.reduce((sum, size) => sum + size, 0);
}

function crane(...args: readonly string[]): Promise<string> {
  return run(clientPath('crane'), args);
}
