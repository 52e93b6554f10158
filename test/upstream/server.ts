// A registry that misbehaves as a test tells it to: a node server on a free port, and what it was asked.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { onTestFinished } from 'vitest';
import { createUpstreams, type UpstreamEntry, type UpstreamsOptions } from '../../src/upstream/upstreams.ts';

export interface Server {
  readonly url: string;
  readonly requests: IncomingMessage[];
}

export async function listen(handle: (req: IncomingMessage, res: ServerResponse) => void): Promise<Server> {
  const requests: IncomingMessage[] = [];
  const server = createServer((req, res) => {
    requests.push(req);
    handle(req, res);
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return { url: `http://127.0.0.1:${address.port}`, requests };
}

const DEFAULTS = {
  openUpstreams: true,
  allowPrivateUrls: false,
  timeouts: { connectMs: 2000, headersMs: 5000, bodyMs: 5000 },
  retries: 0,
  retryDelayMs: 1,
};

export function open(entries: Record<string, UpstreamEntry>, options: Partial<UpstreamsOptions> = {}) {
  const upstreams = createUpstreams({ entries, ...DEFAULTS, ...options });
  onTestFinished(() => upstreams.close());
  return upstreams;
}

export function json(res: ServerResponse, status: number, value: unknown, headers: Record<string, string> = {}): void {
  res.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(value));
}
