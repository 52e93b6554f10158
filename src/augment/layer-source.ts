// Where the bytes of an appended layer come from.
import { z } from 'zod';
import { isDigest } from '../oci/digest.ts';
import { placementSchema } from './placement.ts';

const layerBytes = { digest: z.string().refine(isDigest, 'expected a digest'), size: z.int().nonnegative() };

/**
 * Stored with the token it was submitted with, at an http(s) address, a blob of some repository, or in the rule layer store (`shelf` in
 * records).
 */
const givenSchemas = [
  z.object({ ...layerBytes, kind: z.literal('stored') }),
  z.object({ ...layerBytes, kind: z.literal('url'), url: z.string() }),
  z.object({ ...layerBytes, kind: z.literal('blob'), registry: z.string(), repository: z.string() }),
  z.object({ ...layerBytes, kind: z.literal('shelf') }),
] as const;

/** Derived from another layer by `moveLayer`. */
const movedSchema = z.object({
  ...layerBytes,
  kind: z.literal('moved'),
  inner: z.discriminatedUnion('kind', givenSchemas),
  placement: placementSchema,
});

export const layerSourceSchema = z.discriminatedUnion('kind', [...givenSchemas, movedSchema]);

export type LayerSource = z.infer<typeof layerSourceSchema>;
export type MovedLayerSource = z.infer<typeof movedSchema>;

/** Where its bytes come from: whoever has read them there need not read them again. */
export function locationOfBytes(source: MovedLayerSource['inner']): string {
  switch (source.kind) {
    case 'stored':
    case 'shelf':
      return source.kind;
    case 'url':
      return source.url;
    case 'blob':
      return `${source.registry}/${source.repository}#`;
  }
}
