// Veneer on a small disk of its own: a tmpfs in a mount namespace that goes with the process that keeps it.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { appendFile, mkdtemp, rm, statfs, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { expect } from 'vitest';
import type { Server } from '../clients/support/daemons.ts';
import { checkUrl, findFreePort, type Killable, run, startProcess } from '../clients/support/process.ts';

export interface SmallDisk extends Server, Pick<Killable, 'kill' | 'readOutput'> {
  /** The data directory, as this process reaches it. */
  readonly dataDir: string;
  /** Takes all the room that is left, but for so many bytes. */
  fill(leftBytes?: number): Promise<void>;
  /** Gives back what `fill` took. */
  free(): Promise<void>;
  /** For the next start, in place of what was. */
  configure(config: Readonly<Record<string, unknown>>): Promise<void>;
  /** Ends Veneer, and runs `meanwhile` before it starts it again. */
  restart(signal: 'SIGTERM' | 'SIGKILL', meanwhile?: () => Promise<unknown>): Promise<void>;
  /** Runs a command of `veneer` on that disk, and gives its output. Throws with its standard error where it fails. */
  veneer(...args: readonly string[]): Promise<string>;
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
  const configure = (next: Readonly<Record<string, unknown>>) =>
    writeFile(file, JSON.stringify({ listen: address, dataDir: join(disk, 'data'), ...next }));
  await configure(config);
  const mounted = join(folder, 'mounted');
  const mount = `mount -t tmpfs -o size=${bytes} tmpfs "$0" && touch "$1" && exec sleep 86400`;
  const keeper = await startProcess('unshare', ['-m', 'sh', '-c', mount, disk, mounted], {
    checkReady: async () => expect(existsSync(mounted)).toBe(true),
  });
  const root = join(`/proc/${keeper.pid}/root`, disk);
  const inside = ['-t', `${keeper.pid}`, '-m', process.execPath, resolve('src/main.ts'), '--config', file];
  const checkReady = () => checkUrl(`http://${address}/health/ready`);
  let running = await startProcess('nsenter', inside, { checkReady });
  const ballast = join(root, 'ballast');
  return {
    address,
    configure,
    readOutput: () => running.readOutput(),
    async stop() {
      await running.stop();
      await keeper.kill();
    },
    async kill() {
      await running.kill();
      await keeper.kill();
    },
    async restart(signal, meanwhile = async () => {}) {
      await (signal === 'SIGTERM' ? running.stop() : running.kill());
      await meanwhile();
      running = await startProcess('nsenter', inside, { checkReady });
    },
    veneer: (...args) => run('nsenter', [...inside, ...args]),
    dataDir: join(root, 'data'),
    async fill(leftBytes = 0) {
      const { bavail, bsize } = await statfs(root);
      // Somebody else may be quicker to take the last of it.
      await appendFile(ballast, Buffer.alloc(bavail * bsize - leftBytes)).catch(error =>
        expect(error.code).toBe('ENOSPC'),
      );
    },
    free: () => rm(ballast, { force: true }),
  };
}
