// Asks the service that has the registry open to collect, and reads what it says.
import { z } from 'zod';
import { isAccessToken } from '../access/access-token.ts';
import type { CollectOptions } from '../hosted/collect.ts';
import { type CollectLine, collectLineSchema } from '../hosted/collect-lines.ts';
import type { CollectReport } from '../hosted/collect-report.ts';

export interface CollectService {
  readonly url: URL;
  /** An access token, `<user>:<password>`, or a bearer token. */
  readonly token?: string | undefined;
}

/** The service did not do it; the message says why, and is for people. */
export class ServiceRefused extends Error {
  override readonly name = 'ServiceRefused';
}

export async function askService(
  service: CollectService,
  { dryRun = false, onProgress }: CollectOptions,
): Promise<CollectReport> {
  const { host } = service.url;
  const response = await post(service, dryRun);
  if (!response.ok) throw new ServiceRefused(`${host} says ${response.status}, ${await explain(response)}`);
  for await (const text of linesOf(response)) {
    const line = parseLine(text, host);
    if (line.kind === 'report') return line.report;
    if (line.kind === 'error') throw new ServiceRefused(line.message);
    onProgress?.(line.progress);
  }
  throw brokenOff(host);
}

async function post({ url, token }: CollectService, dryRun: boolean): Promise<Response> {
  const target = new URL(`/v1/hosted/collect?dryRun=${dryRun}`, url);
  const headers = token === undefined ? {} : { Authorization: authorizationOf(token.trim()) };
  try {
    // The token is for the service alone.
    return await fetch(target, { method: 'POST', headers, redirect: 'error' });
  } catch (cause) {
    const reason = `another process uses the data directory, and no service answers at ${url.host}`;
    throw new ServiceRefused(reason, { cause });
  }
}

function authorizationOf(token: string): string {
  if (isAccessToken(token)) return basic(`token:${token}`);
  return token.includes(':') ? basic(token) : `Bearer ${token}`;
}

function basic(credentials: string): string {
  return `Basic ${Buffer.from(credentials).toString('base64')}`;
}

const errorSchema = z.object({ message: z.string() });

async function explain(response: Response): Promise<string> {
  const [first = ''] = await Array.fromAsync(linesOf(response));
  const said = errorSchema.safeParse(parseJson(first)).data?.message ?? response.statusText;
  const isForToken = response.status === 401 || response.status === 403;
  return `${said.slice(0, 500)}${isForToken ? ': set VENEER_TOKEN to a token that may delete there' : ''}`;
}

function parseLine(text: string, host: string): CollectLine {
  const { data } = collectLineSchema.safeParse(parseJson(text));
  if (data) return data;
  throw new ServiceRefused(`what answers at ${host} is no Veneer of this version`);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const MAX_LINE = 64 * 1024 * 1024;

async function* linesOf({ body, url }: Response): AsyncGenerator<string> {
  let rest = '';
  const decoder = new TextDecoder();
  try {
    for await (const chunk of body ?? []) {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
      rest = lines.pop() ?? '';
      if (rest.length > MAX_LINE) throw new Error(`a line has more than ${MAX_LINE} characters`);
      yield* lines;
    }
  } catch (cause) {
    throw brokenOff(new URL(url).host, cause);
  }
  if (rest !== '') yield rest;
}

function brokenOff(host: string, cause?: unknown): ServiceRefused {
  return new ServiceRefused(`${host} broke off: ask again; what is removed by now stays removed`, { cause });
}
