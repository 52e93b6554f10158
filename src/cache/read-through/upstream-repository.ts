// A repository of an upstream: under which its content is kept, for what one repository or one scope holds is no other's.
import type { Upstream } from '../../upstream/upstream.ts';

export interface UpstreamRepository {
  readonly upstream: Upstream;
  readonly repository: string;
}

/** The full name. */
export function repositoryName({ upstream, repository }: UpstreamRepository): string {
  return `${upstream.name}/${repository}`;
}

/** After a name: what follows is the id of a scope. No name has it. */
export const SCOPE_MARK = '@#';

/** One key for all that belongs to this repository: of one scope, where its upstream has them. */
export function repositoryKey(origin: UpstreamRepository): string {
  const { scope } = origin.upstream;
  return scope ? `${repositoryName(origin)}${SCOPE_MARK}${scope.id}` : repositoryName(origin);
}

/** When what is kept under the key is over. */
export function repositoryEnd({ upstream }: UpstreamRepository): { readonly expiresAt?: Date } {
  return upstream.scope ? { expiresAt: upstream.scope.endsAt } : {};
}
