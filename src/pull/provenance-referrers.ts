// Provenance as the referrers API lists it. What was made has no other referrers: those of the source are about the source's digest.
import type { Digest } from '../oci/digest.ts';
import type { MadeImage } from './derived-images.ts';
import { encodeReferrers, type ReferrersIndex, type ReferrersPage } from './registry.ts';

/** All on one page. */
export function provenanceReferrers(
  { provenance }: Pick<MadeImage, 'provenance'>,
  subject: Digest,
  { artifactType }: ReferrersPage = {},
): ReferrersIndex {
  const descriptors = provenance.filter(each => each.subject === subject).map(({ descriptor }) => descriptor);
  const wanted = descriptors.filter(each => artifactType === undefined || each.artifactType === artifactType);
  return { raw: encodeReferrers(wanted) };
}
