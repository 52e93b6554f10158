// The names that we read and write in documents. Go, which most clients are written in, matches names without regard to case: a document
// that spells one of them otherwise means one thing to us and another to those clients.
import { RegistryError } from '../oci/errors.ts';
import type { Json } from './json.ts';

/** The names in an object, or in each object of a list; null where nothing within has a name of ours: plain values and maps. */
export interface Shape {
  readonly [name: string]: Shape | null;
}

const PLATFORM: Shape = { os: null, architecture: null, variant: null };

const DESCRIPTOR: Shape = {
  mediaType: null,
  digest: null,
  size: null,
  urls: null,
  data: null,
  annotations: null,
  artifactType: null,
  platform: PLATFORM,
};

/** Of image-spec manifest.md and image-index.md. */
export const MANIFEST: Shape = {
  schemaVersion: null,
  mediaType: null,
  artifactType: null,
  config: DESCRIPTOR,
  layers: DESCRIPTOR,
  manifests: DESCRIPTOR,
  fsLayers: null,
  annotations: null,
};

/** Of image-spec config.md. */
export const CONFIG: Shape = {
  ...PLATFORM,
  created: null,
  config: {
    Env: null,
    Entrypoint: null,
    Cmd: null,
    WorkingDir: null,
    User: null,
    Labels: null,
    ExposedPorts: null,
  },
  rootfs: { type: null, diff_ids: null },
  history: { empty_layer: null },
};

/** Throws MANIFEST_INVALID for a key that is one of the names but for its case. */
export function checkNames(json: Json, shape: Shape): void {
  const names = new Map(Object.keys(shape).map(name => [fold(name), name]));
  for (const [key, value] of json.members ?? []) {
    const name = names.get(fold(key));
    if (name === undefined) continue;
    if (name !== key) throw ambiguous(key, name);
    const within = shape[name];
    if (within) for (const part of [value, ...(value.items ?? [])]) checkNames(part, within);
  }
}

/** As Go folds names: the long s and the Kelvin sign are letters too. */
function fold(name: string): string {
  return name.toUpperCase().toLowerCase();
}

function ambiguous(key: string, name: string): RegistryError {
  const reason = `its key ${JSON.stringify(key)} is taken for "${name}" by some clients and ignored by others`;
  return new RegistryError('MANIFEST_INVALID', `the document cannot be augmented: ${reason}`);
}
