// Cleans up buildah's storage: what builds leave behind is removed while none runs, since it does not say whose it is.
import { z } from 'zod';
import { BackendUnavailable } from '../../execution.ts';
import { LIST_PREFIX } from './workspace.ts';

interface StorageCleaner {
  /** Runs a build. If no other is running afterwards, the storage is cleaned up before the promise settles. */
  use<T>(build: () => Promise<T>): Promise<T>;
}

interface StorageCleanerOptions {
  /** The output of a buildah command on the storage; throws BackendUnavailable. */
  readonly read: (args: readonly string[]) => Promise<string>;
  /** Whether only these builds use the storage; otherwise nothing is removed. */
  readonly isOwn: boolean;
  readonly now: () => number;
}

/** How long the layers of a step are cached for later builds after their creation. */
const KEEP_MS = 7 * 24 * 60 * 60 * 1_000;
const PRUNE_EVERY_MS = 60 * 60 * 1_000;

const imagesSchema = z.array(z.object({ id: z.string(), created: z.number() }));

export function createStorageCleaner({ read, isOwn, now }: StorageCleanerOptions): StorageCleaner {
  let running = 0;
  let sweeping: Promise<void> = Promise.resolve();
  /** True before the first build: a crash may have left something. */
  let isDirty = true;
  let prunedAt = Number.NEGATIVE_INFINITY;

  async function sweep(): Promise<void> {
    if (isDirty) isDirty = !(await succeeds(removeLeftovers(read)));
    if (now() - prunedAt < PRUNE_EVERY_MS) return;
    prunedAt = now();
    await succeeds(prune(read, now() - KEEP_MS));
  }

  return {
    async use(build) {
      running += 1;
      await sweeping;
      try {
        return await build();
      } catch (error) {
        isDirty = true;
        throw error;
      } finally {
        running -= 1;
        if (running === 0 && isOwn) sweeping = sweep();
        await sweeping;
      }
    },
  };
}

/** Removes working containers, with their mounts, and manifest lists. */
async function removeLeftovers(read: StorageCleanerOptions['read']): Promise<void> {
  await read(['rm', '--all']);
  const lists = words(await read(['images', '--quiet', '--filter', `reference=${LIST_PREFIX}*`]));
  if (lists.length > 0) await read(['rmi', '--force', ...lists]);
}

/** Removes old unnamed images that buildah made: its layer cache. One that a younger one is based on stays. */
async function prune(read: StorageCleanerOptions['read'], before: number): Promise<void> {
  const filters = ['--filter', 'dangling=true', '--filter', 'label=io.buildah.version'];
  const output = await read(['images', '--all', '--no-trunc', '--json', ...filters]);
  const images = imagesSchema.parse(JSON.parse(output || '[]') ?? []);
  for (const { id, created } of images) if (created * 1_000 < before) await succeeds(read(['rmi', id]));
}

/** A failed clean-up is retried by a later sweep, and fails no build. */
async function succeeds(work: Promise<unknown>): Promise<boolean> {
  try {
    await work;
    return true;
  } catch (error) {
    if (isNoAnswer(error)) return false;
    throw error;
  }
}

function isNoAnswer(error: unknown): boolean {
  return error instanceof BackendUnavailable || error instanceof z.ZodError || error instanceof SyntaxError;
}

function words(output: string): readonly string[] {
  return output.split(/\s+/).filter(Boolean);
}
