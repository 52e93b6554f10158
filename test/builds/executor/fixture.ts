// A maker of images over backends in memory, and what it told.
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import type { Backend } from '../../../src/builds/backend.ts';
import {
  createImageExecutor,
  type FinishInput,
  type ImageExecutorDeps,
} from '../../../src/builds/executor/image-executor.ts';
import { createPlatforms } from '../../../src/builds/executor/platforms.ts';
import { createWorkspaces } from '../../../src/builds/executor/workspace.ts';
import type { ProgressEvent } from '../../../src/builds/progress.ts';
import type { ContainerFileSpec } from '../../../src/builds/spec.ts';
import type { Digest } from '../../../src/oci/digest.ts';
import type { MemoryRegistry } from '../../support/build-backends.ts';

export const ID = 'bd-0123456789abcdef_1';
export const IMAGE = 'local/builds:app';

export interface Workshop {
  readonly registry: MemoryRegistry;
  readonly events: readonly ProgressEvent[];
  /** The names of the backends that worked. */
  readonly worked: readonly string[];
  readonly finished: readonly FinishInput[];
  make(spec: ContainerFileSpec, signal?: AbortSignal): Promise<Digest>;
  /** What lies in the folder of the workspaces. */
  leftovers(): Promise<readonly string[]>;
}

/** `registry` is made before the backends, which push to it. */
export async function openWorkshop(
  registry: MemoryRegistry,
  backends: readonly Backend[],
  parts: Partial<ImageExecutorDeps> = {},
): Promise<Workshop> {
  const directory = await mkdtemp(join(tmpdir(), 'veneer-make-'));
  onTestFinished(() => rm(directory, { recursive: true }));
  const events: ProgressEvent[] = [];
  const worked: string[] = [];
  const finished: FinishInput[] = [];
  const make = createImageExecutor({
    platforms: createPlatforms(backends),
    workspaces: await createWorkspaces({ directory }),
    openDestination: registry.openDestination,
    images: registry.images,
    targetOf: async image => ({ image, name: `127.0.0.1:8080/${image}`, isInsecure: true }),
    isHosted: () => false,
    pinBase: async (name, digest) => ({ name: `${name}@${digest}`, isInsecure: false }),
    findSecret: async () => undefined,
    findSsh: async () => undefined,
    findCredentials: async () => new Map(),
    endCredentials: async () => {},
    unpackContext: async () => new Map(),
    removeTag: async (repository, tag) => void registry.tags.delete(`${repository}:${tag}`),
    async finish(order) {
      finished.push(order);
      registry.tags.set(order.image, order.source.digest);
      return order.source.digest;
    },
    ...parts,
  });
  return {
    registry,
    events,
    worked,
    finished,
    async make(spec, signal = new AbortController().signal) {
      const options = {
        signal,
        report: (entry: ProgressEvent) => events.push(entry),
        onBackend: (name: string) => worked.push(name),
      };
      return (await make(spec, { id: ID, image: IMAGE, ...options })).digest;
    },
    leftovers: () => readdir(directory),
  };
}
