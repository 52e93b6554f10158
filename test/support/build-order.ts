// Orders for builders: a Containerfile, its context and what else a test is about, in a folder of its own.
import { mkdir, mkdtemp, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { BuildCredentials, BuildInput } from '../../src/builds/backend.ts';
import { normalizeImage } from '../../src/builds/backends/buildkit/source-policy.ts';
import { type ContainerFileSpec, specSchema } from '../../src/builds/spec.ts';
import { parsePlatform } from '../../src/oci/platform.ts';

export interface OrderOptions {
  readonly containerFile: string;
  /** `host[:port]/repository:tag`. */
  readonly image: string;
  readonly platforms?: readonly string[];
  /** Files of the build context by their paths. */
  readonly context?: Readonly<Record<string, string>>;
  /** Further fields of the spec. */
  readonly spec?: Readonly<Record<string, unknown>>;
  readonly secrets?: Readonly<Record<string, string>>;
  readonly ssh?: Readonly<Record<string, string>>;
  /** By the registry's host. */
  readonly credentials?: Readonly<Record<string, BuildCredentials>>;
  /** `host[:port]/repository:tag` of the layer cache. */
  readonly cache?: string;
}

/** An order whose directory is a new one below the folder. All registries speak plain HTTP. */
export async function createOrder(folder: string, options: OrderOptions): Promise<BuildInput> {
  const { containerFile, image, platforms = ['linux/amd64'], context = {}, secrets = {}, ssh = {}, cache } = options;
  const directory = await mkdtemp(join(folder, 'order-'));
  await mkdir(join(directory, 'context'));
  await writeFile(join(directory, 'Containerfile'), containerFile);
  for (const [path, content] of Object.entries(context)) {
    const file = join(directory, 'context', path);
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, content);
  }
  const spec = parseContainerFileSpec(options);
  return {
    id: 'bd-0123456789abcdef_1',
    spec,
    bases: new Map(Object.entries(spec.bases).map(([name, digest]) => [name, pinnedBase(name, digest)])),
    platforms: platforms.map(parsePlatform),
    directory,
    target: targetOf(image),
    cache: cache === undefined ? undefined : targetOf(cache),
    secrets: new Map(Object.entries(secrets).map(([id, value]) => [id, Buffer.from(value)])),
    ssh: new Map(Object.entries(ssh)),
    credentials: new Map(Object.entries(options.credentials ?? {})),
  };
}

function parseContainerFileSpec(options: OrderOptions): ContainerFileSpec {
  const { containerFile, platforms = ['linux/amd64'], image, secrets = {}, ssh = {} } = options;
  const spec = specSchema.parse({
    kind: 'containerfile',
    containerFile,
    platforms,
    bases: {},
    secrets: Object.keys(secrets),
    ssh: Object.keys(ssh),
    target: { repository: image.slice(0, image.lastIndexOf(':')), tag: image.slice(image.lastIndexOf(':') + 1) },
    ...options.spec,
  });
  if (spec.kind !== 'containerfile') throw new Error('not the spec of a Containerfile');
  return spec;
}

function targetOf(name: string) {
  return { name, image: name, isInsecure: true };
}

function pinnedBase(name: string, digest: string) {
  const image = normalizeImage(name);
  return { name: `${image.slice(0, image.lastIndexOf(':'))}@${digest}`, isInsecure: true };
}
