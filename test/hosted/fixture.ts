// A hosted registry in a folder of its own, and the pushes that tests need.
import { mkdtemp, rm, utimes } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createBlobFiles } from '../../src/content/blob-files.ts';
import { createDiskStore } from '../../src/content/disk.ts';
import { createInventory } from '../../src/content/inventory.ts';
import type { ContentStore } from '../../src/content/store.ts';
import { createUploadFiles, type UploadFiles } from '../../src/content/upload-files.ts';
import { createGarbageCollector } from '../../src/hosted/gc/collector.ts';
import type { GcReport } from '../../src/hosted/gc/report.ts';
import { createHostedRepositories, type HostedRepositories } from '../../src/hosted/repositories.ts';
import type { ManifestPush, PushedManifest } from '../../src/hosted/repository/manifests.ts';
import type { Chunk } from '../../src/hosted/repository/uploads.ts';
import { createHostedStore, type HostedOptions } from '../../src/hosted/store.ts';
import { createMemory } from '../../src/memory.ts';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import { isIndexType, isManifestType, mediaTypes } from '../../src/oci/media-type.ts';
import { createProcessLocks } from '../../src/state/locks.ts';
import type { RecordStore } from '../../src/state/store.ts';
import type { GeneratedImage } from '../support/images.ts';
import { createMemoryStore } from '../support/memory-records.ts';

const memory = createMemory();

const DAY = 24 * 3600 * 1000;
export const LAYER = 'application/vnd.oci.image.layer.v1.tar';

export interface Place {
  readonly directory: string;
  readonly records: RecordStore;
  readonly content: ContentStore;
  /** Moves the clock of the store. */
  advance(ms: number): void;
  /** A store over what is there: opened again, it is what a restart finds. Parts may be replaced by ones that fail. */
  open(options?: Partial<HostedOptions>, parts?: Partial<Parts>): Promise<HostedRepositories>;
  /** Collects, with a grace of a day; the files are older, whatever their records say. */
  collect(): Promise<GcReport>;
  /** The digests of all content on disk, in order. */
  inventory(): Promise<readonly Digest[]>;
  remove(): Promise<void>;
}

export interface Parts {
  readonly content: ContentStore;
  readonly uploadFiles: UploadFiles;
  readonly records: RecordStore;
}

export async function createPlace(
  createRecords: (directory: string) => RecordStore = () => createMemoryStore(),
): Promise<Place> {
  const directory = await mkdtemp(join(tmpdir(), 'veneer-hosted-'));
  const records = createRecords(directory);
  const content = await createDiskStore({ directory });
  const inventory = createInventory(directory);
  let offset = 0;
  const now = () => new Date(Date.now() + offset);
  return {
    directory,
    records,
    content,
    advance(ms) {
      offset += ms;
    },
    async open(options, parts) {
      const { uploadFiles = await createUploadFiles({ directory, reopen: content.open }), ...stores } = parts ?? {};
      // Locks end with their process, and opening stands for another one.
      const own = { ...(stores.records ?? records), locks: createProcessLocks() };
      const store = createHostedStore({ memory, content, now, options, ...stores, records: own });
      return createHostedRepositories(store, uploadFiles);
    },
    async collect() {
      const { pathOf } = createBlobFiles(directory);
      const old = new Date(now().getTime() - 2 * DAY);
      for await (const digest of inventory.list()) await utimes(pathOf(digest), old, old);
      return createGarbageCollector(createHostedStore({ memory, content, records, now }), { inventory }).collect();
    },
    inventory: async () => (await Array.fromAsync(inventory.list())).sort(),
    async remove() {
      await content.close();
      await records.close();
      await rm(directory, { recursive: true });
    },
  };
}

export function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

export function chunk(content: Uint8Array, start?: number): Chunk & { readonly body: ReadableStream<Uint8Array> } {
  const body = ReadableStream.from(content.byteLength > 0 ? [content] : []);
  return start === undefined ? { body } : { body, range: { start, end: start + content.byteLength - 1 } };
}

/** A body whose sender the test plays. */
export function createBody() {
  let control: ReadableStreamDefaultController<Uint8Array> | undefined;
  const stream = new ReadableStream<Uint8Array>({
    start(controller) {
      control = controller;
    },
  });
  return {
    stream,
    send: (piece: Uint8Array) => control?.enqueue(piece),
    end: () => control?.close(),
    fail: (error: Error) => control?.error(error),
  };
}

export async function pushBlob(
  hosted: HostedRepositories,
  repository: string,
  content: Uint8Array,
  digest = digestOf(content),
): Promise<Digest> {
  const { id } = await hosted.uploads.start(repository);
  await hosted.uploads.finish(repository, id, digest, chunk(content));
  return digest;
}

export async function readBlob(hosted: HostedRepositories, repository: string, digest: Digest): Promise<Uint8Array> {
  const blob = await hosted.blobs.get(repository, digest);
  return new Uint8Array(await new Response(await blob.open()).arrayBuffer());
}

export function json(value: unknown): Uint8Array {
  return bytes(JSON.stringify(value));
}

export function putManifest(
  hosted: HostedRepositories,
  repository: string,
  raw: Uint8Array,
  push: Partial<ManifestPush> = {},
): Promise<PushedManifest> {
  return hosted.manifests.put(repository, { raw, contentType: mediaTypes.ociManifest, tags: [], ...push });
}

/** A descriptor of `content`. */
export function descriptorOf(content: Uint8Array, mediaType: string, algorithm?: 'sha256' | 'sha512') {
  return { mediaType, digest: digestOf(content, algorithm), size: content.byteLength };
}

/** Everything of a generated image, blobs and manifests, children first; the root with `tags`. */
export async function pushImage(
  hosted: HostedRepositories,
  repository: string,
  { content, root }: GeneratedImage,
  tags: readonly string[] = [],
): Promise<void> {
  for (const [digest, { mediaType, raw }] of content) {
    if (!isIndexType(mediaType) && !isManifestType(mediaType)) await pushBlob(hosted, repository, raw);
    else
      await putManifest(hosted, repository, raw, { contentType: mediaType, tags: digest === root.digest ? tags : [] });
  }
}

/** A small image manifest, its blobs pushed. */
export async function pushSmall(
  hosted: HostedRepositories,
  repository: string,
  seed: string,
  push: Partial<ManifestPush> = {},
) {
  const [config, layer] = [bytes(`{"seed":"${seed}"}`), bytes(`layer of ${seed}`)];
  await pushBlob(hosted, repository, config);
  await pushBlob(hosted, repository, layer);
  const raw = smallManifest(config, layer);
  return {
    ...(await putManifest(hosted, repository, raw, push)),
    raw,
    config: digestOf(config),
    layer: digestOf(layer),
  };
}

export function smallManifest(config: Uint8Array, layer: Uint8Array, more: object = {}): Uint8Array {
  return json({
    schemaVersion: 2,
    mediaType: mediaTypes.ociManifest,
    config: descriptorOf(config, mediaTypes.ociConfig),
    layers: [descriptorOf(layer, LAYER)],
    ...more,
  });
}

/** The parts of the manifest `small`. */
export const config = bytes('{"os":"linux"}');
export const layer = bytes('a layer');
export const empty = bytes('{}');
export const small = smallManifest(config, layer);

export async function pushParts(hosted: HostedRepositories): Promise<void> {
  for (const content of [empty, config, layer]) await pushBlob(hosted, 'local/app', content);
}
