// The files of one build that buildah reads and writes, in the directory of the build input: Containerfile, auth.json, registries.conf.
import { randomUUID } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { BuildInput } from '../../backend.ts';
import { listReadImages } from '../../needs.ts';
import { normalizeImage } from '../buildkit/source-policy.ts';

export interface Workspace {
  readonly context: string;
  readonly file: string;
  /** HOME of the process: the logins of this user are no business of the build. */
  readonly home: string;
  /** For temporary files; leftovers are removed with the directory. */
  readonly temporary: string;
  readonly authFile: string;
  readonly registries: string;
  /** The file of each secret's value, by id. */
  readonly secrets: ReadonlyMap<string, string>;
  /** Written by buildah: the id of the last image, and the digest of the push. */
  readonly imageId: string;
  readonly digest: string;
  /** The unique name of the manifest list in buildah's storage. */
  readonly list: string;
}

/** The prefix of the names of manifest lists. */
export const LIST_PREFIX = 'localhost/veneer-';

export function planWorkspace({ directory, secrets }: BuildInput, unique: string = randomUUID()): Workspace {
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

/** Creates the folders and files, readable for this user only. */
export async function writeWorkspace(input: BuildInput, workspace: Workspace): Promise<void> {
  const { secrets, spec } = input;
  const folders = [workspace.context, workspace.home, workspace.temporary, join(input.directory, 'buildah', 'secrets')];
  for (const folder of folders) await mkdir(folder, { recursive: true, mode: 0o700 });
  await writePrivate(workspace.file, spec.containerFile);
  await writePrivate(workspace.authFile, JSON.stringify(authFile(input)));
  await writePrivate(workspace.registries, registriesConf(input));
  for (const [id, path] of workspace.secrets) await writePrivate(path, secrets.get(id) ?? '');
}

function writePrivate(path: string, content: string | Uint8Array): Promise<void> {
  return writeFile(path, content, { mode: 0o600 });
}

interface AuthFile {
  readonly auths: Readonly<Record<string, { readonly auth: string }>>;
}

/** containers-auth.json(5) with credentials by repository, for those that the build is planned to read or write: a trigger of a base, or a line
 * that buildah parses otherwise than we do, gets no other image with them. Throws BuildFailure for an invalid Containerfile. */
export function authFile({
  spec,
  bases,
  target,
  cache,
  credentials,
}: Pick<BuildInput, 'spec' | 'bases' | 'target' | 'cache' | 'credentials'>): AuthFile {
  const written = [target, ...(cache ? [cache] : [])];
  const names = [...written, ...bases.values()].map(({ name }) => name);
  const repositories = new Set([...names, ...listReadImages(spec).map(normalizeImage)].map(repositoryOf));
  const entries = [...repositories].flatMap(repository => {
    const found = credentials.get(repository.slice(0, repository.indexOf('/')));
    return found ? [[repository, { auth: encode(found) }] as const] : [];
  });
  return { auths: Object.fromEntries(entries) };
}

/** `host[:port]/repository`. */
function repositoryOf(name: string): string {
  const [named = ''] = name.split('@', 1);
  const colon = named.lastIndexOf(':');
  return colon > named.lastIndexOf('/') ? named.slice(0, colon) : named;
}

function encode({ username, password }: { readonly username: string; readonly password: string }): string {
  return Buffer.from(`${username}:${password}`).toString('base64');
}

/** A host of this machine, anywhere in a text. */
const LOOPBACK = /(?<![\w.-])(?:localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3})(?::\d{1,5})?(?![\w.-])/g;

/**
 * containers-registries.conf(5) in place of the machine's own; registries.conf.d still applies. A name without a registry is on docker.io, as for
 * every other builder. Plain HTTP is for the targets that need it, and for registries on this machine, as with the other builders;
 * `--tls-verify=false` would apply to all registries of base images.
 */
export function registriesConf(input: InsecureOrder): string {
  const insecure = [...listInsecure(input)].map(
    host => `[[registry]]\nlocation = ${JSON.stringify(host)}\ninsecure = true\n`,
  );
  return ['unqualified-search-registries = ["docker.io"]\nshort-name-mode = "disabled"\n', ...insecure].join('\n');
}

type InsecureOrder = Pick<BuildInput, 'target' | 'cache' | 'bases' | 'spec'>;

function listInsecure({ target, cache, bases, spec }: InsecureOrder): ReadonlySet<string> {
  const targets = [target, ...(cache ? [cache] : []), ...bases.values()].filter(({ isInsecure }) => isInsecure);
  const texts = [spec.containerFile, ...Object.values(spec.args)];
  return new Set([
    ...targets.map(({ name }) => name.slice(0, name.indexOf('/'))),
    ...texts.flatMap(text => [...text.matchAll(LOOPBACK)].map(([host]) => host)),
  ]);
}
