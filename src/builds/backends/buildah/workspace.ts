// What buildah reads and writes of one build, in the order's directory.
import { randomUUID } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { BuildOrder } from '../../backend.ts';
import { authFile } from './auth-file.ts';
import { registriesConf } from './registries-conf.ts';

export interface Workspace {
  readonly context: string;
  readonly file: string;
  /** HOME of the process: what this user logged in to is no business of the build. */
  readonly home: string;
  /** Of what it makes on the way; what is left of it goes with the directory. */
  readonly temporary: string;
  readonly authFile: string;
  readonly registries: string;
  /** For each secret the file of its value. */
  readonly secrets: ReadonlyMap<string, string>;
  /** Written by buildah: the id of the last image that was built, and the digest of what was pushed. */
  readonly imageId: string;
  readonly digest: string;
  /** The name of the list of images in buildah's storage: no other build's. */
  readonly list: string;
}

/** What the names of lists begin with. */
export const LIST_PREFIX = 'localhost/veneer-';

export function planWorkspace({ directory, secrets }: BuildOrder, unique: string = randomUUID()): Workspace {
  const own = join(directory, 'buildah');
  return {
    context: join(directory, 'context'),
    file: join(own, 'Containerfile'),
    home: join(own, 'home'),
    temporary: join(own, 'tmp'),
    authFile: join(own, 'auth.json'),
    registries: join(own, 'registries.conf'),
    secrets: new Map([...secrets.keys()].map((id, i) => [id, join(own, 'secrets', String(i))])),
    imageId: join(own, 'image-id'),
    digest: join(own, 'digest'),
    list: `${LIST_PREFIX}${unique}`,
  };
}

/** Makes the folders and files of the workspace, readable for this user alone. */
export async function writeWorkspace(order: BuildOrder, workspace: Workspace): Promise<void> {
  const { secrets, spec } = order;
  const folders = [workspace.context, workspace.home, workspace.temporary, join(order.directory, 'buildah', 'secrets')];
  for (const folder of folders) await mkdir(folder, { recursive: true, mode: 0o700 });
  await writePrivate(workspace.file, spec.containerFile);
  await writePrivate(workspace.authFile, JSON.stringify(authFile(order)));
  await writePrivate(workspace.registries, registriesConf(order));
  for (const [id, path] of workspace.secrets) await writePrivate(path, secrets.get(id) ?? '');
}

function writePrivate(path: string, content: string | Uint8Array): Promise<void> {
  return writeFile(path, content, { mode: 0o600 });
}
