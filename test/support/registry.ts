// A real registry in process, for fast tests: it serves what it was given, and misbehaves where a test intercepts.
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import { isIndexType, isManifestType } from '../../src/oci/media-type.ts';
import { answer, type Content, type Repository } from './registry-answers.ts';
import { createTokenServer } from './token-server.ts';

interface SeenRequest {
  readonly method: string;
  /** Path and query. */
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
}

/** Answers a request itself and returns true, or returns false to let the registry answer. */
export type Intercept = (request: IncomingMessage, response: ServerResponse) => boolean;

export interface TestRegistry {
  /** `127.0.0.1:<port>`. */
  readonly host: string;
  readonly url: string;
  /** All requests so far, intercepted ones and those for tokens too; a test may empty it. */
  readonly requests: SeenRequest[];
  /** Adds to a repository, moving tags, and gives the digest of each. */
  put(repository: string, contents: readonly Content[]): readonly Digest[];
  /** Takes the place of the interception before it; without an argument there is none. */
  intercept(intercept?: Intercept): void;
  /** Breaks connections that are still open. */
  close(): Promise<void>;
}

export interface RegistryOptions {
  /** Whether /v2/ wants a Bearer token: from anyone (true), or from who knows these credentials. */
  readonly requireToken?: { readonly username: string; readonly password: string } | true;
}

export async function startRegistry({ requireToken }: RegistryOptions = {}): Promise<TestRegistry> {
  const repositories = new Map<string, Repository>();
  const requests: SeenRequest[] = [];
  let intercepted: Intercept = () => false;
  const tokenServer = requireToken && createTokenServer(requireToken === true ? undefined : requireToken);
  const server = createServer((request, response) => {
    requests.push({ method: request.method ?? '', url: request.url ?? '', headers: request.headers });
    if (!intercepted(request, response)) answer(repositories, tokenServer, { request, response });
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('not listening on a port');
  const host = `127.0.0.1:${address.port}`;
  return {
    host,
    url: `http://${host}`,
    requests,
    put: (repository, contents) => contents.map(content => putContent(repositories, repository, content)),
    intercept: (intercept = () => false) => {
      intercepted = intercept;
    },
    async close() {
      const closed = new Promise<void>(resolve => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
    },
  };
}

function putContent(repositories: Map<string, Repository>, name: string, content: Content): Digest {
  const repository = repositories.get(name) ?? { manifests: new Map(), blobs: new Map(), tags: new Map() };
  repositories.set(name, repository);
  const digest = digestOf(content.raw);
  const isManifest = content.tags !== undefined || isIndexType(content.mediaType) || isManifestType(content.mediaType);
  (isManifest ? repository.manifests : repository.blobs).set(digest, content);
  for (const tag of content.tags ?? []) repository.tags.set(tag, digest);
  return digest;
}
