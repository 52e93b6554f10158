// What a suite of clients stands on: a folder, a registry with an image that BuildKit made, and all that the suite starts.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startBuildkit, startRegistry } from './daemons.ts';
import { makeBusyboxImage } from './image.ts';
import type { Running } from './process.ts';

/** The commands that a lab needs. */
export const LAB_COMMANDS = ['registry', 'buildkitd', 'buildctl', 'runc', 'crane'] as const;

export interface Lab {
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

export async function createLab(): Promise<Lab> {
  const folder = await mkdtemp(join(tmpdir(), 'veneer-lab-'));
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
    const { address: registry } = await keep(startRegistry(folder));
    const { socket: buildkit } = await keep(startBuildkit(folder, registry));
    const source = `${registry}/library/bb:1`;
    await makeBusyboxImage(folder, buildkit, source);
    return { folder, registry, buildkit, source, keep, close };
  } catch (error) {
    await close();
    throw error;
  }
}
