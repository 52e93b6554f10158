// The digests that rules made, each with what made it: who resolved a tag to one gets it, also after an eviction, a restart, or a change of the rules.
import { z } from 'zod';
import { stepsSchema } from '../augment/augmentation.ts';
import { layerSourceSchema } from '../augment/layer-source.ts';
import type { Memory } from '../memory.ts';
import { type Digest, digestOf, isDigest } from '../oci/digest.ts';
import { createCollection } from '../state/collection.ts';
import { createKeyedMutex } from '../state/keyed-mutex.ts';
import { type RecordStore, RecordStoreBusy, RecordStoreFull } from '../state/store.ts';
import { type LeaseRuleLayers, ruleLayersIn } from './layers/layer-store.ts';

const digest = z.string().refine(isDigest, 'expected a digest');

const madeSchema = z.object({
  /** Of the source. */
  registry: z.string(),
  repository: z.string(),
  /** For the provenance: registry/repository:tag. */
  sourceName: z.string(),
  sourceDigest: digest,
  steps: stepsSchema,
  layerSources: z.array(layerSourceSchema).readonly(),
  /** What some of these layers became. */
  movedLayers: z.array(layerSourceSchema).readonly().optional(),
  /** What the image became. */
  root: digest,
  /** Manifests of the source that it has as they were: to be had without it. */
  kept: z.array(digest).readonly().optional(),
});

/** All that is needed to make an image again, to the same bytes. */
export type Made = z.infer<typeof madeSchema>;

export interface DerivedDigests {
  /**
   * Durable when it resolves, but for a full disk: then it is kept in memory. `members` are the digests of all that is a part of it: manifests,
   * configs, layers of rules, provenance; also what stayed as it was.
   */
  keep(made: Made, members: readonly Digest[]): Promise<void>;
  /**
   * What has the digest as its root or a member in that repository, by its full name; undefined for what rules have not made, or made too
   * long ago. Of several it is the one that was kept last.
   */
  find(repository: string, digest: Digest): Promise<Made | undefined>;
}

/** Not each pull writes: a digest may end so much earlier than its last use says. */
const RENEW_AFTER_MS = 24 * 60 * 60_000;

/** Undefined for a record of a shape that this version does not know. */
const storedSchema = z.object({ made: madeSchema, keptUntil: z.number() }).optional().catch(undefined);

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
  /** How long a digest is known since a tag was last resolved to it. */
  readonly keepMs: number;
  readonly leaseRuleLayers: LeaseRuleLayers;
}): DerivedDigests {
  const stored = createCollection({ store: records, name: 'made', schema: storedSchema, memory });
  /** Each digest with the digest of the record that it is a part of. */
  const parts = createCollection({ store: records, name: 'made-digest', schema: z.object({ made: digest }) });
  const knownUntil = memory.openCache<number>();
  const unsaved = memory.openCache<Made>();
  const mutex = createKeyedMutex();
  const slackMs = Math.min(RENEW_AFTER_MS, keepMs / 2);

  /** One kept for longer than is now configured is not: what shares its digests may end before. */
  function isFresh(keptUntil = 0): boolean {
    const until = now().getTime() + keepMs;
    return keptUntil >= until - slackMs && keptUntil <= until;
  }

  async function renew(made: Made, members: readonly Digest[], id: Digest): Promise<void> {
    const repository = repositoryOf(made);
    const key = keyOf(repository, id);
    if (isFresh(knownUntil.get(key))) return;
    const keptUntil = (await stored.get(key))?.keptUntil;
    if (!isFresh(keptUntil)) return save(made, new Set([made.root, ...members]), id);
    knownUntil.set(key, keptUntil ?? 0);
  }

  async function save(made: Made, members: ReadonlySet<Digest>, id: Digest): Promise<void> {
    const repository = repositoryOf(made);
    const keys = [...members].map(member => keyOf(repository, member));
    const expiresAt = new Date(now().getTime() + keepMs);
    const record = { made, keptUntil: expiresAt.getTime() };
    try {
      // First the layers: no digest is known whose layers a crash lost.
      await leaseRuleLayers(ruleLayersIn(made.layerSources), expiresAt);
      await records.write([
        stored.putting(keyOf(repository, id), record, { expiresAt }),
        ...keys.map(key => parts.putting(key, { made: id }, { expiresAt })),
      ]);
      knownUntil.set(keyOf(repository, id), record.keptUntil);
    } catch (error) {
      // A disk that takes nothing must not stop pulls, and no other program either.
      if (!(error instanceof RecordStoreFull || error instanceof RecordStoreBusy)) throw error;
      for (const key of keys) unsaved.set(key, made);
    }
  }

  return {
    async keep(made, members) {
      const id = digestOf(new TextEncoder().encode(JSON.stringify(madeSchema.parse(made))));
      const key = keyOf(repositoryOf(made), id);
      if (!isFresh(knownUntil.get(key))) await mutex.withLock(key, () => renew(made, members, id));
    },
    async find(repository, member) {
      const key = keyOf(repository, member);
      const part = await parts.get(key);
      const record = part && (await stored.get(keyOf(repository, part.made)));
      return record?.made ?? unsaved.get(key);
    },
  };
}

function repositoryOf({ registry, repository }: Made): string {
  return `${registry}/${repository}`;
}

function keyOf(repository: string, digest: Digest): string {
  return `${repository}@${digest}`;
}
