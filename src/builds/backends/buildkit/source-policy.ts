// What a build may read, as a source policy of BuildKit: the images of its plan, pinned to their digests. A tag that moves in the meantime changes
// nothing, and a trigger of a base or a frontend cannot use our credentials for images that its caller may not pull.
// Pins are not `--opt context:<name>=…`, which would also replace a stage with the name of an image.
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

/** BuildKit's image for SBOMs, whose tag it chooses. */
const SBOM_SCANNER = 'docker-image://docker.io/docker/buildkit-syft-scanner*';

/** The last matching rule counts, and a converted source is evaluated again. Throws BuildFailure for an invalid Containerfile. */
export function createSourcePolicy({ spec, bases }: Pick<BuildInput, 'spec' | 'bases'>): SourcePolicy {
  const named = listReadImages(spec).map(normalizeImage);
  const pinned = [...bases.values()].map(({ name }) => name);
  const allowed = [
    ...[...named, ...pinned].map(exactly),
    // BuildKit adds the digest of an unpinned image itself.
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

/** A name in the form that BuildKit compares: with registry, `library/` for Docker's official images, and tag. */
export function normalizeImage(name: string): string {
  const slash = name.indexOf('/');
  const first = name.slice(0, Math.max(slash, 0));
  const hasRegistry = /[.:]/.test(first) || first === 'localhost' || first !== first.toLowerCase();
  const registry = hasRegistry ? first.replace(/^index\.docker\.io$/, 'docker.io') : 'docker.io';
  const rest = hasRegistry ? name.slice(slash + 1) : name;
  const path = registry === 'docker.io' && !rest.includes('/') ? `library/${rest}` : rest;
  return `${registry}/${path}${path.includes(':') ? '' : ':latest'}`;
}
