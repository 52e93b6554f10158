// A registry that misbehaves as a test tells it to: a node server on a free port, and what it was asked.
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import { createServer as createTlsServer, type ServerOptions } from 'node:https';
import { onTestFinished } from 'vitest';
import { createMemory } from '../../src/memory.ts';
import { digestOf } from '../../src/oci/digest.ts';
import type { UpstreamEntry } from '../../src/upstream/registry/registry-client.ts';
import type { Lookup } from '../../src/upstream/transport/connector.ts';
import type { PushedBlob, Pusher, Upstream } from '../../src/upstream/upstream.ts';
import { createUpstreams, type UpstreamsOptions } from '../../src/upstream/upstreams.ts';
import type { Clock } from '../../src/upstream/waiting.ts';
import { PATIENT } from '../support/patience.ts';

const memory = createMemory();

export interface Server {
  /** At 127.0.0.1. */
  readonly url: string;
  readonly port: string;
  readonly requests: IncomingMessage[];
}

/** Over TLS where `tls` is given; with our test certificate for 127.0.0.1 and the names of `lookup`. */
export async function listen(
  handle: (req: IncomingMessage, res: ServerResponse) => void,
  tls?: ServerOptions,
): Promise<Server> {
  const requests: IncomingMessage[] = [];
  const listener: RequestListener = (req, res) => {
    requests.push(req);
    handle(req, res);
  };
  const identity = { cert: pem('server.pem'), key: pem('server.key') };
  const server = tls ? createTlsServer({ ...identity, ...tls }, listener) : createServer(listener);
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return { url: `${tls ? 'https' : 'http'}://127.0.0.1:${address.port}`, port: `${address.port}`, requests };
}

/** A file of fixtures/certificates/: a CA, and what it signed for a server (registry.lab.test, auth.lab.test, blobs.other.test) and a client. */
export function pem(name: string): string {
  return readFileSync(new URL(`../../fixtures/certificates/${name}`, import.meta.url), 'utf8');
}

/** Finds every name at these addresses. */
export function lookupAt(...addresses: readonly string[]): Lookup {
  return (_hostname, _options, callback) =>
    callback(
      null,
      addresses.map(address => ({ address, family: address.includes(':') ? 6 : 4 })),
    );
}

/** A clock whose time passes only where somebody waits, or a test lets it. */
export interface TestClock extends Clock {
  readonly waits: number[];
  pass(ms: number): void;
}

export function createTestClock(): TestClock {
  let ms = Date.UTC(2030, 0, 1);
  const waits: number[] = [];
  return {
    waits,
    now: () => new Date(ms),
    pass(more) {
      ms += more;
    },
    async wait(more) {
      waits.push(more);
      ms += more;
    },
  };
}

const DEFAULTS = {
  openUpstreams: true,
  allowPrivateUrls: false,
  timeouts: PATIENT,
  retries: 0,
  retryDelayMs: 1,
};

export function open(entries: Record<string, UpstreamEntry>, options: Partial<UpstreamsOptions> = {}) {
  const upstreams = createUpstreams({ memory, entries, ...DEFAULTS, ...options });
  onTestFinished(() => upstreams.close());
  return upstreams;
}

/** The one upstream of an entry. */
export function openUpstream(entry: UpstreamEntry, options: Partial<UpstreamsOptions> = {}): Upstream {
  return open({ lab: entry }, options).get('lab');
}

/** The same, to push to. */
export function openPusher(entry: UpstreamEntry, options: Partial<UpstreamsOptions> = {}): Pusher {
  return open({ lab: entry }, options).getPusher('lab');
}

/** A blob to push. */
export function pushed(raw: Uint8Array): PushedBlob {
  const open = async () => ReadableStream.from(raw.byteLength > 0 ? [raw] : []);
  return { digest: digestOf(raw), size: raw.byteLength, open };
}

export function json(res: ServerResponse, status: number, value: unknown, headers: Record<string, string> = {}): void {
  res.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(value));
}

/** What the work failed with. */
export function failure(work: Promise<unknown>): Promise<Error> {
  return work.then(
    () => Promise.reject(new Error('it did not fail')),
    (error: Error) => error,
  );
}

/** All that a log could show of an error: message, stack, fields and cause, however deep. */
export function everythingOf(error: unknown): string {
  if (!(error instanceof Error)) return String(JSON.stringify(error));
  const fields = Object.getOwnPropertyNames(error).filter(name => name !== 'cause');
  const shown = fields.map(name => String(Reflect.get(error, name)) + JSON.stringify(Reflect.get(error, name)));
  return [error.message, error.stack, ...shown, error.cause === undefined ? '' : everythingOf(error.cause)].join('\n');
}
