// The files of one build that BuildKit's clients read and write, in the directory of the build input.
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { type Digest, parseDigest } from '../../../oci/digest.ts';
import type { BuildCredentials, BuildInput } from '../../backend.ts';
import { BuildFailure } from '../../execution.ts';
import { createSourcePolicy } from './source-policy.ts';

export interface Workspace {
  readonly context: string;
  /** A folder with nothing but the Containerfile: a custom frontend may read all of it. */
  readonly file: string;
  /** HOME and DOCKER_CONFIG of the process. */
  readonly home: string;
  /** The file of each secret's value, by id. */
  readonly secrets: ReadonlyMap<string, string>;
  /** The source policy: what may be read. */
  readonly sourcePolicy: string;
  /** Written by buildctl. */
  readonly metadata: string;
}

/** The name of the Containerfile in its folder. */
export const FILE_NAME = 'Containerfile';

export function planWorkspace({ directory, secrets }: BuildInput): Workspace {
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

/** Creates the folders and files, readable for this user only. */
export async function writeWorkspace(input: BuildInput, workspace: Workspace): Promise<void> {
  const { secrets, spec, credentials } = input;
  const own = join(input.directory, 'buildkit');
  const folders = [own, workspace.context, workspace.file, workspace.home, join(own, 'secrets')];
  for (const folder of folders) await mkdir(folder, { recursive: true, mode: 0o700 });
  await writePrivate(join(workspace.file, FILE_NAME), spec.containerFile);
  await writePrivate(join(workspace.home, 'config.json'), JSON.stringify(dockerConfig(credentials)));
  await writePrivate(workspace.sourcePolicy, JSON.stringify(createSourcePolicy(input)));
  for (const [id, path] of workspace.secrets) await writePrivate(path, secrets.get(id) ?? '');
}

function writePrivate(path: string, content: string | Uint8Array): Promise<void> {
  return writeFile(path, content, { mode: 0o600 });
}

/** The key of these tools for Docker Hub. */
const DOCKER_HUB_KEY = 'https://index.docker.io/v1/';
const DOCKER_HUB = ['docker.io', 'index.docker.io', 'registry-1.docker.io'];

interface DockerConfig {
  readonly auths: Readonly<Record<string, { readonly auth: string }>>;
}

/** Credentials by registry host in the form of Docker's config.json. */
export function dockerConfig(credentials: ReadonlyMap<string, BuildCredentials>): DockerConfig {
  const entries = [...credentials].flatMap(([host, { username, password }]) => {
    const auth = Buffer.from(`${username}:${password}`).toString('base64');
    return keysOf(host).map(key => [key, { auth }] as const);
  });
  return { auths: Object.fromEntries(entries) };
}

function keysOf(host: string): readonly string[] {
  return DOCKER_HUB.includes(host) ? [host, DOCKER_HUB_KEY] : [host];
}

const metadataSchema = z.object({ 'containerimage.digest': z.string() });

/** The digest of the manifest or index that was pushed. Throws BuildFailure if the file does not have it. */
export async function readMetadata(path: string): Promise<Digest> {
  try {
    const metadata = metadataSchema.parse(JSON.parse(await readFile(path, 'utf8')));
    return parseDigest(metadata['containerimage.digest']);
  } catch (cause) {
    const reason = 'the builder ended well, but does not say which digest it pushed';
    throw new BuildFailure({ kind: 'infrastructure', reason }, { cause });
  }
}
