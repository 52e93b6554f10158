// The auth.json in which buildah looks for credentials: by repository, so that a trigger of a base, or a line that buildah reads otherwise than
// we do, gets no other image with them. containers-auth.json(5).
import type { BuildOrder } from '../../backend.ts';
import { listReadImages } from '../../read-images.ts';
import { normalizeImage } from '../buildkit/source-policy.ts';

interface AuthFile {
  readonly auths: Readonly<Record<string, { readonly auth: string }>>;
}

/** For each repository that the build was planned to read or to write, the credentials of its host. Throws BuildFailure for a Containerfile that is none. */
export function authFile({
  spec,
  bases,
  target,
  cache,
  credentials,
}: Pick<BuildOrder, 'spec' | 'bases' | 'target' | 'cache' | 'credentials'>): AuthFile {
  const written = [target, ...(cache ? [cache] : [])];
  const names = [...written, ...bases.values()].map(({ name }) => name);
  const repositories = new Set([...names, ...listReadImages(spec).map(normalizeImage)].map(repositoryOf));
  const entries = [...repositories].flatMap(repository => {
    const found = credentials.get(repository.slice(0, repository.indexOf('/')));
    return found ? [[repository, { auth: encode(found) }] as const] : [];
  });
  return { auths: Object.fromEntries(entries) };
}

/** `host[:port]/repository`. */
function repositoryOf(name: string): string {
  const [named = ''] = name.split('@', 1);
  const colon = named.lastIndexOf(':');
  return colon > named.lastIndexOf('/') ? named.slice(0, colon) : named;
}

function encode({ username, password }: { readonly username: string; readonly password: string }): string {
  return Buffer.from(`${username}:${password}`).toString('base64');
}
