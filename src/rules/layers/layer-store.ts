// The layers of rules that are read from this machine, by digest: each stays while the rules in force have it, and for as long as it is held.
import { z } from 'zod';
import type { LayerSource } from '../../augment/layer-source.ts';
import { createLeasedStore, type LeasedStore, type LeasedStoreDeps } from '../../content/leased-store.ts';
import type { ContentDescriptor } from '../../oci/descriptor.ts';
import type { Digest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import { createCollection } from '../../state/collection.ts';
import { createKeyedMutex } from '../../state/keyed-mutex.ts';
import type { RecordStore } from '../../state/store.ts';

export interface RuleLayerStore extends Pick<LeasedStore, 'open' | 'find' | 'delete' | 'verify'> {
  /** Reads the body to its end, or cancels it. What was put a short while ago is not swept. Throws StorageFailure, or the body's own error. */
  put(body: ReadableStream<Uint8Array>): Promise<Omit<ContentDescriptor, 'mediaType'>>;
  /**
   * Keeps layers at least until then, whatever rules there are; what holds one longer wins. Durable when it resolves. Throws UNAVAILABLE for
   * a layer that is not there.
   */
  lease(digests: readonly Digest[], until: Date): Promise<void>;
  /** Removes what is neither held nor in use. */
  sweep(inUse: ReadonlySet<Digest>): Promise<void>;
  close(): Promise<void>;
}

/** As `lease` of the store. */
export type LeaseRuleLayers = RuleLayerStore['lease'];

const leaseSchema = z.object({ until: z.iso.datetime() });

/** What a crash left on its way in is removed. */
export async function createRuleLayerStore({
  records,
  ...deps
}: Pick<LeasedStoreDeps, 'memory' | 'mayDelete' | 'onDamaged'> & {
  readonly directory: string;
  readonly records: RecordStore;
  readonly now: () => Date;
}): Promise<RuleLayerStore> {
  const { now } = deps;
  const content = await createLeasedStore(deps);
  const leases = createCollection({ store: records, name: 'rule-layer', schema: leaseSchema });
  // Two who hold one layer at once could otherwise both read the old time, and the shorter one win.
  const mutex = createKeyedMutex();

  async function leaseOne(digest: Digest, until: Date): Promise<void> {
    if (!(await content.touch(digest))) throw lost(digest);
    const lease = await leases.find(digest);
    if (lease && Date.parse(lease.until) >= until.getTime()) return;
    await leases.put(digest, { until: until.toISOString() }, { expiresAt: until });
  }

  async function isLeased(digest: Digest): Promise<boolean> {
    const lease = await leases.find(digest);
    // Nobody knows until when one is held whose record cannot be read.
    if (!lease) return leases.has(digest);
    return Date.parse(lease.until) > now().getTime();
  }

  return {
    open: content.open,
    find: content.find,
    delete: content.delete,
    verify: content.verify,
    close: content.close,
    put: body => content.ingest(body).done,
    async lease(digests, until) {
      for (const digest of new Set(digests)) await mutex.withLock(digest, () => leaseOne(digest, until));
    },
    async sweep(inUse) {
      await content.sweep(async digest => inUse.has(digest) || (await isLeased(digest)));
    },
  };
}

/** Those of the sources that are in the store. */
export function ruleLayersIn(sources: readonly LayerSource[]): readonly Digest[] {
  return sources.filter(({ kind }) => kind === 'shelf').map(({ digest }) => digest);
}

function lost(digest: Digest): RegistryError {
  return new RegistryError('UNAVAILABLE', `the layer ${digest} of a rule is lost: it is read again in a moment`);
}
