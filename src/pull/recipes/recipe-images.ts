// The images that recipes built: tells them from images pushed by hand, and remembers when they were planned, to rebuild old ones.
import { z } from 'zod';
import type { Builds } from '../../builds/builds.ts';
import { buildIdSchema } from '../../builds/record.ts';
import { bestEffort } from '../../cache/read-through/cached.ts';
import { type Digest, isDigest } from '../../oci/digest.ts';
import { createCollection } from '../../state/collection.ts';
import type { RecordStore } from '../../state/store.ts';

export interface RecipeImages {
  /** When the image was planned, in epoch milliseconds; undefined where its digest is not what a recipe built. */
  findPlanned(image: string, digest: Digest): Promise<number | undefined>;
  /** Whether a recipe built this digest for the image, as its current or its previous result: a cached tag may still point to that. */
  wasBuilt(image: string, digest: Digest): Promise<boolean>;
  /** Records that a build of the image has started. */
  begin(image: string, buildId: string, plannedAt: number): Promise<void>;
  /** Records that the build failed: an image that never existed is forgotten. */
  forget(image: string, buildId: string): Promise<void>;
  /** Records that the build succeeded. */
  end(image: string, built: Omit<RecipeImage, 'replaced'>): Promise<void>;
}

const recipeImageSchema = z.object({
  /** The most recent build. */
  buildId: buildIdSchema,
  /** The result of the most recent successful build; absent: it is in the build's record. */
  digest: z.string().refine(isDigest).optional(),
  /** The digest of the image that it replaced. */
  replaced: z.string().refine(isDigest).optional(),
  plannedAt: z.number(),
});

type RecipeImage = z.infer<typeof recipeImageSchema>;

export function createRecipeImages(records: RecordStore, builds: Pick<Builds, 'find'>): RecipeImages {
  const images = createCollection({ store: records, name: 'recipe-image', schema: recipeImageSchema });

  /** Looks into the build's record: its outcome was not recorded here if the service stopped before it. */
  async function findLatest({ buildId, digest }: RecipeImage): Promise<Digest | undefined> {
    return (await builds.find(buildId))?.digest ?? digest;
  }

  async function isBuilt(known: RecipeImage, asked: Digest): Promise<boolean> {
    return known.digest === asked || (await findLatest(known)) === asked;
  }

  return {
    async findPlanned(image, digest) {
      const known = await images.find(image);
      return known && (await isBuilt(known, digest)) ? known.plannedAt : undefined;
    },
    async wasBuilt(image, digest) {
      const known = await images.find(image);
      return known !== undefined && (known.replaced === digest || (await isBuilt(known, digest)));
    },
    async begin(image, buildId, plannedAt) {
      const before = await images.find(image);
      const digest = before && (await findLatest(before));
      // Another process may wait for the same build. Until it has succeeded, the image keeps its previous digest and age.
      const begun = images.update(image, known =>
        known?.buildId === buildId ? undefined : { record: { plannedAt, ...known, digest, buildId } },
      );
      await bestEffort(begun);
    },
    async forget(image, buildId) {
      const known = await images.find(image);
      if (known?.buildId === buildId && known.digest === undefined) await images.delete(image);
    },
    async end(image, built) {
      const ended = images.update(image, known => {
        const isSame = known?.digest === built.digest;
        return { record: { ...built, replaced: isSame ? known?.replaced : known?.digest } };
      });
      await bestEffort(ended);
    },
  };
}
