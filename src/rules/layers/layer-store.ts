// Layers of rules that are read from this machine, by digest: each is retained while the active rules use it, and while it is leased.
import { z } from 'zod';
import type { LayerSource } from '../../augment/layer-source.ts';
import { createLeasedStore, type LeasedStore, type LeasedStoreDeps } from '../../content/leased-store.ts';
import type { ContentDescriptor } from '../../oci/descriptor.ts';
import type { Digest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import { createCollection } from '../../state/collection.ts';
import type { RecordStore } from '../../state/store.ts';

export interface RuleLayerStore extends Pick<LeasedStore, 'open' | 'find' | 'delete' | 'verify'> {
  /** Reads the body to its end, or cancels it. Recently added layers are not swept. Throws StorageFailure, or the body's own error. */
  put(body: ReadableStream<Uint8Array>): Promise<Omit<ContentDescriptor, 'mediaType'>>;
  /**
   * Leases layers at least until then, whatever the rules; a longer existing lease wins. Durable when it resolves. Throws UNAVAILABLE for a
   * missing layer.
   */
  lease(digests: readonly Digest[], until: Date): Promise<void>;
  /** Removes layers that are neither leased nor in use. */
  sweep(inUse: ReadonlySet<Digest>): Promise<void>;
  close(): Promise<void>;
}

/** Like `lease` of the store. */
export type LeaseRuleLayers = RuleLayerStore['lease'];

const leaseSchema = z.object({ until: z.iso.datetime() });

/** Removes unfinished files of a crash. */
export async function createRuleLayerStore({
  records,
  ...deps
}: Pick<LeasedStoreDeps, 'stored' | 'memory' | 'mayDelete' | 'onDamaged'> & {
  readonly directory: string;
  readonly records: RecordStore;
  readonly now: () => Date;
}): Promise<RuleLayerStore> {
  const { now } = deps;
  const content = await createLeasedStore(deps);
  const leases = createCollection({ store: records, name: 'rule-layer', schema: leaseSchema });

  async function leaseOne(digest: Digest, until: Date): Promise<void> {
    if (!(await content.touch(digest))) throw lost(digest);
    // Two concurrent leases could otherwise both read the old time, and the shorter one win.
    await leases.update(digest, lease =>
      lease && Date.parse(lease.until) >= until.getTime()
        ? undefined
        : { record: { until: until.toISOString() }, expiresAt: until },
    );
  }

  async function isLeased(digest: Digest): Promise<boolean> {
    const lease = await leases.find(digest);
    // If the record is unreadable, the end of the lease is unknown.
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
      for (const digest of new Set(digests)) await leaseOne(digest, until);
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
  return new RegistryError(
    'UNAVAILABLE',
    `the layer ${digest} of a rule is lost and will be read again shortly: try again`,
  );
}
