// What a build may read, as a source policy of BuildKit: the images that its plan has looked at, pinned to what they were then, so that a tag that
// moves meanwhile changes nothing, and a trigger of a base or a frontend gets no image with our credentials that its caller may not have.
// Pins are not made by `--opt context:<name>=…`: that would also take the place of a stage with the name of an image.
import type { BuildInput } from '../../backend.ts';
import { listReadImages } from '../../needs.ts';

interface SourcePolicy {
  readonly version: 1;
  readonly rules: readonly SourceRule[];
}

type SourceRule =
  | { readonly action: 'ALLOW' | 'DENY'; readonly selector: Selector }
  | { readonly action: 'CONVERT'; readonly selector: Selector; readonly updates: { readonly identifier: string } };

interface Selector {
  readonly identifier: string;
  readonly matchType: 'EXACT' | 'WILDCARD';
}

/** What BuildKit makes SBOMs with: it chooses the tag. */
const SBOM_SCANNER = 'docker-image://docker.io/docker/buildkit-syft-scanner*';

/** The last rule that matches counts; what is converted is looked at anew. Throws BuildFailure for a Containerfile that is none. */
export function createSourcePolicy({ spec, bases }: Pick<BuildInput, 'spec' | 'bases'>): SourcePolicy {
  const named = listReadImages(spec).map(normalizeImage);
  const pinned = [...bases.values()].map(({ name }) => name);
  const allowed = [
    ...[...named, ...pinned].map(exactly),
    // BuildKit itself adds the digest of one that is not pinned.
    ...named.map(image => like(`docker-image://${image}@*`)),
    ...(spec.attestations.sbom ? [like(SBOM_SCANNER)] : []),
  ];
  return {
    version: 1,
    rules: [
      { action: 'DENY', selector: like('docker-image*') },
      ...allowed.map((selector): SourceRule => ({ action: 'ALLOW', selector })),
      ...[...bases].map(
        ([name, base]): SourceRule => ({
          action: 'CONVERT',
          selector: exactly(normalizeImage(name)),
          updates: { identifier: `docker-image://${base.name}` },
        }),
      ),
    ],
  };
}

function exactly(image: string): Selector {
  return { identifier: `docker-image://${image}`, matchType: 'EXACT' };
}

function like(identifier: string): Selector {
  return { identifier, matchType: 'WILDCARD' };
}

/** A name as BuildKit compares it: with its registry, `library/` for Docker's own images, and a tag. */
export function normalizeImage(name: string): string {
  const slash = name.indexOf('/');
  const first = name.slice(0, Math.max(slash, 0));
  const hasRegistry = /[.:]/.test(first) || first === 'localhost' || first !== first.toLowerCase();
  const registry = hasRegistry ? first.replace(/^index\.docker\.io$/, 'docker.io') : 'docker.io';
  const rest = hasRegistry ? name.slice(slash + 1) : name;
  const path = registry === 'docker.io' && !rest.includes('/') ? `library/${rest}` : rest;
  return `${registry}/${path}${path.includes(':') ? '' : ':latest'}`;
}
