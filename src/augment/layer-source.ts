// Where the bytes of a layer are that goes on top of images.
import { z } from 'zod';
import { isDigest } from '../oci/digest.ts';

const layerBytes = { digest: z.string().refine(isDigest, 'expected a digest'), size: z.int().nonnegative() };

/** Kept beside the token that it came with, at an http(s) address, a blob of some repository, or on the shelf of the rules. */
export const layerSourceSchema = z.discriminatedUnion('kind', [
  z.object({ ...layerBytes, kind: z.literal('stored') }),
  z.object({ ...layerBytes, kind: z.literal('url'), url: z.string() }),
  z.object({ ...layerBytes, kind: z.literal('blob'), registry: z.string(), repository: z.string() }),
  z.object({ ...layerBytes, kind: z.literal('shelf') }),
]);

export type LayerSource = z.infer<typeof layerSourceSchema>;
