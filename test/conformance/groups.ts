// The groups of content that the OCI conformance suite pushes, lists, pulls and deletes, under the suite's own names for them.
import type { Digest, DigestAlgorithm } from '../../src/oci/digest.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';
import {
  type Content,
  descriptorOf,
  EMPTY,
  type ImageOptions,
  makeContent,
  makeImage,
  makeIndex,
  makeLayer,
  partsOf,
} from './documents.ts';

export interface Group {
  readonly name: string;
  readonly blobs: readonly Content[];
  /** In the order in which they are pushed. */
  readonly manifests: readonly Content[];
  readonly tags: Readonly<Record<string, Digest>>;
  /** Tags are parameters of a push by digest, instead of pushes of their own. */
  readonly hasTagParameters?: boolean;
  /** What a list of the referrers of a digest has to hold. */
  readonly referrers?: readonly { readonly subject: Digest; readonly entries: readonly object[] }[];
}

const ARTIFACT = 'application/vnd.example.oci.conformance.v1';
const OTHER_ARTIFACT = 'application/vnd.example.oci.conformance.v2';
const emptyJson = makeContent('{}', EMPTY);
const annotations = { 'org.opencontainers.conformance': 'hello' };

const largeAnnotations = Object.fromEntries(
  Array.from({ length: 390 }, (_, i) => [`large-annotation-${i}`, 'A'.repeat(10_000)]),
);

export const groups: readonly Group[] = [
  imageGroup('image'),
  imageGroup('image-uncompressed', { layers: [makeLayer('uncompressed', { isPacked: false })] }),
  imageGroup('large-manifest', { fields: { annotations: largeAnnotations } }),
  indexGroup('index'),
  nestedGroup(),
  { name: 'empty-index', blobs: [], ...tagged('empty', [makeIndex([])]) },
  imageGroup('artifact', artifact('artifact', ARTIFACT)),
  indexGroup('artifact-index', { fields: { artifactType: ARTIFACT }, imageOf: name => artifact(name, ARTIFACT) }),
  imageGroup('artifact-without-layers', { ...artifact('none', ARTIFACT), layers: [emptyJson] }),
  referrersGroup(),
  indexReferrersGroup(),
  missingSubjectGroup(),
  imageGroup('data-field', { describe: ({ raw }) => ({ data: Buffer.from(raw).toString('base64') }) }),
  nondistributableGroup(),
  imageGroup('custom-fields', { fields: { 'org.example.extra': { nested: ['value'] } } }),
  indexGroup('custom-fields-of-an-index', { fields: { 'org.example.extra': 'value' } }),
  imageGroup('no-layers', { layers: [] }),
  sparseGroup(),
  { ...indexGroup('sha512', { algorithm: 'sha512' }), tags: {} },
  { ...indexGroup('tag-param-sha256'), hasTagParameters: true },
  { ...indexGroup('tag-param-sha512', { algorithm: 'sha512' }), hasTagParameters: true },
];

function imageGroup(name: string, options: ImageOptions = {}): Group {
  return { name, blobs: blobsOf(name, options), ...tagged(name, [makeImage(name, options)]) };
}

interface IndexGroupOptions {
  readonly fields?: object;
  readonly imageOf?: (name: string) => ImageOptions;
  readonly algorithm?: DigestAlgorithm;
}

function indexGroup(name: string, { fields, imageOf, algorithm }: IndexGroupOptions = {}): Group {
  const optionsOf = (image: string) => ({ ...imageOf?.(image), ...(algorithm && { algorithm }) });
  const platforms = ['amd64', 'arm64'];
  const images = platforms.map(platform => makeImage(`${name} ${platform}`, optionsOf(platform)));
  const entries = images.map((each, i) => ({
    ...descriptorOf(each),
    platform: { os: 'linux', architecture: platforms[i] },
  }));
  const blobs = platforms.flatMap(platform => blobsOf(`${name} ${platform}`, optionsOf(platform)));
  return { name, blobs, ...tagged(name, [...images, makeIndex(entries, fields, algorithm)]) };
}

function nestedGroup(): Group {
  const name = 'nested-index';
  const images = [0, 1, 2, 3].map(i => makeImage(`${name} ${i}`));
  const inner = [images.slice(0, 2), images.slice(2)].map(each => makeIndex(each.map(descriptorOf)));
  const root = makeIndex(inner.map(descriptorOf));
  const blobs = [0, 1, 2, 3].flatMap(i => blobsOf(`${name} ${i}`));
  return { name, blobs, ...tagged('index-of-index', [...images, ...inner, root]) };
}

function referrersGroup(): Group {
  const name = 'artifacts-with-subject';
  const subject = makeImage(name);
  const about = { subject: descriptorOf(subject) };
  const plain = makeImage(`${name} plain`, { fields: about });
  const first = artifact(`${name} 1`, ARTIFACT, { ...about, annotations });
  const second = artifact(`${name} 2`, OTHER_ARTIFACT, { ...about, annotations });
  const artifacts = [makeImage(name, first), makeImage(name, second)];
  const blobs = [...blobsOf(name), ...blobsOf(`${name} plain`), ...blobsOf(name, first), ...blobsOf(name, second)];
  const entries = [
    { ...descriptorOf(plain), artifactType: mediaTypes.ociConfig },
    ...artifacts.map((each, i) => ({
      ...descriptorOf(each),
      artifactType: i === 0 ? ARTIFACT : OTHER_ARTIFACT,
      annotations,
    })),
  ];
  const group = tagged(name, [...artifacts, plain, subject]);
  return { name, blobs, ...group, referrers: [{ subject: subject.digest, entries }] };
}

function indexReferrersGroup(): Group {
  const { blobs, manifests } = indexGroup('index-with-subject');
  const subject = manifests.at(-1) ?? makeIndex([]);
  const about = { artifactType: ARTIFACT, annotations, subject: descriptorOf(subject) };
  const referrer = makeIndex([], about);
  const entries = [{ ...descriptorOf(referrer), artifactType: ARTIFACT, annotations }];
  const group = tagged('tagged-artifact', [...manifests, referrer]);
  return { name: 'index-with-subject', blobs, ...group, referrers: [{ subject: subject.digest, entries }] };
}

function missingSubjectGroup(): Group {
  const name = 'missing-subject';
  const subject = makeContent('never pushed', mediaTypes.ociManifest);
  const options = artifact(name, ARTIFACT, { subject: descriptorOf(subject), annotations });
  const referrer = makeImage(name, options);
  const entries = [{ ...descriptorOf(referrer), artifactType: ARTIFACT, annotations }];
  const referrers = [{ subject: subject.digest, entries }];
  return { name, blobs: blobsOf(name, options), ...tagged(name, [referrer]), referrers };
}

function nondistributableGroup(): Group {
  const name = 'non-distributable-layers';
  const elsewhere = makeContent('elsewhere', 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip');
  const layers = [elsewhere, makeLayer(name)];
  const urls = ['https://store.example.com/layer'];
  const image = makeImage(name, { layers, describe: content => (content === elsewhere ? { urls } : {}) });
  return { name, blobs: blobsOf(name, { layers: layers.slice(1) }), ...tagged(name, [image]) };
}

function sparseGroup(): Group {
  const name = 'sparse';
  const image = makeImage(name);
  const missing = makeContent('never pushed either', mediaTypes.ociManifest);
  const index = makeIndex([image, missing].map(descriptorOf));
  return { name, blobs: blobsOf(name).slice(0, 2), ...tagged('sparse-index', [image, index]) };
}

function artifact(name: string, artifactType: string, fields: object = {}): ImageOptions {
  return {
    config: emptyJson,
    layers: [makeContent(`content of ${name}`, artifactType)],
    fields: { artifactType, ...fields },
  };
}

function blobsOf(name: string, options?: ImageOptions): readonly Content[] {
  const { config, layers } = partsOf(name, options);
  return [config, ...layers];
}

/** The last manifest has the tag. */
function tagged(tag: string, manifests: readonly Content[]): Pick<Group, 'manifests' | 'tags'> {
  const last = manifests.at(-1);
  return { manifests, tags: last ? { [tag]: last.digest } : {} };
}
