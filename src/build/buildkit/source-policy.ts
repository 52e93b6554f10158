// Base images pinned to what the plan resolved, as a source policy of BuildKit: a tag that moves meanwhile changes nothing.
// Not by `--opt context:<name>=…`: that would also take the place of a stage with the name of an image.
import type { BuildOrder } from '../backend.ts';

export interface SourcePolicy {
  readonly version: 1;
  readonly rules: readonly SourceRule[];
}

interface SourceRule {
  readonly action: 'CONVERT';
  readonly selector: { readonly identifier: string; readonly matchType: 'EXACT' };
  readonly updates: { readonly identifier: string };
}

/** A rule for each base by its name as the Containerfile has it. */
export function pinBases(bases: BuildOrder['bases']): SourcePolicy {
  return { version: 1, rules: [...bases].map(([name, base]) => pin(normalizeImage(name), base.name)) };
}

function pin(image: string, pinned: string): SourceRule {
  return {
    action: 'CONVERT',
    selector: { identifier: `docker-image://${image}`, matchType: 'EXACT' },
    updates: { identifier: `docker-image://${pinned}` },
  };
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
