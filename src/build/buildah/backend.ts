// The builder that needs no daemon: buildah, with a storage of its own, and without root where it must.
import { getuid } from 'node:process';
import { z } from 'zod';
import { isSamePlatform, type Platform } from '../../oci/platform.ts';
import { type Backend, BackendUnavailable, type BuildOptions, type BuildOrder, type BuildResult } from '../backend.ts';
import type { Environment } from '../environment.ts';
import { createClient } from './client.ts';
import type { Isolation, StorageOptions } from './command.ts';
import { findBuildahObstacle } from './obstacle.ts';
import { listMachinePlatforms } from './platforms.ts';
import { createStorageKeeper } from './storage.ts';
import { buildImages } from './work.ts';
import { planWorkspace, type Workspace, writeWorkspace } from './workspace.ts';

/** With a `root`, the storage below it is for these builds alone, and put in order after them. */
export interface BuildahOptions extends StorageOptions {
  readonly name: string;
  /** Absent: `oci` for root, `rootless` for everyone else, as they are the strongest that each can have. */
  readonly isolation?: Isolation | undefined;
  /** What it is to build for, of all that it can; absent: all. */
  readonly platforms?: readonly Platform[] | undefined;
  /** The buildah to run: a name in PATH or a path. */
  readonly command?: string | undefined;
  /** The service's: buildah gets the part of it that childEnvironment passes on. */
  readonly environment: Environment;
  readonly now?: () => number;
}

const infoSchema = z.object({ host: z.object({ os: z.string(), arch: z.string() }) });

export function createBuildahBackend(options: BuildahOptions): Backend {
  const { name, root, platforms, command = 'buildah', now = Date.now } = options;
  const isolation = options.isolation ?? (getuid?.() === 0 ? 'oci' : 'rootless');
  const client = createClient({ ...options, command });
  // A build that was cancelled is tidied up after all the same.
  const tidy = (args: readonly string[]) => client.read(args, new AbortController().signal);
  const storage = createStorageKeeper({ read: tidy, isOwn: root !== undefined, now });

  async function listPlatforms(signal: AbortSignal): Promise<readonly Platform[]> {
    const all = await listMachinePlatforms(parseInfo(await client.read(['info'], signal)));
    return platforms ? all.filter(one => platforms.some(other => isSamePlatform(one, other))) : all;
  }

  async function build(order: BuildOrder, { signal, tell }: BuildOptions): Promise<BuildResult> {
    signal.throwIfAborted();
    const workspace = planWorkspace(order);
    await writeWorkspace(order, workspace);
    return await storage.use(async () => {
      try {
        return { digest: await buildImages({ client, order, workspace, isolation, options: { signal, tell } }) };
      } finally {
        if (order.platforms.length > 1) await removeList(workspace);
      }
    });
  }

  async function removeList({ list }: Workspace): Promise<void> {
    try {
      await tidy(['manifest', 'rm', list]);
    } catch (error) {
      // It was never made, or the next sweep removes it.
      if (!(error instanceof BackendUnavailable)) throw error;
    }
  }

  return {
    name,
    kind: 'buildah',
    isMultiPlatform: true,
    listPlatforms,
    findObstacle: spec => findBuildahObstacle(spec, isolation),
    build,
    close: async () => undefined,
  };
}

/** The machine's own platform. Throws BackendUnavailable for what is no answer. */
function parseInfo(output: string): string {
  try {
    const { host } = infoSchema.parse(JSON.parse(output));
    return `${host.os}/${host.arch}`;
  } catch (cause) {
    throw new BackendUnavailable('`buildah info` does not say what machine this is', { cause });
  }
}
