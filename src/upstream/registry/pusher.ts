// Pushing to a registry that speaks distribution-spec over HTTP.
import { Readable } from 'node:stream';
import type { Dispatcher } from 'undici';
import { type Digest, digestAlgorithm, isDigest } from '../../oci/digest.ts';
import { type ErrorCode, orUndefined, RegistryError } from '../../oci/errors.ts';
import { badAnswer, connectionFailure, type RequestContext } from '../failure.ts';
import { requireSuccess, type SendOptions, sendAuthorized } from '../transport/request.ts';
import type { Answer } from '../transport/response.ts';
import type { Transport } from '../transport/transport.ts';
import type { PushedBlob, Pusher } from '../upstream.ts';
import { apiBase, repositoryScope } from './call.ts';
import { createRegistry, type RegistryOptions } from './registry.ts';

export function createPusher(
  options: RegistryOptions & {
    /** Hosts, with their ports, that may continue an upload. */
    readonly redirectHosts: readonly string[];
  },
): Pusher {
  // A pull-only token is refused for a repository that does not exist yet.
  const registry = createRegistry({ ...options, actions: 'pull,push' });
  const transport = options.transports.own;

  return {
    name: options.name,

    async hasBlob(repository, digest, options) {
      return (await orUndefined(registry.headBlob(repository, digest, options))) !== undefined;
    },

    async mountBlob(repository, digest, { from, signal }) {
      const writes = createWrites(options, { repository, part: `blobs/${digest}`, from, signal });
      try {
        return await mount(writes, digest, from);
      } catch (error) {
        // Nothing is lost: what prevents a mount prevents an upload too, or does not matter there.
        if (error instanceof RegistryError) return false;
        throw error;
      }
    },

    async putBlob(repository, blob, { signal } = {}) {
      const writes = createWrites(options, { repository, part: `blobs/${blob.digest}`, signal });
      await uploadBlob({ writes, transport, signal }, blob);
    },

    async putManifest(repository, { reference, digest, mediaType, raw }, { signal } = {}) {
      const part = `manifests/${reference}`;
      const { addressOf, write, attempt } = createWrites(options, { repository, part, signal });
      const headers = { 'content-type': mediaType };
      requireStored(await write(addressOf(part), { method: 'PUT', headers, body: raw }), digest, attempt);
    },

    async findManifest(repository, reference, options) {
      const head = await orUndefined(registry.headManifest(repository, reference, options));
      if (!head || head.digest) return head?.digest;
      return (await orUndefined(registry.getManifest(repository, reference, options)))?.digest;
    },
  };
}

async function mount({ addressOf, write, parseSession }: Writes, digest: Digest, from: string): Promise<boolean> {
  const uploads = addressOf(`blobs/uploads/?${new URLSearchParams({ mount: digest, from })}`);
  const { statusCode, headers } = await write(uploads, { method: 'POST' });
  if (statusCode === 201) return true;
  // An upload was started instead, which we do not need.
  await write(parseSession(headers.location, uploads), { method: 'DELETE' });
  return false;
}

// Uploads one blob: starts a session, and sends the bytes in one piece or in chunks. distribution-spec "Pushing blobs".

const CONTENT = { 'content-type': 'application/octet-stream' };
const CHUNK_BYTES = 8 * 1024 * 1024;
const MAX_CHUNK_BYTES = 64 * 1024 * 1024;
/** The statuses of a registry, or a proxy in front, that requires chunks. */
const WANTS_CHUNKS: readonly number[] = [405, 413];

interface Upload {
  readonly writes: Writes;
  /** Decides how often a broken upload is restarted. */
  readonly transport: Transport;
  readonly signal: AbortSignal | undefined;
}

/** Throws RegistryError, or the signal's reason. */
async function uploadBlob(upload: Upload, blob: PushedBlob): Promise<void> {
  try {
    await putWhole(upload, blob);
  } catch (error) {
    if (!(error instanceof RegistryError && WANTS_CHUNKS.includes(error.status))) throw error;
    await putInChunks(upload, blob);
  }
}

interface Session {
  readonly address: URL;
  /** The minimum length of all chunks but the last. */
  readonly minChunkBytes: number;
}

async function start({ addressOf, write, parseSession, attempt }: Writes): Promise<Session> {
  const from = addressOf('blobs/uploads/');
  const { headers } = await write(from, { method: 'POST' });
  const minChunkBytes = Number(headers['oci-chunk-min-length'] ?? 0);
  if (!(minChunkBytes <= MAX_CHUNK_BYTES))
    throw badAnswer(attempt, `it requires chunks of more than ${MAX_CHUNK_BYTES} bytes`);
  return { address: parseSession(headers.location, from), minChunkBytes };
}

/** A broken upload has stored an unknown part of the bytes: the retry uses its own session. */
async function putWhole({ writes, transport, signal }: Upload, { digest, size, open }: PushedBlob): Promise<void> {
  const headers = { ...CONTENT, 'content-length': `${size}` };
  const body = async () => Readable.from(await open(), { objectMode: false });
  await writes.attempting(async () => {
    const response = await transport.repeat(async () => {
      const { address } = await start(writes);
      return writes.send(withDigest(address, digest), { method: 'PUT', headers, body });
    }, signal);
    await finish(await requireSuccess(response, writes.attempt), digest, writes);
  });
}

async function putInChunks({ writes }: Upload, { digest, open }: PushedBlob): Promise<void> {
  let { address, minChunkBytes } = await start(writes);
  let position = 0;
  await writes.attempting(async () => {
    for await (const chunk of chunksOf(await open(), Math.max(CHUNK_BYTES, minChunkBytes))) {
      const headers = { ...CONTENT, 'content-range': `${position}-${position + chunk.byteLength - 1}` };
      const { headers: answer } = await writes.write(address, { method: 'PATCH', headers, body: chunk });
      address = writes.parseSession(answer.location, address);
      position += chunk.byteLength;
    }
    const response = await writes.write(withDigest(address, digest), { method: 'PUT' });
    requireStored(response, digest, writes.attempt);
  });
}

async function finish(response: Dispatcher.ResponseData, digest: Digest, { attempt }: Writes): Promise<void> {
  await response.body.dump();
  requireStored(response, digest, attempt);
}

/** The existing query is the registry's own, and may be signed: it is preserved verbatim. */
function withDigest(address: URL, digest: Digest): URL {
  const url = new URL(address);
  url.search = `${url.search ? `${url.search}&` : '?'}digest=${encodeURIComponent(digest)}`;
  return url;
}

/** All of `size` bytes, except for the last one. */
async function* chunksOf(body: ReadableStream<Uint8Array>, size: number): AsyncGenerator<Uint8Array> {
  let pieces: Uint8Array[] = [];
  let bytes = 0;
  for await (let piece of body) {
    while (bytes + piece.byteLength >= size) {
      const rest = piece.subarray(size - bytes);
      yield Buffer.concat([...pieces, piece.subarray(0, size - bytes)]);
      pieces = [];
      bytes = 0;
      piece = rest;
    }
    pieces.push(piece);
    bytes += piece.byteLength;
  }
  if (bytes > 0) yield Buffer.concat(pieces);
}

// Requests that change a repository: authorised to pull and push, sent only to the registry itself, with failures mapped to RegistryErrors.
// Redirects are not followed: pushes only go where the configuration says.

interface WriteTarget {
  readonly repository: string;
  /** The target, relative to the repository, for messages. */
  readonly part: string;
  /** Another repository to read from. */
  readonly from?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

type WriteRequest = Pick<SendOptions, 'method' | 'headers' | 'body'>;

/** The writes of one push. Every function but `send` throws RegistryError. */
interface Writes {
  readonly attempt: RequestContext;
  /** An address of the repository's API. */
  addressOf(path: string): URL;
  /** The answer, whatever its status. Throws as Transport.send does, and RegistryError. */
  send(url: URL, request: WriteRequest): Promise<Answer>;
  /** The answer with status 2xx, its body consumed. */
  write(url: URL, request: WriteRequest): Promise<Answer>;
  /** Runs the work; errors become a RegistryError, or the signal's reason. */
  attempting<T>(work: () => Promise<T>): Promise<T>;
  /** Where an upload continues. Throws 502 for a disallowed host. */
  parseSession(location: unknown, from: URL): URL;
}

const MISSING: ErrorCode = 'NAME_UNKNOWN';

function createWrites(
  options: RegistryOptions & {
    /** Hosts, with their ports, that may continue an upload. */
    readonly redirectHosts: readonly string[];
  },
  { repository, part, from, signal }: WriteTarget,
): Writes {
  const { name, keys, url: home, authorizer, transports, redirectHosts } = options;
  const attempt: RequestContext = { upstream: name, action: `push of ${repository}/${part}`, missing: MISSING, keys };
  const scopes = [
    repositoryScope(repository, 'pull,push'),
    ...(from === undefined ? [] : [repositoryScope(from, 'pull')]),
  ];
  const auth = { authorizer, scope: scopes.join(' ') };

  function send(url: URL, request: WriteRequest): Promise<Answer> {
    const sent = { ...request, signal, attempt };
    if (url.origin === home.origin) return sendAuthorized(url, { ...sent, transports, auth });
    return sendAuthorized(url, {
      ...sent,
      transports: { ...transports, own: transports.elsewhere(url), requestLimits: undefined },
    });
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
      if (!url) throw badAnswer(attempt, 'the upload has no Location');
      url.username = '';
      url.password = '';
      if (url.origin === home.origin || isAllowed(url)) return url;
      const reason = `the upload continues at another host, ${url.host}, which is not in redirectHosts of its entry`;
      throw badAnswer(attempt, reason);
    },
  };

  function isAllowed({ protocol, host }: URL): boolean {
    return (
      redirectHosts.includes(host) && (protocol === 'https:' || (protocol === 'http:' && home.protocol === 'http:'))
    );
  }
}

/** Throws 502 where the answer to a push reports other bytes. A digest of another algorithm may be of the same ones. */
function requireStored({ headers }: Dispatcher.ResponseData, digest: Digest, attempt: RequestContext): void {
  const named = headers['docker-content-digest'];
  if (typeof named !== 'string' || !isDigest(named) || digestAlgorithm(named) !== digestAlgorithm(digest)) return;
  if (named !== digest) throw badAnswer(attempt, `it stored ${named} instead of ${digest}`);
}
