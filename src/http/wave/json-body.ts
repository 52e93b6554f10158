// JSON bodies of API requests: reads no more than the limits allow, and parses nothing that would become far larger in memory.
import type { Context } from 'hono';
import { z } from 'zod';
import type { BudgetShare, ByteBudget } from '../../augment/budget.ts';
import { createPieces } from '../../oci/bytes.ts';
import type { RegistryError } from '../../oci/errors.ts';
import { InvalidJson, parseJson } from '../../oci/json.ts';
import { ApiError } from '../../submit/errors.ts';
import { callerName, identify } from '../middleware/authentication.ts';
import { takeShare } from '../middleware/body-memory.ts';

export interface BodyLimits {
  readonly maxBytes: number;
  /** For the bodies of all requests together, from their first byte to the response. */
  readonly bodies: ByteBudget;
  /** Runs the work of a caller, by subjectOf, with its stored credentials. */
  readonly runAs?: (<T>(caller: string, work: () => Promise<T>) => Promise<T>) | undefined;
}

const JSON_TYPE = /^application\/(?:[\w.+-]+\+)?json *(?:;|$)/i;

/** Far beyond any regular request of the API. */
const JSON_LIMITS = { maxValues: 50_000, maxDepth: 64 };

const identifiedSchema = z.object({ towerAccessToken: z.string() });

/**
 * Runs `work` with the body, whose memory counts until then, for the caller whose access token it contains, if any. Throws 415 unless it is
 * sent as JSON, which no page of another origin can do unasked; 413 for one of more than `maxBytes`, before reading more of it; 400 for
 * invalid JSON or too many values; UNAVAILABLE while other bodies use up the memory; UNAUTHORIZED.
 */
export async function withJson<T>(c: Context, limits: BodyLimits, work: (body: unknown) => Promise<T>): Promise<T> {
  if (!JSON_TYPE.test(c.req.header('Content-Type') ?? ''))
    throw new ApiError(415, 'the body must be sent as JSON, with the header Content-Type: application/json');
  return withBytes(c, limits, async bytes => {
    const body = parse(bytes);
    const { data } = identifiedSchema.safeParse(body);
    if (data) await identify(c, data.towerAccessToken);
    return runAsCaller(c, limits, () => work(body));
  });
}

/** The same for a body of any other type. Its memory counts until `work` has ended. */
export function withRaw<T>(c: Context, limits: BodyLimits, work: (bytes: Uint8Array) => Promise<T>): Promise<T> {
  return withBytes(c, limits, bytes => runAsCaller(c, limits, () => work(bytes)));
}

async function withBytes<T>(c: Context, limits: BodyLimits, work: (bytes: Uint8Array) => Promise<T>): Promise<T> {
  const share = limits.bodies.open();
  try {
    return await work(await read(c, limits.maxBytes, share));
  } finally {
    share.close();
  }
}

function runAsCaller<T>(c: Context, { runAs }: BodyLimits, work: () => Promise<T>): Promise<T> {
  return runAs ? runAs(callerName(c) ?? '', work) : work();
}

/**
 * Validates a body by its schema. Throws ApiError, which names the first error and has no cause: that would hold what was sent.
 */
export function parseFields<T extends z.ZodType>(schema: T, body: unknown): z.output<T> {
  const { success, data, error } = schema.safeParse(body);
  if (success) return data;
  throw new ApiError(400, describeFault(error));
}

/** The first error, such as "containerConfig.env[2]: must be KEY=VALUE with a non-empty key". */
export function describeFault(error: z.ZodError): string {
  const { path = [], message = 'invalid' } = error.issues[0] ?? {};
  if (path.length === 0) return 'the body must be a JSON object';
  const field = path.map((step, at) =>
    typeof step === 'number' ? `[${step}]` : `${at > 0 ? '.' : ''}${String(step)}`,
  );
  return `${field.join('').slice(0, 200)}: ${message}`;
}

async function read(c: Context, maxBytes: number, share: BudgetShare): Promise<Uint8Array> {
  if (Number(c.req.header('Content-Length') ?? 0) > maxBytes) throw tooLarge(maxBytes);
  let pieces = createPieces();
  let refused: RegistryError | undefined;
  let size = 0;
  for await (const chunk of c.req.raw.body ?? []) {
    size += chunk.byteLength;
    if (size > maxBytes) throw tooLarge(maxBytes);
    refused ??= takeShare(share, chunk.byteLength);
    // Many clients only read a response after sending everything.
    if (refused) pieces = createPieces();
    else pieces.add(chunk);
  }
  if (refused) throw refused;
  return pieces.join();
}

function parse(raw: Uint8Array): unknown {
  try {
    return parseJson(raw, JSON_LIMITS);
  } catch (cause) {
    if (!(cause instanceof InvalidJson)) throw cause;
    throw new ApiError(400, cause.isTooMuch ? `the body ${cause.message}` : 'the body must be a JSON object', {
      cause,
    });
  }
}

function tooLarge(maxBytes: number): ApiError {
  return new ApiError(413, `the body is larger than the limit of ${maxBytes} bytes`);
}
