// HTTP client for the running service: one request, and its answer or the reason for its failure.
import { z } from 'zod';
import { isAccessToken } from '../../access/access-token.ts';
import { type Environment, httpUrl } from '../../config/values.ts';
import { plainText } from '../output.ts';

export interface Service {
  readonly url: URL;
  /** An access token, `<user>:<password>`, or a bearer token. */
  readonly token?: string | undefined;
}

/** The request failed; the message is for the user, and says why. */
export class ServiceRefused extends Error {
  override readonly name = 'ServiceRefused';
  readonly isUnreachable: boolean;
  readonly isTransient: boolean;

  constructor(
    message: string,
    {
      isUnreachable = false,
      isTransient = isUnreachable,
      ...rest
    }: ErrorOptions & {
      /** Whether no answer was received. */
      readonly isUnreachable?: boolean;
      /** Whether the same request may succeed soon. */
      readonly isTransient?: boolean;
    } = {},
  ) {
    super(message, rest);
    this.isUnreachable = isUnreachable;
    this.isTransient = isTransient;
  }
}

/**
 * The answer, whatever its status; the caller reads or cancels its body. `path` may be a URL of the same service. Throws ServiceRefused, or
 * the signal's reason.
 */
export async function sendRequest(service: Service, path: string, init: RequestInit = {}): Promise<Response> {
  const target = new URL(path, service.url);
  // The token must only be sent to the service.
  if (target.origin !== service.url.origin) throw new ServiceRefused(`${service.url.host} refers to another host`);
  const headers = new Headers(init.headers);
  if (service.token !== undefined) headers.set('Authorization', authorizationOf(service.token.trim()));
  try {
    return await fetch(target, { ...init, headers, redirect: 'error' });
  } catch (cause) {
    init.signal?.throwIfAborted();
    const message = `no service answers at ${target.host}${reasonOf(cause)}`;
    throw new ServiceRefused(message, { cause, isUnreachable: true });
  }
}

function authorizationOf(token: string): string {
  if (isAccessToken(token)) return basic(`token:${token}`);
  if (token.includes(':')) return basic(token);
  // The error of fetch would quote it.
  if (!/^[\x21-\x7e]+$/.test(token)) throw new ServiceRefused('VENEER_TOKEN contains invalid characters');
  return `Bearer ${token}`;
}

function basic(credentials: string): string {
  return `Basic ${Buffer.from(credentials).toString('base64')}`;
}

/** The code of the system, such as ECONNREFUSED, where there is one. */
function reasonOf(error: unknown): string {
  const cause = error instanceof Error ? error.cause : undefined;
  if (!(cause instanceof Error)) return '';
  return ` (${'code' in cause && typeof cause.code === 'string' ? cause.code : cause.message})`;
}

/** Hints by status. */
export type Hints = Readonly<Record<number, string>>;

const MAX_BODY_CHARACTERS = 64 * 1024;
const MAX_MESSAGE_CHARACTERS = 500;

/** The error formats of the augment API and of the registry. */
const errorSchema = z.union([
  z.object({ message: z.string() }),
  z
    .object({ errors: z.array(z.object({ message: z.string() })).min(1) })
    .transform(({ errors }) => ({ message: errors.map(({ message }) => message).join('; ') })),
]);

/** Reads the answer's body to its end, or cancels it. */
export async function refusalOf(response: Response, hints: Hints = {}): Promise<ServiceRefused> {
  const { status, statusText, url, headers } = response;
  const said = messageOf(await readStart(response)) ?? statusText;
  const retryAfter = /^\d{1,9}$/.exec(headers.get('Retry-After') ?? '')?.[0];
  const hint = retryAfter === undefined ? hints[status] : `try again in ${retryAfter} s`;
  const text = [`${new URL(url).host} answered ${status}`, said && `, ${said}`, hint && `: ${hint}`].filter(Boolean);
  return new ServiceRefused(text.join(''), { isTransient: status === 429 || status >= 500 });
}

async function readStart({ body }: Response): Promise<string> {
  let text = '';
  try {
    for await (const part of body?.pipeThrough(new TextDecoderStream()) ?? []) {
      text += part;
      if (text.length > MAX_BODY_CHARACTERS) break;
    }
  } catch {
    // Uses what arrived before the connection broke.
  }
  return text;
}

function messageOf(text: string): string | undefined {
  const { data } = errorSchema.safeParse(parseJson(text));
  return data && plainText(data.message).slice(0, MAX_MESSAGE_CHARACTERS);
}

/** Undefined for invalid JSON. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const MAX_LINE_CHARACTERS = 64 * 1024 * 1024;

/**
 * Each without its line break; reads the body to its end or cancels it. Where the connection breaks it throws ServiceRefused, with
 * `advice`.
 */
export async function* linesOf({ body, url }: Response, advice: string): AsyncGenerator<string> {
  let rest = '';
  const decoder = new TextDecoder();
  try {
    for await (const chunk of body ?? []) {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
      rest = lines.pop() ?? '';
      if (rest.length > MAX_LINE_CHARACTERS) throw new Error(`a line has more than ${MAX_LINE_CHARACTERS} characters`);
      yield* lines;
    }
  } catch (cause) {
    throw new ServiceRefused(`${new URL(url).host} closed the connection: ${advice}`, { cause, isTransient: true });
  }
  if (rest !== '') yield rest;
}

export interface AddressSources {
  /** The value of --server. */
  readonly server: string | undefined;
  readonly env: Environment;
  /** Called last: if the address is given, the configuration need not be readable. */
  readonly findOwn: () => URL | undefined;
}

const addressSchema = httpUrl().refine(({ pathname }) => pathname === '/', 'must have no path');

/** --server, VENEER_URL, or where the configuration has the service listen. Throws ServiceRefused, and what `findOwn` throws. */
export function findServiceUrl({ server, env, findOwn }: AddressSources): URL {
  if (server !== undefined) return parseAddress(server, '--server');
  if (env.VENEER_URL) return parseAddress(env.VENEER_URL, 'VENEER_URL');
  const own = findOwn();
  if (own) return own;
  throw new ServiceRefused('the configuration does not say where the service listens: give it with --server');
}

function parseAddress(text: string, source: string): URL {
  const { data, error } = addressSchema.safeParse(text);
  if (data) return data;
  throw new ServiceRefused(`${source}: ${error?.issues[0]?.message}, such as http://127.0.0.1:8080`);
}
