// A repository of an upstream: under which its content is kept, for what one repository holds is no other's.
import type { Upstream } from '../upstream/upstream.ts';

export interface UpstreamRepository {
  readonly upstream: Upstream;
  readonly repository: string;
}

/** One key for all that belongs to this repository. */
export function repositoryKey({ upstream, repository }: UpstreamRepository): string {
  return `${upstream.name}/${repository}`;
}
