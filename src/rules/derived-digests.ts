// Digests that rules have derived, each with everything needed to derive it again: a client that resolved a tag to one can pull it after an
// eviction, a restart, or a change of the rules.
import { z } from 'zod';
import { stepsSchema } from '../augment/augmentation.ts';
import { layerSourceSchema } from '../augment/layer-source.ts';
import type { Memory } from '../memory.ts';
import { type Digest, digestOf, isDigest } from '../oci/digest.ts';
import { createCollection } from '../state/collection.ts';
import { createProcessLocks } from '../state/locks.ts';
import { isTransient, type RecordStore } from '../state/store.ts';
import { type LeaseRuleLayers, ruleLayersIn } from './layers/layer-store.ts';

const digest = z.string().refine(isDigest, 'expected a digest');

const derivationRecordSchema = z.object({
  /** Of the source. */
  registry: z.string(),
  repository: z.string(),
  /** For the provenance: registry/repository:tag. */
  sourceName: z.string(),
  sourceDigest: digest,
  steps: stepsSchema,
  layerSources: z.array(layerSourceSchema).readonly(),
  /** The moved versions of some of these layers. */
  movedLayers: z.array(layerSourceSchema).readonly().optional(),
  /** The digest of the derived image. */
  root: digest,
  /** Unchanged manifests of the source: available without deriving anything. */
  kept: z.array(digest).readonly().optional(),
});

/** Everything needed to derive an image again, with the same bytes. */
export type DerivationRecord = z.infer<typeof derivationRecordSchema>;

export interface DerivedDigests {
  /**
   * Durable when it resolves, except on a full disk: then it is only in memory. `members` are the digests of everything that belongs to it:
   * manifests, configs, layers of rules, provenance; unchanged parts included.
   */
  keep(derivation: DerivationRecord, members: readonly Digest[]): Promise<void>;
  /**
   * The record that has the digest as its root or a member in that repository, by its full name; undefined for digests that rules have not
   * derived, or too long ago. Of several, the latest.
   */
  find(repository: string, digest: Digest): Promise<DerivationRecord | undefined>;
}

/** Use is not recorded on every pull: a digest may expire this much earlier than its last use implies. */
const RENEW_AFTER_MS = 24 * 60 * 60_000;

/** Undefined for a record in a format that this version does not know. */
const storedSchema = z.object({ made: derivationRecordSchema, keptUntil: z.number() }).optional().catch(undefined);

export function createDerivedDigests({
  records,
  memory,
  now,
  keepMs,
  leaseRuleLayers,
}: {
  readonly records: RecordStore;
  readonly memory: Memory;
  readonly now: () => Date;
  /** How long a digest is remembered after a tag was last resolved to it. */
  readonly keepMs: number;
  readonly leaseRuleLayers: LeaseRuleLayers;
}): DerivedDigests {
  const stored = createCollection({ store: records, name: 'made', schema: storedSchema, memory });
  /** The record that each digest belongs to. */
  const parts = createCollection({ store: records, name: 'made-digest', schema: z.object({ made: digest }) });
  const knownUntil = memory.openCache<number>();
  const unsaved = memory.openCache<DerivationRecord>();
  const mutex = createProcessLocks();
  /** Of records that are stored again, as most pulls do. */
  const ids = new WeakMap<DerivationRecord, Digest>();
  const slackMs = Math.min(RENEW_AFTER_MS, keepMs / 2);

  /** Records stored under a longer retention than now configured are rewritten: others that share their digests may expire earlier. */
  function isFresh(keptUntil = 0): boolean {
    const until = now().getTime() + keepMs;
    return keptUntil >= until - slackMs && keptUntil <= until;
  }

  async function renew(derivation: DerivationRecord, members: readonly Digest[], id: Digest): Promise<void> {
    const repository = repositoryOf(derivation);
    const key = keyOf(repository, id);
    if (isFresh(knownUntil.get(key))) return;
    const keptUntil = (await stored.get(key))?.keptUntil;
    if (!isFresh(keptUntil)) return save(derivation, new Set([derivation.root, ...members]), id);
    knownUntil.set(key, keptUntil ?? 0);
  }

  async function save(derivation: DerivationRecord, members: ReadonlySet<Digest>, id: Digest): Promise<void> {
    const repository = repositoryOf(derivation);
    const keys = [...members].map(member => keyOf(repository, member));
    const expiresAt = new Date(now().getTime() + keepMs);
    const record = { made: derivation, keptUntil: expiresAt.getTime() };
    try {
      // The layers first: no digest is recorded whose layers a crash could lose.
      await leaseRuleLayers(ruleLayersIn(derivation.layerSources), expiresAt);
      await records.write([
        stored.putting(keyOf(repository, id), record, { expiresAt }),
        ...keys.map(key => parts.putting(key, { made: id }, { expiresAt })),
      ]);
      knownUntil.set(keyOf(repository, id), record.keptUntil);
    } catch (error) {
      // A full disk or a locked database must not stop pulls.
      if (!isTransient(error)) throw error;
      for (const key of keys) unsaved.set(key, derivation);
    }
  }

  return {
    async keep(derivation, members) {
      const id =
        ids.get(derivation) ??
        digestOf(new TextEncoder().encode(JSON.stringify(derivationRecordSchema.parse(derivation))));
      ids.set(derivation, id);
      const key = keyOf(repositoryOf(derivation), id);
      if (!isFresh(knownUntil.get(key))) await mutex.withLock(key, () => renew(derivation, members, id));
    },
    async find(repository, member) {
      const key = keyOf(repository, member);
      const part = await parts.get(key);
      const record = part && (await stored.get(keyOf(repository, part.made)));
      return record?.made ?? unsaved.get(key);
    },
  };
}

function repositoryOf({ registry, repository }: DerivationRecord): string {
  return `${registry}/${repository}`;
}

function keyOf(repository: string, digest: Digest): string {
  return `${repository}@${digest}`;
}
