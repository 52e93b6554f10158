// What a suite of clients stands on: a folder, a registry with an image that BuildKit made, and all that the suite starts.
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { cp, mkdtemp, readFile, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ARCHITECTURES, busyboxPath, clientPath } from './clients.ts';
import { startBuildkit, startRegistry } from './daemons.ts';
import { buildBusybox, makeBusyboxContext } from './image.ts';
import { findFreePort, type Running, run } from './process.ts';

/** The commands that an environment needs. */
export const ENVIRONMENT_COMMANDS = ['registry', 'buildkitd', 'buildctl', 'runc', 'crane'] as const;

export interface Environment {
  readonly folder: string;
  /** host:port of the registry. */
  readonly registry: string;
  /** The address of BuildKit for buildctl. */
  readonly buildkit: string;
  /** An image of three platforms, with attestations, in the registry. */
  readonly source: string;
  /** Waits for what starts; it is stopped with the lab. */
  keep<R extends Running>(starting: Promise<R>): Promise<R>;
  /** Stops what was started, the last first, and removes the folder. */
  close(): Promise<void>;
}

const SOURCE = 'library/bb:1';

export async function createEnvironment(): Promise<Environment> {
  const folder = await mkdtemp(join(tmpdir(), 'veneer-test-'));
  const running: Running[] = [];

  async function keep<R extends Running>(starting: Promise<R>): Promise<R> {
    const started = await starting;
    running.push(started);
    return started;
  }

  async function close(): Promise<void> {
    for (const process of running.reverse()) await process.stop();
    await rm(folder, { recursive: true, force: true });
  }

  try {
    const registry = `127.0.0.1:${await findFreePort()}`;
    const building = keep(startBuildkit(folder, registry));
    const serving = copySource(folder).then(() => keep(startRegistry(folder, registry)));
    // What has started must be known before another's failure ends it.
    await Promise.allSettled([building, serving]);
    await Promise.all([serving, makeBusyboxContext(folder)]);
    const { socket: buildkit } = await building;
    return { folder, registry, buildkit, source: `${registry}/${SOURCE}`, keep, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Of the source image: built once on a machine, and then only copied. */
async function copySource(folder: string): Promise<void> {
  const store = join(tmpdir(), `veneer-source-image-${await hashSource()}`);
  if (!existsSync(store)) await makeSource(store);
  await cp(store, join(folder, 'registry'), { recursive: true });
}

/** Another process may do the same meanwhile: the first one has made it for all. */
async function makeSource(store: string): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'veneer-source-'));
  try {
    const registry = await startRegistry(folder);
    const buildkit = await startBuildkit(folder, registry.address);
    await makeBusyboxContext(folder);
    const image = `${registry.address}/${SOURCE}`;
    await buildBusybox(folder, buildkit.socket, { image, options: ['--opt', 'attest:provenance=mode=max'] });
    await buildkit.stop();
    await registry.stop();
    await rename(join(folder, 'registry'), store).catch(error => {
      if (!existsSync(store)) throw error;
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Changes with whatever makes the image another. */
async function hashSource(): Promise<string> {
  const hash = createHash('sha256').update(await run(clientPath('buildkitd'), ['--version']));
  for (const path of [join(import.meta.dirname, 'image.ts'), ...ARCHITECTURES.map(busyboxPath)]) {
    hash.update(await readFile(path));
  }
  return hash.digest('hex').slice(0, 16);
}
