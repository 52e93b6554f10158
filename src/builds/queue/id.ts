// The identity of a build: equal specs have equal ids, in every version of this code. A field that is added to specs must be absent by
// default, or every spec would get a new id.
import { createHash } from 'node:crypto';
import type { Spec } from '../spec.ts';

const HEX_LENGTH = 16;
const MAX_TAG_LENGTH = 128;

/** `bd-<16 hex>`, of a plain copy `mr-<16 hex>`: the prefix of the ids of all attempts at this spec. */
export function specKey(spec: Spec): string {
  const kind = spec.kind === 'copy' && !spec.changes && !spec.format ? 'mr' : 'bd';
  return `${kind}-${specHex(spec)}`;
}

export function attemptId(key: string, attempt: number): string {
  return `${key}_${attempt}`;
}

/** The key and the attempt of a build's id. */
export function splitId(id: string): { readonly key: string; readonly attempt: number } {
  const end = id.lastIndexOf('_');
  return { key: id.slice(0, end), attempt: Number(id.slice(end + 1)) };
}

/** The target's full name with its tag. A prefix that would make the tag too long is truncated. */
export function imageOf(spec: Spec): string {
  const { repository, tag, tagPrefix } = spec.target;
  return `${repository}:${tag ?? tagOf(specHex(spec), tagPrefix)}`;
}

function tagOf(hex: string, prefix: string | undefined): string {
  return prefix ? `${prefix.slice(0, MAX_TAG_LENGTH - '--'.length - hex.length)}--${hex}` : hex;
}

function specHex(spec: Spec): string {
  return createHash('sha256')
    .update(JSON.stringify(sortKeys(decisive(spec))))
    .digest('hex')
    .slice(0, HEX_LENGTH);
}

/** Everything that decides the result. The maps of an augmentation keep their order in images, so it counts. */
function decisive({ timeoutMs: _, changes, ...spec }: Spec): unknown {
  if (!changes) return spec;
  const { env, labels, annotations, ...augmentation } = changes.augmentation;
  const ordered = { env: entriesOf(env), labels: entriesOf(labels), annotations: entriesOf(annotations) };
  return { ...spec, changes: { ...changes, augmentation: { ...augmentation, ...ordered } } };
}

function entriesOf(map: Readonly<Record<string, string>> | undefined) {
  return map && Object.entries(map);
}

function sortKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sortKeys);
  if (!(value instanceof Object)) return value;
  const entries = Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, inner]) => [key, sortKeys(inner)]));
}
