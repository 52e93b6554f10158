// The write half of the distribution API: distribution-spec "Push" and "Content Management", for hosted repositories.
import type { IncomingMessage } from 'node:http';
import { type Context, Hono } from 'hono';
import type { BudgetShare, ByteBudget } from '../../augment/budget.ts';
import type { HostedRepositories } from '../../hosted/repositories.ts';
import type { Chunk, UploadStatus } from '../../hosted/repository/uploads.ts';
import { type ByteRange, createPieces } from '../../oci/bytes.ts';
import { type Digest, digestAlgorithm, isDigestAlgorithm, parseDigest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import { MAX_MANIFEST_BYTES } from '../../oci/manifest.ts';
import { parseTag, parseTagOrDigest } from '../../oci/reference.ts';
import { readIncoming, takeShare } from '../middleware/body-memory.ts';
import { noteAction } from '../middleware/request-log.ts';
import type { Admission } from './admission.ts';

const UPLOADS = '/v2/:name{.+}/blobs/uploads';
const UPLOAD = `${UPLOADS}/:id`;

export function createPush({
  hosted: { uploads, blobs, manifests, tags },
  admission,
  bodies,
}: {
  readonly hosted: HostedRepositories;
  readonly admission: Pick<Admission, 'admitPush'>;
  /** For manifests that are being pushed. */
  readonly bodies: ByteBudget;
}): Hono {
  const app = new Hono();

  async function start(c: Context): Promise<Response> {
    const { repository, mayPull } = admission.admitPush(c, 'push', nameOf(c));
    const { mount, from, digest: wanted, 'digest-algorithm': named } = c.req.query();
    if (mount !== undefined) {
      const digest = parseDigest(mount);
      if (await blobs.mount(repository, digest, { from, isReadable: mayPull })) return created(c, repository, digest);
    }
    const algorithm = parseAlgorithm(named);
    if (wanted === undefined) return accepted(c, repository, await uploads.start(repository, { algorithm }));
    const digest = parseDigest(wanted);
    const chunk = chunkOf(c);
    const upload = await uploads.start(repository, { algorithm: digestAlgorithm(digest) });
    await uploads.finish(repository, upload.id, digest, chunk).catch(async error => {
      // The client of a single-request upload does not know the session, and could not resume it.
      await uploads.cancel(repository, upload.id).catch(() => {});
      throw error;
    });
    return created(c, repository, digest);
  }
  app.post(UPLOADS, start);
  app.post(`${UPLOADS}/`, start);

  app.get(UPLOAD, async c => {
    const { repository } = admission.admitPush(c, 'push', nameOf(c));
    const upload = await uploads.get(repository, c.req.param('id'));
    return c.body(null, 204, uploadHeaders(repository, upload));
  });

  app.patch(UPLOAD, async c => {
    const { repository } = admission.admitPush(c, 'push', nameOf(c));
    const chunk = chunkOf(c) ?? { body: ReadableStream.from([]) };
    return accepted(c, repository, await uploads.append(repository, c.req.param('id'), chunk));
  });

  app.put(UPLOAD, async c => {
    const { repository } = admission.admitPush(c, 'push', nameOf(c));
    const digest = parseDigest(c.req.query('digest') ?? '');
    await uploads.finish(repository, c.req.param('id'), digest, chunkOf(c));
    return created(c, repository, digest);
  });

  app.delete(UPLOAD, async c => {
    const { repository } = admission.admitPush(c, 'push', nameOf(c));
    await uploads.cancel(repository, c.req.param('id'));
    return c.body(null, 204);
  });

  app.put('/v2/:name{.+}/manifests/:reference', async c => {
    noteAction(c, 'manifest.push');
    const { repository } = admission.admitPush(c, 'push', nameOf(c));
    const target = parseTagOrDigest(c.req.param('reference'));
    using stack = new DisposableStack();
    const share = stack.adopt(bodies.open(), ({ close }) => close());
    const raw = await readBody(c, MAX_MANIFEST_BYTES, share);
    const contentType = c.req.header('Content-Type') ?? '';
    const named = [...new Set((c.req.queries('tag') ?? []).map(parseTag))];
    const promised = 'digest' in target ? { digest: target.digest, tags: named } : { tags: [target.tag, ...named] };
    const { digest, subject, missing } = await manifests.put(repository, { raw, contentType, ...promised });
    for (const tag of named) c.header('OCI-Tag', tag, { append: true });
    if (subject) c.header('OCI-Subject', subject);
    if (missing.length > 0) c.header('Warning', formatWarning(missingText(repository, missing)));
    return c.body(null, 201, {
      Location: `/v2/${repository}/manifests/${digest}`,
      'Docker-Content-Digest': digest,
    });
  });

  app.delete('/v2/:name{.+}/manifests/:reference', async c => {
    noteAction(c, 'manifest.delete');
    const { repository } = admission.admitPush(c, 'delete', nameOf(c));
    const target = parseTagOrDigest(c.req.param('reference'));
    await ('digest' in target ? manifests.delete(repository, target.digest) : tags.delete(repository, target.tag));
    return c.body(null, 202);
  });

  app.delete('/v2/:name{.+}/blobs/:digest', async c => {
    noteAction(c, 'blob.delete');
    const { repository } = admission.admitPush(c, 'delete', nameOf(c));
    await blobs.delete(repository, parseDigest(c.req.param('digest')));
    return c.body(null, 202);
  });

  return app;
}

function nameOf(c: Context): string {
  return c.req.param('name') ?? '';
}

function parseAlgorithm(name: string | undefined) {
  if (name === undefined || isDigestAlgorithm(name)) return name;
  throw new RegistryError('DIGEST_INVALID', `digest-algorithm is "${name.slice(0, 40)}": expected sha256 or sha512`);
}

function created(c: Context, repository: string, digest: Digest): Response {
  return c.body(null, 201, { Location: `/v2/${repository}/blobs/${digest}`, 'Docker-Content-Digest': digest });
}

function accepted(c: Context, repository: string, upload: UploadStatus): Response {
  return c.body(null, 202, uploadHeaders(repository, upload));
}

/** How many are listed: a warning is for humans. */
const MAX_NAMED = 10;

function missingText(repository: string, missing: readonly Digest[]): string {
  const more = missing.length > MAX_NAMED ? `, and ${missing.length - MAX_NAMED} more` : '';
  const named = missing.slice(0, MAX_NAMED).join(', ');
  return `${repository} lacks content that this manifest refers to, and cannot serve it: ${named}${more}`;
}

/** Range is inclusive, and clients expect 0-0 for an empty upload. */
function uploadHeaders(repository: string, { id, size }: UploadStatus): Record<string, string> {
  return {
    Location: `/v2/${repository}/blobs/uploads/${id}`,
    Range: `0-${Math.max(size - 1, 0)}`,
    'Docker-Upload-UUID': id,
  };
}

// The body of a request: a chunk of an upload as a stream, or a small body as a whole.

/** The body and its promised range; undefined for a request without a body. Throws RANGE_INVALID or SIZE_INVALID. */
function chunkOf(c: Context): Chunk | undefined {
  const range = parseContentRange(c.req.header('Content-Range'));
  const length = c.req.header('Content-Length');
  if (range && length !== undefined && Number(length) !== range.end - range.start + 1) {
    throw new RegistryError('SIZE_INVALID', `Content-Range does not match the Content-Length ${length}`);
  }
  const size = length === undefined ? undefined : Number(length);
  const body = size === 0 ? null : bodyOf(c);
  return body ? { body, range, size } : undefined;
}

/** Of a request over a socket, as Node receives it: a web stream takes three times the processor time. */
function bodyOf({ env, req }: Context<{ Bindings: { readonly incoming?: IncomingMessage } }>): Chunk['body'] | null {
  return env?.incoming ? readIncoming(env.incoming) : req.raw.body;
}

/** Digits on both ends, inclusive: distribution-spec "Pushing a blob in chunks". */
function parseContentRange(header: string | undefined): ByteRange | undefined {
  if (header === undefined) return undefined;
  const [, start, end] = /^(\d{1,15})-(\d{1,15})$/.exec(header) ?? [];
  if (start !== undefined && end !== undefined && Number(start) <= Number(end)) {
    return { start: Number(start), end: Number(end) };
  }
  throw new RegistryError('RANGE_INVALID', `Content-Range is "${header.slice(0, 60)}": expected <first>-<last>`);
}

/** How much of an oversized body is still read: many clients only read a response after sending everything. */
const MAX_REFUSED_BYTES = 64 * 1024 * 1024;

/**
 * The whole body, within its share of the budget. Throws SIZE_INVALID (413) beyond `maxBytes`, without holding more than that, and
 * UNAVAILABLE while other bodies use up the memory.
 */
async function readBody(c: Context, maxBytes: number, share: BudgetShare): Promise<Uint8Array> {
  if (Number(c.req.header('Content-Length') ?? 0) > MAX_REFUSED_BYTES) throw tooLarge(maxBytes);
  let pieces = createPieces();
  let refused: RegistryError | undefined;
  let size = 0;
  for await (const chunk of bodyOf(c) ?? []) {
    size += chunk.byteLength;
    if (size <= maxBytes) refused ??= takeShare(share, chunk.byteLength);
    if (refused || size > maxBytes) pieces = createPieces();
    else pieces.add(chunk);
    if (size > MAX_REFUSED_BYTES) break;
  }
  if (size > maxBytes) throw tooLarge(maxBytes);
  if (refused) throw refused;
  return pieces.join();
}

function tooLarge(maxBytes: number): RegistryError {
  return new RegistryError('SIZE_INVALID', `the body is larger than ${maxBytes} bytes`, { status: 413 });
}

// A hint for the client's user on a successful request. distribution-spec "Warnings".

/** Even with every character escaped, this stays below the 4096 bytes allowed for all warnings of a response. */
const MAX_CHARACTERS = 2000;

/**
 * The value of a Warning header. Characters that are not printable ASCII become question marks, and long texts are truncated.
 */
export function formatWarning(text: string): string {
  const printable = text.slice(0, MAX_CHARACTERS).replace(/[^\x20-\x7e]/g, '?');
  return `299 - "${printable.replace(/["\\]/g, '\\$&')}"`;
}
