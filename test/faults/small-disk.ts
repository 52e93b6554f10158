// Veneer on a small disk of its own: a tmpfs in a mount namespace that goes with the process.
import { spawnSync } from 'node:child_process';
import { mkdtemp, rm, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { Server } from '../clients/support/daemons.ts';
import { checkUrl, findFreePort, type Killable, startProcess } from '../clients/support/process.ts';

export interface SmallDisk extends Server, Killable {
  /** The data directory, as this process reaches it. */
  readonly dataDir: string;
  /** Takes all the room that is left, but for so many bytes. */
  fill(leftBytes?: number): Promise<void>;
  /** Gives back what `fill` took. */
  free(): Promise<void>;
}

/** Why there can be no such disk here, or undefined. In CI there must be: it throws there. */
export function findNoSmallDisk(): string | undefined {
  const { status, stderr } = spawnSync('unshare', ['-m', 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt'], {
    encoding: 'utf8',
  });
  if (status === 0) return undefined;
  const reason = `needs root and unshare: ${String(stderr).trim()}`;
  if (process.env.CI === 'true') throw new Error(reason);
  return reason;
}

/** `config` is all of the configuration but where data lies and where it listens. */
export async function startOnSmallDisk(
  folder: string,
  bytes: number,
  config: Readonly<Record<string, unknown>>,
): Promise<SmallDisk> {
  const disk = await mkdtemp(join(folder, 'disk-'));
  const address = `127.0.0.1:${await findFreePort()}`;
  const file = join(folder, 'veneer.yaml');
  await writeFile(file, JSON.stringify({ listen: address, dataDir: join(disk, 'data'), ...config }));
  const mount = `mount -t tmpfs -o size=${bytes} tmpfs "$0" && exec "$@"`;
  const veneer = [process.execPath, 'src/main.ts', '--config', file];
  const running = await startProcess('unshare', ['-m', 'sh', '-c', mount, disk, ...veneer], {
    checkReady: () => checkUrl(`http://${address}/health/ready`),
  });
  const root = join(`/proc/${running.pid}/root`, disk);
  const ballast = join(root, 'ballast');
  return {
    ...running,
    address,
    dataDir: join(root, 'data'),
    async fill(leftBytes = 0) {
      const { bavail, bsize } = await statfs(root);
      // Somebody else may be quicker to take the last of it.
      await writeFile(ballast, Buffer.alloc(bavail * bsize - leftBytes)).catch(error =>
        expect(error.code).toBe('ENOSPC'),
      );
    },
    free: () => rm(ballast, { force: true }),
  };
}
