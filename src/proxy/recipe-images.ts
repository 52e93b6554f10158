// What recipes built, by image: so that one which somebody pushed by hand is told from ours, and an old one is planned anew.
import { z } from 'zod';
import type { Builds } from '../build/builds.ts';
import { buildIdSchema } from '../build/record.ts';
import { type Digest, isDigest } from '../oci/digest.ts';
import { createCollection } from '../state/collection.ts';
import type { RecordStore } from '../state/store.ts';
import { remember } from './remember.ts';

export interface RecipeImages {
  /** When the image was planned, in epoch milliseconds; undefined where its digest is not what a recipe built. */
  findPlanned(image: string, digest: Digest): Promise<number | undefined>;
  /** A build of the image has begun, of which this is not yet the result. */
  begin(image: string, buildId: string, plannedAt: number): Promise<void>;
  /** The image is now what was planned then. */
  end(image: string, built: RecipeImage): Promise<void>;
}

const recipeImageSchema = z.object({
  /** The build that was begun last. */
  buildId: buildIdSchema,
  /** Of the image that was built last; absent: it is in the build's record. */
  digest: z.string().refine(isDigest).optional(),
  plannedAt: z.number(),
});

export type RecipeImage = z.infer<typeof recipeImageSchema>;

export function createRecipeImages(records: RecordStore, builds: Pick<Builds, 'find'>): RecipeImages {
  const images = createCollection({ store: records, name: 'recipe-image', schema: recipeImageSchema });

  /** A build's end is not seen where the service ended before it. */
  async function isBuilt({ buildId, digest }: RecipeImage, asked: Digest): Promise<boolean> {
    return digest === asked || (await builds.find(buildId))?.digest === asked;
  }

  return {
    async findPlanned(image, digest) {
      const known = await images.get(image);
      return known && (await isBuilt(known, digest)) ? known.plannedAt : undefined;
    },
    async begin(image, buildId, plannedAt) {
      const known = await images.get(image);
      // Until the build has succeeded, the image is still what it was, and as old.
      await remember(images.put(image, { plannedAt, ...known, buildId }));
    },
    end: (image, built) => remember(images.put(image, built)),
  };
}
