// What recipes built, by image: so that one which somebody pushed by hand is told from ours, and an old one is planned anew.
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
  /** Whether a recipe built this for the image: now, or right before, for what a tag points to may be known from then. */
  wasBuilt(image: string, digest: Digest): Promise<boolean>;
  /** A build of the image has begun, of which this is not yet the result. */
  begin(image: string, buildId: string, plannedAt: number): Promise<void>;
  /** The build failed: nothing is kept of an image that there has never been. */
  forget(image: string, buildId: string): Promise<void>;
  /** The image is now what was planned then. */
  end(image: string, built: Omit<RecipeImage, 'replaced'>): Promise<void>;
}

const recipeImageSchema = z.object({
  /** The build that was begun last. */
  buildId: buildIdSchema,
  /** Of the image that was built last; absent: it is in the build's record. */
  digest: z.string().refine(isDigest).optional(),
  /** Of the image that it replaced. */
  replaced: z.string().refine(isDigest).optional(),
  plannedAt: z.number(),
});

type RecipeImage = z.infer<typeof recipeImageSchema>;

export function createRecipeImages(records: RecordStore, builds: Pick<Builds, 'find'>): RecipeImages {
  const images = createCollection({ store: records, name: 'recipe-image', schema: recipeImageSchema });

  /** A build's end is not seen where the service ended before it. */
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
      const known = await images.find(image);
      // Until the build has succeeded, the image is still what it was, and as old.
      await bestEffort(images.put(image, { plannedAt, ...known, digest: known && (await findLatest(known)), buildId }));
    },
    async forget(image, buildId) {
      const known = await images.find(image);
      if (known?.buildId === buildId && known.digest === undefined) await images.delete(image);
    },
    async end(image, built) {
      const known = await images.find(image);
      await bestEffort(images.put(image, { ...built, replaced: known?.digest }));
    },
  };
}
