// What the suites of mirrors' clients stand on: a registry that Veneer pulls from, and files that `veneer mirror-config` makes.
import { mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { clientPath } from './clients.ts';
import { type Server, startRegistry, startVeneer } from './daemons.ts';
import type { Environment } from './environment.ts';
import { type Killable, run } from './process.ts';

/**
 * A registry that only Veneer knows of, in the place of Docker Hub and of the environment's own. `library/mirrored:1` is there alone, so that it comes
 * through Veneer or not at all; `library/bb:1` is in the environment's, too, to which a client may fall back.
 */
export interface Hidden {
  readonly registry: Server;
  /** Of the index of both images. */
  readonly digest: string;
  /** A Veneer with it for both: `entry` is added to their entries of upstreams, and `settings` to the configuration. */
  startVeneer(entry?: Settings, settings?: Settings): Promise<Server & Killable>;
}

type Settings = Readonly<Record<string, unknown>>;

export const MIRRORED = 'library/mirrored:1';
export const BOTH = 'library/bb:1';

export async function startHidden(environment: Environment): Promise<Hidden> {
  const registry = await environment.keep(startRegistry(await mkdtemp(join(environment.folder, 'hidden-'))));
  for (const name of [MIRRORED, BOTH]) {
    await run(clientPath('crane'), ['copy', '--insecure', environment.source, `${registry.address}/${name}`]);
  }
  const digest = await run(clientPath('crane'), ['digest', '--insecure', environment.source]);
  return {
    registry,
    digest,
    startVeneer(entry = {}, settings = {}) {
      const upstream = { url: `http://${registry.address}`, ...entry };
      const upstreams = { 'docker.io': upstream, [environment.registry]: upstream };
      return environment.keep(startVeneer(environment.folder, undefined, { upstreams, ...settings }));
    },
  };
}

/** The file that the command prints, for a Veneer at the address. */
export async function makeMirrorFile(runtime: string, address: string, ...options: readonly string[]): Promise<string> {
  const args = ['src/main.ts', 'mirror-config', runtime, '--address', `http://${address}`, ...options];
  return run(process.execPath, args);
}
