// Requests that change a repository: authorised to pull and push, sent to the registry alone, and their failures made RegistryErrors.
// Their redirects are not followed: what is pushed goes where the configuration says.

import type { ErrorCode } from '../oci/errors.ts';
import { apiBase, repositoryScope } from './call.ts';
import { type Attempt, badAnswer, connectionFailure } from './failure.ts';
import type { RegistryOptions } from './registry.ts';
import { requireSuccess, type SendOptions, sendAuthorized } from './request.ts';
import type { Answer } from './response.ts';

export interface WritesOptions extends RegistryOptions {
  /** Hosts, with their ports, at which an upload may go on. */
  readonly redirectHosts: readonly string[];
}

interface WriteTarget {
  readonly repository: string;
  /** What is written, after the repository, for messages. */
  readonly part: string;
  /** Another repository that is read from. */
  readonly from?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

type WriteRequest = Pick<SendOptions, 'method' | 'headers' | 'body'>;

/** The writes of one push. Every function but `send` throws RegistryError. */
export interface Writes {
  readonly attempt: Attempt;
  /** An address of the repository's API. */
  addressOf(path: string): URL;
  /** The answer of whatever status. Throws as Dialer.send does, and RegistryError. */
  send(url: URL, request: WriteRequest): Promise<Answer>;
  /** The answer of status 2xx, its body ended. */
  write(url: URL, request: WriteRequest): Promise<Answer>;
  /** Runs the work; what it throws becomes a RegistryError, or the signal's reason. */
  attempting<T>(work: () => Promise<T>): Promise<T>;
  /** Where an upload goes on. Throws 502 for a host that may not have it. */
  parseSession(location: unknown, from: URL): URL;
}

const MISSING: ErrorCode = 'NAME_UNKNOWN';

export function createWrites(options: WritesOptions, { repository, part, from, signal }: WriteTarget): Writes {
  const { name, url: home, authorizer, dialers, redirectHosts } = options;
  const attempt: Attempt = { upstream: name, action: `push of ${repository}/${part}`, missing: MISSING };
  const scopes = [
    repositoryScope(repository, 'pull,push'),
    ...(from === undefined ? [] : [repositoryScope(from, 'pull')]),
  ];
  const auth = { authorizer, scope: scopes.join(' ') };

  function send(url: URL, request: WriteRequest): Promise<Answer> {
    const sent = { ...request, signal, attempt };
    if (url.origin === home.origin) return sendAuthorized(url, { ...sent, dialers, auth });
    return sendAuthorized(url, { ...sent, dialers: { ...dialers, own: dialers.elsewhere(url), pace: undefined } });
  }

  async function attempting<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (cause) {
      signal?.throwIfAborted();
      throw connectionFailure(cause, attempt);
    }
  }

  return {
    attempt,
    addressOf: path => new URL(`${apiBase(home)}${repository}/${path}`),
    send,
    attempting,
    write: (url, request) =>
      attempting(async () => {
        const response = await requireSuccess(await send(url, request), attempt);
        await response.body.dump();
        return response;
      }),
    parseSession(location, previous) {
      const url = typeof location === 'string' ? URL.parse(location, previous) : null;
      if (!url) throw badAnswer(attempt, 'it does not say where the upload goes on');
      url.username = '';
      url.password = '';
      if (url.origin === home.origin || isAllowed(url)) return url;
      const reason = `the upload is to go on at another host, ${url.host}, that is not in redirectHosts of its entry`;
      throw badAnswer(attempt, reason);
    },
  };

  function isAllowed({ protocol, host }: URL): boolean {
    return (
      redirectHosts.includes(host) && (protocol === 'https:' || (protocol === 'http:' && home.protocol === 'http:'))
    );
  }
}
