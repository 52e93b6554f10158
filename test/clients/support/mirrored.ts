// What the suites of mirrors' clients stand on: a registry that Veneer pulls from, and files that `veneer mirror-config` makes.
import { mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { clientPath } from './clients.ts';
import { type Server, startRegistry, startVeneer } from './daemons.ts';
import type { Lab } from './lab.ts';
import { type Killable, run } from './process.ts';

/**
 * A registry that only Veneer knows of, in the place of Docker Hub and of the lab's own. `library/mirrored:1` is there alone, so that it comes
 * through Veneer or not at all; `library/bb:1` is in the lab's, too, to which a client may fall back.
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

export async function startHidden(lab: Lab): Promise<Hidden> {
  const registry = await lab.keep(startRegistry(await mkdtemp(join(lab.folder, 'hidden-'))));
  for (const name of [MIRRORED, BOTH]) {
    await run(clientPath('crane'), ['copy', '--insecure', lab.source, `${registry.address}/${name}`]);
  }
  const digest = await run(clientPath('crane'), ['digest', '--insecure', lab.source]);
  return {
    registry,
    digest,
    startVeneer(entry = {}, settings = {}) {
      const upstream = { url: `http://${registry.address}`, ...entry };
      const upstreams = { 'docker.io': upstream, [lab.registry]: upstream };
      return lab.keep(startVeneer(lab.folder, undefined, { upstreams, ...settings }));
    },
  };
}

/** The file that the command prints, for a Veneer at the address. */
export async function makeMirrorFile(runtime: string, address: string, ...options: readonly string[]): Promise<string> {
  const args = ['src/main.ts', 'mirror-config', runtime, '--address', `http://${address}`, ...options];
  return run(process.execPath, args);
}
