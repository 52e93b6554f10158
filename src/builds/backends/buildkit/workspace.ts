// What buildctl reads and writes of one build, in the order's directory.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { BuildOrder } from '../../backend.ts';
import { dockerConfig } from './docker-config.ts';
import { createSourcePolicy } from './source-policy.ts';

export interface Workspace {
  readonly context: string;
  /** A folder with the Containerfile and nothing else: a frontend that the file names may ask for all of it. */
  readonly file: string;
  /** HOME and DOCKER_CONFIG of the process. */
  readonly home: string;
  /** For each secret the file of its value. */
  readonly secrets: ReadonlyMap<string, string>;
  /** What may be read. */
  readonly sourcePolicy: string;
  /** Written by buildctl. */
  readonly metadata: string;
}

/** The name of the Containerfile in its folder. */
export const FILE_NAME = 'Containerfile';

export function planWorkspace({ directory, secrets }: BuildOrder): Workspace {
  const own = join(directory, 'buildkit');
  return {
    context: join(directory, 'context'),
    file: join(own, 'file'),
    home: join(own, 'home'),
    secrets: new Map([...secrets.keys()].map((id, i) => [id, join(own, 'secrets', String(i))])),
    sourcePolicy: join(own, 'source-policy.json'),
    metadata: join(own, 'metadata.json'),
  };
}

/** Makes the folders and files of the workspace, readable for this user alone. */
export async function writeWorkspace(order: BuildOrder, workspace: Workspace): Promise<void> {
  const { secrets, spec, credentials } = order;
  const own = join(order.directory, 'buildkit');
  const folders = [own, workspace.context, workspace.file, workspace.home, join(own, 'secrets')];
  for (const folder of folders) await mkdir(folder, { recursive: true, mode: 0o700 });
  await writePrivate(join(workspace.file, FILE_NAME), spec.containerFile);
  await writePrivate(join(workspace.home, 'config.json'), JSON.stringify(dockerConfig(credentials)));
  await writePrivate(workspace.sourcePolicy, JSON.stringify(createSourcePolicy(order)));
  for (const [id, path] of workspace.secrets) await writePrivate(path, secrets.get(id) ?? '');
}

function writePrivate(path: string, content: string | Uint8Array): Promise<void> {
  return writeFile(path, content, { mode: 0o600 });
}
