// Where the bytes of a layer are that goes on top of images.
import { z } from 'zod';
import { isDigest } from '../oci/digest.ts';
import { placementSchema } from './placement.ts';

const layerBytes = { digest: z.string().refine(isDigest, 'expected a digest'), size: z.int().nonnegative() };

/** Kept beside the token that it came with, at an http(s) address, a blob of some repository, or on the shelf of the rules. */
const givenSchemas = [
  z.object({ ...layerBytes, kind: z.literal('stored') }),
  z.object({ ...layerBytes, kind: z.literal('url'), url: z.string() }),
  z.object({ ...layerBytes, kind: z.literal('blob'), registry: z.string(), repository: z.string() }),
  z.object({ ...layerBytes, kind: z.literal('shelf') }),
] as const;

/** Made of another one, as `moveLayer` does. */
const movedSchema = z.object({
  ...layerBytes,
  kind: z.literal('moved'),
  inner: z.discriminatedUnion('kind', givenSchemas),
  placement: placementSchema,
});

export const layerSourceSchema = z.discriminatedUnion('kind', [...givenSchemas, movedSchema]);

export type LayerSource = z.infer<typeof layerSourceSchema>;
export type MovedLayerSource = z.infer<typeof movedSchema>;
