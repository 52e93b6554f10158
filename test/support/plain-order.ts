// Orders that are values alone: for what makes commands and files of them.
import type { BuildInput } from '../../src/builds/backend.ts';
import { type ContainerFileSpec, specSchema } from '../../src/builds/spec.ts';
import { parsePlatform } from '../../src/oci/platform.ts';

export type SpecFields = Readonly<Record<string, unknown>>;

/** For linux/amd64, in the directory /b, without a context or anything that is optional. */
export function plainOrder(order: Partial<BuildInput> = {}, fields: SpecFields = {}): BuildInput {
  return {
    id: 'bd-0123456789abcdef_1',
    spec: plainSpec(fields),
    platforms: [parsePlatform('linux/amd64')],
    directory: '/b',
    target: { name: 'host:5000/repo:tag', image: 'local/repo:tag', isInsecure: false },
    cache: undefined,
    bases: new Map(),
    secrets: new Map(),
    ssh: new Map(),
    credentials: new Map(),
    ...order,
  };
}

export function plainSpec(fields: SpecFields = {}): ContainerFileSpec {
  const spec = specSchema.parse({
    ...{ kind: 'containerfile', containerFile: 'FROM base\n', platforms: ['linux/amd64'], bases: {} },
    target: { repository: 'local/repo' },
    ...fields,
  });
  if (spec.kind !== 'containerfile') throw new Error('not the spec of a Containerfile');
  return spec;
}
