// The few blobs, images, indexes and referrers that clients of the collection tests push, and what of a registry that has them is needed.
import { type Digest, digestOf } from '../../../src/oci/digest.ts';
import { mediaTypes } from '../../../src/oci/media-type.ts';
import { bytes, descriptorOf, json, smallManifest } from '../fixture.ts';

export interface Document {
  readonly raw: Uint8Array;
  readonly mediaType: string;
  readonly blobs: readonly Uint8Array[];
  /** Pushed before it. */
  readonly manifests: readonly Document[];
  readonly subject?: Document;
}

export const BLOBS = ['config', 'layer one', 'layer two', 'layer three'].map(bytes);

export const REPOSITORIES: readonly string[] = ['local/a', 'local/a-b'];
export const TAGS = ['t1', 't2', 'fixed'] as const;

const blob = (i: number) => BLOBS[i] ?? bytes('none');

function image(config: number, layer: number, more: { readonly subject?: Document } = {}): Document {
  const { subject } = more;
  const about = subject && { subject: descriptorOf(subject.raw, subject.mediaType) };
  const blobs = [blob(config), blob(layer)] as const;
  const raw = smallManifest(...blobs, about);
  return { raw, mediaType: mediaTypes.ociManifest, blobs, manifests: [], ...more };
}

function index(...manifests: readonly Document[]): Document {
  const mediaType = mediaTypes.ociIndex;
  const entries = manifests.map(child => descriptorOf(child.raw, child.mediaType));
  return { raw: json({ schemaVersion: 2, mediaType, manifests: entries }), mediaType, blobs: [], manifests };
}

const [one, two] = [image(0, 1), image(0, 2)];
const inner = index(one, two);
const signature = image(0, 3, { subject: one });
const outer = index(inner, image(1, 3));

export const DOCUMENTS: readonly Document[] = [
  one,
  two,
  inner,
  outer,
  signature,
  image(3, 3, { subject: signature }),
  image(0, 3, { subject: inner }),
];

const byDigest = new Map<string, Document>(
  [...DOCUMENTS, ...outer.manifests].map(found => [digestOf(found.raw), found]),
);

export function findDocument(digest: string): Document {
  const found = byDigest.get(digest);
  if (!found) throw new Error(`no document of the tests has digest ${digest}`);
  return found;
}

export const digestsOf = (contents: readonly Uint8Array[]): readonly Digest[] => contents.map(raw => digestOf(raw));

/** Of the manifests of one repository those that have to stay: what `roots` lead to, and what is about that, and what that leads to… */
export function neededOf(manifests: ReadonlySet<string>, roots: Iterable<string>): ReadonlySet<string> {
  const needed = new Set<string>(roots);
  for (const digest of needed) {
    for (const child of findDocument(digest).manifests) {
      const found = digestOf(child.raw);
      if (manifests.has(found)) needed.add(found);
    }
    for (const other of manifests) {
      const { subject } = findDocument(other);
      if (subject && digestOf(subject.raw) === digest) needed.add(other);
    }
  }
  return needed;
}
