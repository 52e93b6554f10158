// Where images are copied: a source registry, hosted repositories, and another registry to push to, with all that a copy goes through.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import type { ProgressEvent } from '../../src/builds/progress.ts';
import type { CopySpec } from '../../src/builds/spec.ts';
import { createBlobs } from '../../src/cache/read-through/blobs.ts';
import { createLinks } from '../../src/cache/read-through/links.ts';
import { createManifests } from '../../src/cache/read-through/manifests.ts';
import { createTags } from '../../src/cache/read-through/tags.ts';
import { createDiskStore } from '../../src/content/disk.ts';
import { type CopyImageDeps, createCopy } from '../../src/copy/copy.ts';
import { createDestinations } from '../../src/copy/destination.ts';
import type { HostedRepositories } from '../../src/hosted/repositories.ts';
import type { HostedOptions } from '../../src/hosted/store.ts';
import { createMemory } from '../../src/memory.ts';
import type { ContentDescriptor } from '../../src/oci/descriptor.ts';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import { isIndexType, isManifestType } from '../../src/oci/media-type.ts';
import { createAugmentations } from '../../src/pull/derived-images.ts';
import { createOrigins } from '../../src/pull/origin.ts';
import { createHostedRegistry, createRegistries } from '../../src/pull/registries.ts';
import type { UpstreamEntry } from '../../src/upstream/registry/registry-client.ts';
import { createUpstreams } from '../../src/upstream/upstreams.ts';
import { createPlace } from '../hosted/fixture.ts';
import { PLATFORMS } from '../support/app.ts';
import { createHeldBytes } from '../support/held-bytes.ts';
import { type GeneratedImage, generateImage, type ImageOptions } from '../support/images.ts';
import { createMemoryStore } from '../support/memory-records.ts';
import { createPlacedLayers } from '../support/placing.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { type Answer, startServer, type TestServer } from '../support/server.ts';

const memory = createMemory();

export interface Copying {
  /** The upstream `lab`; below /hub and /quay, where it has nothing, docker.io and quay.io. */
  readonly registry: TestRegistry;
  /** The upstream `away`: a registry that can be pushed to, under local/. */
  readonly away: TestServer;
  readonly hosted: HostedRepositories;
  /** Bytes that layers of the kind `stored` have. */
  readonly stored: Map<Digest, Uint8Array>;
  readonly deps: CopyImageDeps;
  /** Puts an image as library/app:1 into the source registry. */
  putImage(options?: Partial<ImageOptions>): GeneratedImage;
  /** Copies an image of library/app to `target`, a full name with a tag. */
  copy(image: GeneratedImage, target: string, more?: Partial<CopySpec>): Promise<Copied>;
  /** A manifest or blob of a repository, hosted or, under `away/`, in the other registry. */
  readFrom(repository: string): (descriptor: ContentDescriptor) => Promise<Uint8Array>;
  /** What a tag leads to there. Throws where there is none. */
  rootOf(repository: string, tag: string): Promise<ContentDescriptor>;
  close(): Promise<void>;
}

interface Copied {
  readonly digest: Digest;
  readonly events: readonly ProgressEvent[];
}

export async function createCopying(
  options: Partial<HostedOptions> = {},
  entries: Readonly<Record<string, UpstreamEntry>> = {},
): Promise<Copying> {
  const directory = await mkdtemp(join(tmpdir(), 'veneer-copying-'));
  const place = await createPlace();
  const registry = await startRegistry();
  const away = await startServer();
  const content = await createDiskStore({ directory });
  const hosted = await place.open(options);
  const upstreams = createUpstreams({
    memory,
    entries: {
      lab: { url: registry.url },
      away: { url: `http://127.0.0.1:${away.port}` },
      'docker.io': { url: `${registry.url}/hub` },
      'quay.io': { url: `${registry.url}/quay` },
      ...entries,
    },
    openUpstreams: false,
    allowPrivateUrls: false,
    timeouts: { connectMs: 20_000, headersMs: 20_000, bodyMs: 20_000 },
    retries: 0,
  });
  const records = createMemoryStore();
  const links = createLinks(records, memory);
  const onFailed = () => {};
  const blobs = createBlobs({ content, links, onFailed });
  const manifests = createManifests({ memory, content, links });
  const policy = { tagFreshnessMs: 3_600_000, staleMaxAgeMs: 0 };
  const tags = createTags({ memory, records, now: () => new Date(), policy, manifests });
  const origins = createOrigins({
    upstreams,
    registries: createRegistries({
      ...{ tags, manifests, blobs },
      hosted: new Map([['local', createHostedRegistry(hosted, 'local')]]),
    }),
    ownHosts: new Set(),
    defaultUpstream: 'lab',
  });
  const stored = new Map<Digest, Uint8Array>();

  async function ask(path: string): Promise<Answer> {
    const answer = await away.send('GET', path);
    if (answer.status !== 200) throw new Error(`${path}: ${answer.status}`);
    return answer;
  }

  const { layers, placing } = createPlacedLayers({
    ...{ content, upstreams, origins, onFailed, records, memory },
    stored: createHeldBytes(stored),
  });
  const deps = {
    origins,
    openDestination: createDestinations({ origins, upstreams, hosted }),
    augmentations: createAugmentations({ memory, placing }),
    layers,
  };
  return {
    registry,
    away,
    hosted,
    stored,
    deps,
    async copy(image, target, more) {
      const { events, options } = createTelling(target);
      const { digest } = await createCopy(deps)(copySpecOf(image, target, more), options);
      return { digest, events };
    },
    putImage(imageOptions) {
      const image = generateImage({ seed: 1, platforms: PLATFORMS, layers: 2, family: 'oci', ...imageOptions });
      const { digest: root } = image.root;
      const contents = [...image.content].map(([digest, each]) => ({
        ...each,
        ...(digest === root && { tags: ['1'] }),
      }));
      registry.put('library/app', contents);
      return image;
    },
    readFrom: repository => async descriptor => {
      const kind = isManifest(descriptor) ? 'manifests' : 'blobs';
      if (isAway(repository))
        return (await ask(`/v2/${repository.slice(AWAY.length)}/${kind}/${descriptor.digest}`)).body;
      if (kind === 'manifests') return (await hosted.manifests.get(repository, descriptor.digest)).raw;
      return buffer(await (await hosted.blobs.get(repository, descriptor.digest)).open());
    },
    async rootOf(repository, tag) {
      if (!isAway(repository)) {
        const digest = await hosted.tags.resolve(repository, tag);
        const { mediaType, raw } = await hosted.manifests.get(repository, digest);
        return { mediaType, digest, size: raw.byteLength };
      }
      const { headers, body } = await ask(`/v2/${repository.slice(AWAY.length)}/manifests/${tag}`);
      return { mediaType: `${headers['content-type']}`, digest: digestOf(body), size: body.byteLength };
    },
    async close() {
      await upstreams.close();
      await away.close();
      await registry.close();
      await content.close();
      await place.remove();
      await rm(directory, { recursive: true });
    },
  };
}

/** A plain copy of library/app:1, where `more` says nothing else. */
export function copySpecOf({ root }: GeneratedImage, target: string, more: Partial<CopySpec> = {}): CopySpec {
  const [repository = ''] = target.split(':');
  const source = { registry: 'lab', repository: 'library/app', tag: '1', digest: root.digest };
  return { kind: 'copy', source, target: { repository }, ...more };
}

/** What a copy told, and the options that make it tell. */
export function createTelling(image: string, signal: AbortSignal = new AbortController().signal) {
  const events: ProgressEvent[] = [];
  const options = {
    id: 'mr-0123456789abcdef_1',
    image,
    signal,
    report: (entry: ProgressEvent) => void events.push(entry),
    onBackend() {},
  };
  return { events, options };
}

const AWAY = 'away/';

function isAway(repository: string): boolean {
  return repository.startsWith(AWAY);
}

function isManifest({ mediaType }: ContentDescriptor): boolean {
  // Only entries of an index may lack a type.
  return mediaType === '' || isIndexType(mediaType) || isManifestType(mediaType);
}
