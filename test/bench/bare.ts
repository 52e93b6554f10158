// The limit of a row: a server that does nothing but answer every request for a manifest with bytes that it has in memory.
import { serve } from '@hono/node-server';
import { Hono } from 'hono';
import { INDEX_TYPE } from './image.ts';

const raw = new TextEncoder().encode('x'.repeat(Number(process.argv[2])));
const headers = { 'Content-Type': INDEX_TYPE, 'Content-Length': String(raw.byteLength) };

const app = new Hono();
app.get('/v2/:name{.+}/manifests/:reference', () => new Response(raw, { headers }));
serve({ fetch: app.fetch, hostname: '127.0.0.1', port: 0 }, ({ port }) =>
  process.stdout.write(`listening on 127.0.0.1:${port}\n`),
);
