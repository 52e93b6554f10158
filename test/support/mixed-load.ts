// What a busy Veneer has to do, in rounds that are all different: first pulls, pulls once more, submits with and without a layer, pulls by
// token, and pushes. Nothing of a round is asked for again, so that whatever is kept of it is kept for nobody.
import { randomBytes } from 'node:crypto';
import { connect } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { digestOf } from '../../src/oci/digest.ts';
import { packTar } from './build-images.ts';
import { generateImage } from './images.ts';
import type { TestRegistry } from './registry.ts';

export interface MixedLoadOptions {
  /** host:port. It has the registry as its upstream `lab`. */
  readonly address: string;
  readonly registry: TestRegistry;
}

const NAME = 'team/app';
const ACCEPT = 'application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json';
const LAYER = gzipSync(await packTar([{ name: 'note', body: randomBytes(15_000).toString('base64') }]));

/** Does the round of that number. Throws where an answer is no success. */
export function createMixedLoad({ address, registry }: MixedLoadOptions): (round: number) => Promise<void> {
  const base = `http://${address}`;

  async function send(path: string, init: RequestInit = {}): Promise<Buffer> {
    const response = await fetch(new URL(path, base), { ...init, headers: { accept: ACCEPT, ...init.headers } });
    const body = Buffer.from(await response.arrayBuffer());
    if (!response.ok) throw new Error(`${init.method ?? 'GET'} ${path}: ${response.status} ${body}`);
    return body;
  }

  async function pull(name: string, reference: string): Promise<void> {
    const { config, layers } = JSON.parse((await send(`/v2/${name}/manifests/${reference}`)).toString());
    await Promise.all([config, ...layers].map(({ digest }) => send(`/v2/${name}/blobs/${digest}`)));
  }

  async function submit(round: number): Promise<string> {
    const layers = round % 4 === 0 ? [{ location: `data:${LAYER.toString('base64')}` }] : [];
    const containerConfig = { env: [`ROUND=${round}`], layers };
    const body = JSON.stringify({ containerImage: `lab/${NAME}:${round}`, containerConfig });
    const headers = { 'content-type': 'application/json' };
    return JSON.parse((await send('/v1alpha2/container', { method: 'POST', headers, body })).toString()).targetImage;
  }

  async function pushBlob(body: Uint8Array): Promise<void> {
    const digest = digestOf(body);
    await send(`/v2/local/app/blobs/uploads/?digest=${digest}`, { method: 'POST', body: Buffer.from(body) });
  }

  async function push(contents: readonly { readonly mediaType: string; readonly raw: Uint8Array }[], tag: string) {
    const [manifest, ...blobs] = contents;
    if (!manifest) throw new Error('nothing to push');
    await Promise.all(blobs.map(({ raw }) => pushBlob(raw)));
    const headers = { 'content-type': manifest.mediaType };
    await send(`/v2/local/app/manifests/${tag}`, { method: 'PUT', headers, body: Buffer.from(manifest.raw) });
  }

  return async round => {
    const image = generateImage({ seed: round, platforms: ['linux/amd64'], layers: 2, family: 'oci', index: false });
    const root = image.content.get(image.root.digest);
    const others = [...image.content.values()].filter(content => content !== root);
    if (!root) throw new Error('an image without a manifest');
    registry.requests.length = 0;
    registry.put(NAME, others);
    registry.put(NAME, [{ ...root, tags: [`${round}`] }]);
    await pull(`lab/${NAME}`, `${round}`);
    await pull(`lab/${NAME}`, image.root.digest);
    const target = await submit(round);
    const [, path = '', tag = ''] = /^[^/]+\/(.+):([^:]+)$/.exec(target) ?? [];
    await pull(path, tag);
    if (round % 4 === 0) await push([root, ...others], `${round % 100}`);
  };
}

/** Opens `count` downloads of one blob that are read at some bytes a second each, until the signal aborts. Resolves with how many were cut off. */
export async function readSlowly(url: string, count: number, options: SlowOptions): Promise<number> {
  const ends = await Promise.all(Array.from({ length: count }, () => readOne(url, options)));
  return ends.filter(isCut => isCut).length;
}

export interface SlowOptions {
  readonly bytesPerSecond: number;
  readonly signal: AbortSignal;
}

const TURN_MS = 250;

async function readOne(url: string, { bytesPerSecond, signal }: SlowOptions): Promise<boolean> {
  const { hostname, port, pathname } = new URL(url);
  const socket = connect(Number(port), hostname);
  let isCut = false;
  socket
    .on('error', () => {})
    .on('close', () => {
      isCut = !signal.aborted;
    });
  socket.write(`GET ${pathname} HTTP/1.1\r\nhost: ${hostname}:${port}\r\n\r\n`);
  socket.pause();
  while (!signal.aborted && !socket.destroyed) {
    for (let left = (bytesPerSecond * TURN_MS) / 1000; left > 0; ) left -= socket.read()?.length ?? left;
    await setTimeout(TURN_MS, undefined, { signal }).catch(() => {});
  }
  socket.destroy();
  return isCut;
}
