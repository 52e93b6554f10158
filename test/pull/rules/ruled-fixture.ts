// A registry through rules, with all that is behind it: an upstream, what is kept of it, and rules that a test changes.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Layer } from '../../../src/augment/augmentation.ts';
import type { LayerSource } from '../../../src/augment/layer-source.ts';
import { createBlobs } from '../../../src/cache/read-through/blobs.ts';
import { readBlob } from '../../../src/cache/read-through/cached.ts';
import { createLinks } from '../../../src/cache/read-through/links.ts';
import { createManifests } from '../../../src/cache/read-through/manifests.ts';
import { createTags } from '../../../src/cache/read-through/tags.ts';
import { createDiskStore } from '../../../src/content/disk.ts';
import { createMemory } from '../../../src/memory.ts';
import type { ContentDescriptor } from '../../../src/oci/descriptor.ts';
import { type Digest, digestOf } from '../../../src/oci/digest.ts';
import { isIndexType, isManifestType } from '../../../src/oci/media-type.ts';
import { type Augmentations, createAugmentations } from '../../../src/pull/derived-images.ts';
import { createOrigins } from '../../../src/pull/origin.ts';
import { createRegistries } from '../../../src/pull/registries.ts';
import type { Registry } from '../../../src/pull/registry.ts';
import { createWithRules } from '../../../src/pull/rules/ruled-registry.ts';
import { createDerivedDigests } from '../../../src/rules/derived-digests.ts';
import { createRuleSet } from '../../../src/rules/rule-set.ts';
import type { RuleOptions } from '../../../src/rules/rules.ts';
import { createUpstreams } from '../../../src/upstream/upstreams.ts';
import { PLATFORMS } from '../../support/app.ts';
import { createHeldBytes } from '../../support/held-bytes.ts';
import { type GeneratedImage, generateImage, type ImageOptions } from '../../support/images.ts';
import { createMemoryStore } from '../../support/memory-records.ts';
import { PATIENT } from '../../support/patience.ts';
import { createPlacedLayers } from '../../support/placing.ts';
import { startRegistry, type TestRegistry } from '../../support/registry.ts';

const memory = createMemory();

export interface RuledFixture {
  /** The upstream `lab`. */
  readonly registry: TestRegistry;
  readonly work: Work;
  /** Puts an image into the upstream. */
  putImage(options?: Partial<ImageOptions> & { readonly repository?: string; readonly tag?: string }): GeneratedImage;
  /** From now on these are the rules. */
  rule(...rules: readonly Partial<RuleOptions>[]): void;
  /** The upstream as rules make a caller see it. */
  see(caller?: string): Registry;
  /** The upstream as it is. */
  readonly plain: Registry;
  /** Another registry through the same rules. */
  through(registry: Registry): Registry;
  /** Whether the cache has it. */
  isKept(digest: Digest): Promise<boolean>;
  /** Forgets all that is in memory, and with `isEmpty` the cache too. */
  restart(options?: { readonly isEmpty?: boolean; readonly withoutRecords?: boolean }): Promise<void>;
  close(): Promise<void>;
}

/** What was done since the beginning. */
interface Work {
  augmentations: number;
  writes: number;
}

/** A layer that rules can put on top: rules name it by its place, a directory. */
export const LAYER = new TextEncoder().encode('the bytes of a layer of rules');
const LAYER_DIGEST = digestOf(LAYER);

const RULE: RuleOptions = {
  name: 'rule',
  match: { image: ['lab/**'], not: [] },
  layers: [],
  changes: {},
  pinned: 'untouched',
};

export async function createRuledFixture(): Promise<RuledFixture> {
  const directory = await mkdtemp(join(tmpdir(), 'veneer-ruled-'));
  const registry = await startRegistry();
  const work: Work = { augmentations: 0, writes: 0 };
  const layer: Layer = { digest: LAYER_DIGEST, size: LAYER.byteLength, diffId: LAYER_DIGEST, compression: 'none' };
  const source: LayerSource = { kind: 'stored', digest: LAYER_DIGEST, size: LAYER.byteLength };
  let current = toSet([]);
  let records = createMemoryStore();
  let cache = 0;
  let open = await start();

  function toSet(rules: readonly RuleOptions[]) {
    return createRuleSet({ rules, attestations: 'drop', getLayers: async () => [{ layer, source }] });
  }

  function countWork(augmentations: Augmentations): Augmentations {
    const seen = new Set<unknown>();
    return {
      async get(pull) {
        const image = await augmentations.get(pull);
        if (!seen.has(image)) work.augmentations += 1;
        seen.add(image);
        return image;
      },
    };
  }

  async function start() {
    const content = await createDiskStore({ directory: join(directory, `cache-${cache}`) });
    const upstreams = createUpstreams({
      memory,
      entries: { lab: { url: registry.url } },
      openUpstreams: false,
      allowPrivateUrls: false,
      timeouts: PATIENT,
      retries: 0,
    });
    const store = records;
    const links = createLinks(store, memory);
    const onFailed = () => {};
    const blobs = createBlobs({ content, links, onFailed });
    const manifests = createManifests({ memory, content, links });
    const now = () => new Date();
    const tags = createTags({
      memory,
      records: store,
      now,
      policy: { tagFreshnessMs: 0, staleMaxAgeMs: 3_600_000 },
      manifests,
    });
    const origins = createOrigins({
      upstreams,
      registries: createRegistries({ tags, manifests, blobs, hosted: new Map() }),
      ownHosts: new Set(),
      defaultUpstream: 'lab',
    });
    const counted = {
      ...store,
      write: (changes: Parameters<typeof store.write>[0]) => count(() => store.write(changes)),
    };
    const count = async (write: () => Promise<void>) => {
      work.writes += 1;
      await write();
    };
    const stored = createHeldBytes(new Map([[LAYER_DIGEST, LAYER]]));
    const { layers, placing } = createPlacedLayers({
      ...{ content, upstreams, origins, stored, onFailed, memory },
      records: store,
    });
    const withRules = createWithRules({
      rules: {
        get current() {
          return current;
        },
      },
      derivedDigests: createDerivedDigests({
        memory,
        records: counted,
        now,
        keepMs: 86_400_000 * 90,
        leaseRuleLayers: async () => {},
      }),
      augmentations: countWork(createAugmentations({ memory, placing })),
      layers,
    });
    return { upstreams, content, withRules, plain: origins.locateName('lab/library/app').registry };
  }

  return {
    registry,
    work,
    putImage({ repository = 'library/app', tag = '1', ...options } = {}) {
      const generated = generateImage({ seed: 1, platforms: PLATFORMS, layers: 2, family: 'oci', ...options });
      const contents = [...generated.content].map(([digest, each]) => ({
        ...each,
        ...(digest === generated.root.digest && { tags: [tag] }),
      }));
      registry.put(repository, contents);
      return generated;
    },
    rule(...rules) {
      current = toSet(rules.map((rule, at) => ({ ...RULE, name: `rule-${at}`, ...rule })));
    },
    see: caller => open.withRules(open.plain, caller),
    get plain() {
      return open.plain;
    },
    through: other => open.withRules(other, undefined),
    isKept: async digest => (await open.content.find(digest)) !== undefined,
    async restart({ isEmpty = false, withoutRecords = false } = {}) {
      await open.upstreams.close();
      await open.content.close();
      if (isEmpty) cache += 1;
      if (withoutRecords) records = createMemoryStore();
      open = await start();
    },
    async close() {
      await open.upstreams.close();
      await open.content.close();
      await registry.close();
      await rm(directory, { recursive: true });
    },
  };
}

/** A manifest or blob of a repository of the registry, for the oracle. */
export function readerOf(registry: Registry, repository: string) {
  return async ({ digest, mediaType, size }: ContentDescriptor): Promise<Uint8Array> => {
    const isManifest = isIndexType(mediaType) || isManifestType(mediaType);
    if (isManifest) return (await registry.getManifest(repository, digest)).raw;
    return (await readBlob(await registry.getBlob(repository, digest), size)) ?? new Uint8Array();
  };
}
