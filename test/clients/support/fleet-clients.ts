// Clients of a fleet, which pull and push at the same time as registry clients do: what fails is tried again once, and all is verified.
import { randomBytes } from 'node:crypto';
import { setTimeout as wait } from 'node:timers/promises';
import { type Digest, digestOf } from '../../../src/oci/digest.ts';
import { mediaTypes } from '../../../src/oci/media-type.ts';
import { type Content, LAYER, makeContent, makeImage, partsOf } from '../../conformance/documents.ts';
import { type GeneratedImage, generateImage } from '../../support/images.ts';
import type { Fleet } from './fleet.ts';
import { waitUntil } from './process.ts';

const PULLERS = 50;
export const PUSHERS = 6;
const MIB = 1024 * 1024;
const CHUNK = MIB / 4;
/** What clients do without Retry-After. */
const RETRY_MS = 500;

export interface Clients {
  /** What all of them pull: of the upstream, and cold. */
  readonly image: GeneratedImage;
  /** Path and digest of each manifest that was pushed and answered with 201. */
  readonly acknowledged: ReadonlyMap<string, Digest>;
  /** Until some have parts of what they pull, and push. */
  waitForBytes(): Promise<void>;
  /** What failed is tried again after this at the earliest. */
  holdTries(until: Promise<unknown>): void;
  /** Rejects with what went wrong with the first client that did not get or give all, with one more try of each of its requests. */
  finish(): Promise<void>;
}

export function startClients(fleet: Fleet, name: string, pullers = PULLERS): Clients {
  const acknowledged = new Map<string, Digest>();
  const image = makeUpstreamImage(fleet, name);
  let answers = 0;
  let held: Promise<unknown> = Promise.resolve();

  const working = Promise.all([
    ...Array.from({ length: pullers }, () => pull(`lab/library/${name}`)),
    ...Array.from({ length: PUSHERS }, (_, at) => push(`local/${name}/${at}`)),
  ]);
  // Who waits for it is told.
  working.catch(() => {});

  async function pull(repository: string): Promise<void> {
    const index = await send(`/v2/${repository}/manifests/1`, { headers: { accept: mediaTypes.ociIndex } });
    if (digestOf(index.body) !== image.root.digest) throw new Error(`${repository}:1 is not what the upstream has`);
    const { manifests } = JSON.parse(index.body.toString());
    const manifest = await pullContent(repository, `manifests/${manifests[0].digest}`);
    const { config, layers } = JSON.parse(manifest.toString());
    await Promise.all([config, ...layers].map(({ digest }) => pullContent(repository, `blobs/${digest}`)));
  }

  async function pullContent(repository: string, path: string): Promise<Buffer> {
    const { body } = await send(`/v2/${repository}/${path}`);
    if (!path.endsWith(digestOf(body))) throw new Error(`${path} has other bytes`);
    return body;
  }

  async function push(repository: string): Promise<void> {
    const layers = [1, 2].map(() => makeContent(randomBytes(MIB / 2), LAYER));
    const { config } = partsOf(repository, {});
    for (const blob of [config, ...layers]) await pushBlob(repository, blob);
    const manifest = makeImage(repository, { layers });
    const path = `/v2/${repository}/manifests/1`;
    await send(path, { method: 'PUT', headers: { 'content-type': manifest.mediaType }, body: manifest.raw });
    acknowledged.set(path, manifest.digest);
  }

  /** In chunks. What became of one that broke is asked for. */
  async function pushBlob(repository: string, { digest, raw }: Blob): Promise<void> {
    const started = await send(`/v2/${repository}/blobs/uploads/`, { method: 'POST' });
    const location = started.headers.get('location') ?? '';
    for (let end = CHUNK; end - CHUNK < raw.byteLength; end += CHUNK) await pushUntil(location, raw.subarray(0, end));
    const closing = await sendOnce(`${location}?digest=${digest}`, { method: 'PUT' });
    if (closing.isRight) return;
    await beforeNextTry(closing);
    const again = await sendOnce(`${location}?digest=${digest}`, { method: 'PUT' });
    // The first try may have ended the upload, whose answer was lost: then the blob is there.
    if (!again.isRight && again.status !== 404) throw again.error;
    await send(`/v2/${repository}/blobs/${digest}`, { method: 'HEAD' });
  }

  async function pushUntil(location: string, raw: Uint8Array): Promise<void> {
    const patch = async (offset: number) =>
      offset >= raw.byteLength
        ? undefined
        : await sendOnce(location, {
            method: 'PATCH',
            headers: { 'content-range': `${offset}-${raw.byteLength - 1}` },
            body: raw.subarray(offset),
          });
    const first = await patch(Math.floor((raw.byteLength - 1) / CHUNK) * CHUNK);
    if (!first || first.isRight) return;
    await beforeNextTry(first);
    const status = await send(location, {});
    const [, last = '0'] = /^0-(\d+)$/.exec(status.headers.get('range') ?? '') ?? [];
    // 0-0 is an upload without a byte: no chunk has a single one.
    const again = await patch(last === '0' ? 0 : Number(last) + 1);
    if (again && !again.isRight) throw again.error;
  }

  /** Twice, where the first time fails. */
  async function send(path: string, init: RequestInit = {}): Promise<Answer> {
    const first = await sendOnce(path, init);
    if (first.isRight) return first;
    await beforeNextTry(first);
    const again = await sendOnce(path, init);
    if (!again.isRight) throw again.error;
    return again;
  }

  async function sendOnce(path: string, init: RequestInit): Promise<Answer> {
    const headers = { authorization: fleet.authorization, ...init.headers };
    try {
      const response = await fetch(`http://127.0.0.1:${fleet.port}${path}`, { ...init, headers });
      const body = Buffer.from(await response.arrayBuffer());
      answers += 1;
      const error = new Error(`${init.method ?? 'GET'} ${path} is ${response.status}: ${body}`);
      return { isRight: response.ok, status: response.status, headers: response.headers, body, error };
    } catch (cause) {
      const error = new Error(`${init.method ?? 'GET'} ${path} broke`, { cause });
      return { isRight: false, status: 0, headers: new Headers(), body: Buffer.of(), error };
    }
  }

  async function beforeNextTry({ headers }: Answer): Promise<void> {
    await Promise.all([held, wait(Number(headers.get('retry-after') ?? 0) * 1000 || RETRY_MS)]);
  }

  return {
    image,
    acknowledged,
    waitForBytes: () => waitUntil(async () => expectMore(answers)),
    holdTries(until) {
      held = until;
    },
    async finish() {
      await working;
    },
  };
}

type Blob = Pick<Content, 'digest' | 'raw'>;

interface Answer {
  readonly isRight: boolean;
  readonly status: number;
  readonly headers: Headers;
  readonly body: Buffer;
  readonly error: Error;
}

function expectMore(answers: number): void {
  if (answers < 2 * PULLERS) throw new Error(`${answers} answers so far`);
}

function makeUpstreamImage({ registry }: Fleet, name: string): GeneratedImage {
  const tars = { 'linux/amd64': [1, 2, 3].map(() => randomBytes(MIB / 2)) };
  const image = generateImage({ seed: 1, platforms: ['linux/amd64'], layers: 3, family: 'oci', tars });
  const contents = [...image.content].map(([digest, content]) => ({
    ...content,
    ...(digest === image.root.digest && { tags: ['1'] }),
  }));
  registry.put(`library/${name}`, contents);
  return image;
}
