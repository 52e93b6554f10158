// What was read of the directories and files of this machine, over restarts: one that shows no change since is not read again.
import { resolve } from 'node:path';
import { z } from 'zod';
import { layerSchema } from '../augment/augmentation.ts';
import { createCollection } from '../state/collection.ts';
import type { RecordStore } from '../state/store.ts';
import { type Fingerprint, isUnchanged } from './fingerprint.ts';
import type { ReadLayer } from './local-layers.ts';
import type { LocalLayer } from './rule.ts';
import type { Shelf } from './shelf.ts';

export interface KeptReads {
  /** Undefined where it was not read as it looks now, or what was read is not on the shelf any more. */
  find(layer: LocalLayer, seen: Fingerprint): Promise<ReadLayer | undefined>;
  /** Nothing is kept of what may change without a sign, nor where the records take nothing. */
  keep(layer: LocalLayer, read: ReadLayer): Promise<void>;
}

interface KeptReadsDeps {
  readonly records: RecordStore;
  readonly shelf: Pick<Shelf, 'find'>;
  readonly now: () => Date;
}

/** Undefined for a record of a shape that this version does not know. */
const readSchema = z.object({ fingerprint: z.string(), layer: layerSchema }).optional().catch(undefined);

/** After it, a start reads once more. */
const KEEP_MS = 30 * 86_400_000;

export function createKeptReads({ records, shelf, now }: KeptReadsDeps): KeptReads {
  const reads = createCollection({ store: records, name: 'rule-read', schema: readSchema });
  const keyOf = ({ kind, path }: LocalLayer) => `${kind} ${resolve(path)}`;
  return {
    async find(layer, seen) {
      // A record that cannot be read is none: the layer can be read anew.
      const kept = await reads.get(keyOf(layer)).catch(() => undefined);
      if (!kept || !isUnchanged({ value: kept.fingerprint, isSettled: true }, seen)) return undefined;
      const { digest, size } = kept.layer;
      if (!(await shelf.find(digest))) return undefined;
      return { described: { layer: kept.layer, source: { kind: 'shelf', digest, size } }, fingerprint: seen };
    },
    async keep(layer, { described, fingerprint }) {
      if (!fingerprint.isSettled) return;
      const expiresAt = new Date(now().getTime() + KEEP_MS);
      const record = { fingerprint: fingerprint.value, layer: described.layer };
      // What is not kept is read once more: that is no reason to be without rules.
      await reads.put(keyOf(layer), record, { expiresAt }).catch(() => {});
    },
  };
}
