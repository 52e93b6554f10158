// A registry that is collected: hosted repositories and their collector over one store, and a clock.
import { expect } from 'vitest';
import { createInventory } from '../../../src/content/inventory.ts';
import { createUploadFiles } from '../../../src/content/upload-files.ts';
import { createGarbageCollector, type GarbageCollector, type GcPolicy } from '../../../src/hosted/gc/collector.ts';
import type { GcReport } from '../../../src/hosted/gc/report.ts';
import { createHostedRepositories, type HostedRepositories } from '../../../src/hosted/repositories.ts';
import { createHostedStore, type HostedOptions } from '../../../src/hosted/store.ts';
import { createMemory } from '../../../src/memory.ts';
import type { Digest } from '../../../src/oci/digest.ts';
import { audit } from '../audit.ts';
import { createPlace, type Parts, type Place } from '../fixture.ts';

const memory = createMemory();

export const DAY = 24 * 3600 * 1000;

export interface CollectedRegistry {
  readonly place: Place;
  readonly hosted: HostedRepositories;
  readonly collector: GarbageCollector;
  /** Of the clock. */
  time: number;
  /** Opens it again, as a restart does. To be called before anything else. */
  open(policy?: Partial<GcPolicy>, options?: Partial<HostedOptions>, parts?: Partial<Parts>): Promise<void>;
  /** Collects, after a dry run that has to change nothing and to say the same. */
  collect(): Promise<GcReport>;
  /** Whether `local/app` has it. */
  hasManifest(digest: Digest): Promise<boolean>;
  hasBlob(digest: Digest): Promise<boolean>;
  remove(): Promise<void>;
}

export async function createRegistry(): Promise<CollectedRegistry> {
  const place = await createPlace();
  const { directory, content, records } = place;
  const now = () => new Date(registry.time);
  const inventory = createInventory(directory);

  function over(
    policy: Partial<GcPolicy>,
    options: Partial<HostedOptions>,
    uploadFiles: Parts['uploadFiles'],
    parts: Partial<Parts>,
  ) {
    const store = createHostedStore({ memory, content, records, now, options, ...parts });
    return {
      hosted: createHostedRepositories(store, uploadFiles),
      collector: createGarbageCollector(store, { inventory, ...policy }),
    };
  }

  let current = over({}, {}, await createUploadFiles(place), {});
  const registry: CollectedRegistry = {
    place,
    time: Date.UTC(2030, 0, 1),
    get hosted() {
      return current.hosted;
    },
    get collector() {
      return current.collector;
    },
    async open(policy = {}, options = {}, { uploadFiles, ...parts } = {}) {
      current = over(policy, options, uploadFiles ?? (await createUploadFiles(place)), parts);
    },
    async collect() {
      const before = await place.inventory();
      const rehearsed = await current.collector.collect({ dryRun: true });
      expect(rehearsed.dryRun).toBe(true);
      expect(await place.inventory()).toEqual(before);
      await audit(place);
      const report = await current.collector.collect();
      expect(outcomeOf(rehearsed)).toEqual(outcomeOf(report));
      await audit(place);
      return report;
    },
    hasManifest: async digest => (await records.get('hosted.manifest', `local/app@${digest}`)) !== undefined,
    hasBlob: async digest => (await records.get('hosted.blob', `local/app@${digest}`)) !== undefined,
    remove: place.remove,
  };
  return registry;
}

/** What a dry run and a run have in common when they say the same. */
export function outcomeOf({ dryRun: _, startedAt, finishedAt, ...outcome }: GcReport) {
  return outcome;
}
