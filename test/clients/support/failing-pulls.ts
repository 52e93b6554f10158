// Pulls that fail, one for each error of the life of a pull: two real Veneers, and the upstreams that make them fail.
import { mkdtemp, writeFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { expect } from 'vitest';
import { z } from 'zod';
import { htpasswdOf } from '../../access/fixture.ts';
import { dataUrl, makeLayer } from '../../support/app.ts';
import { generateImage } from '../../support/images.ts';
import { startRegistry, type TestRegistry } from '../../support/registry.ts';
import { type Server, startVeneer } from './daemons.ts';
import { type Killable, type Running, waitUntil } from './process.ts';

export interface FailingPulls extends Running {
  /** host:port of the Veneer that wants to know who asks. */
  readonly closed: string;
  /** Calls `work` with what to pull, while this fails for the cause. */
  whileFailing<T>(cause: Cause, work: (image: string) => Promise<T>): Promise<T>;
}

/** In the order of the life of a pull. */
export const CAUSES = [
  'all connections are in use',
  'anonymous callers are denied',
  'the caller lacks the right',
  'the caller pulls too much',
  'the token is unknown',
  'the token has a frozen image',
  'the upstream is closed by configuration',
  'the image is unknown',
  'the upstream wants credentials',
  'the upstream refuses our credentials',
  'the upstream limits us',
  'the upstream is away',
  'the breaker is open',
  'the upstream is offline by configuration',
  'the build failed',
  'the build goes on',
  'the scan found too much',
  'a rule refuses the digest',
  'a layer of a rule cannot be had',
  'the manifest is invalid',
  'the manifest is too large',
  'the platform is absent',
] as const;

export type Cause = (typeof CAUSES)[number];

export const USER = { name: 'alice', password: 'password' } as const;

const FAR = { failures: 0 };
const DEAD = 'http://127.0.0.1:1';
const scanner = join(import.meta.dirname, '../../support/scanner.ts');
const answerSchema = z.object({ requestId: z.string(), targetImage: z.string() });

export async function startFailingPulls(folder: string): Promise<FailingPulls> {
  const running: Running[] = [];
  const keep = async <R extends Running>(starting: Promise<R>): Promise<R> => {
    const started = await starting;
    running.push(started);
    return started;
  };
  const stop = async () => {
    for (const one of running.reverse()) await one.stop();
  };
  try {
    const good = await keep(startUpstream());
    const guarded = await keep(startUpstream({ username: 'right', password: 'right' }));
    const odd = await keep(startUpstream());
    odd.intercept(answerOddly);
    const limiting = await keep(startUpstream());
    limiting.intercept((_, response) => {
      response.writeHead(429, { 'Retry-After': '3600' });
      return Boolean(response.end());
    });
    const digest = putImage(good);
    const open = await keep(startOpen(folder, { good, guarded, odd, limiting }));
    const closed = await keep(startClosed(folder, good));
    const tokens = await submitAll(open.address);
    const image = (name: string) => `${open.address}/${name}`;
    // The breaker opens, the upstream is not asked again, and the rate is used up.
    await fetch(`http://${open.address}/v2/limiting/app/manifests/1`);
    await fetch(`http://${open.address}/v2/broken/app/manifests/1`);
    expect((await fetch(`http://${closed.address}/v2/good/public/manifests/1`)).status).toBe(200);
    const images: Record<Exclude<Cause, 'the build goes on'>, string> = {
      'all connections are in use': image('good/app:1'),
      'anonymous callers are denied': `${closed.address}/good/app:1`,
      'the caller lacks the right': `${closed.address}/good/secret:1`,
      'the caller pulls too much': `${closed.address}/good/public:1`,
      'the token is unknown': image(`wt/${'0'.repeat(24)}/app:1`),
      'the token has a frozen image': image(`wt/${tokens.frozen.requestId}/app:1`),
      'the upstream is closed by configuration': image('closed/app:1'),
      'the image is unknown': image('good/none:1'),
      'the upstream wants credentials': image('guarded/app:1'),
      'the upstream refuses our credentials': image('refusing/app:1'),
      'the upstream limits us': image('limiting/app:1'),
      'the upstream is away': image('away/app:1'),
      'the breaker is open': image('broken/app:1'),
      'the upstream is offline by configuration': image('offline/app:1'),
      'the build failed': tokens.failed.targetImage,
      'the scan found too much': tokens.scanned.targetImage,
      'a rule refuses the digest': image(`good/pinned@${digest}`),
      'a layer of a rule cannot be had': image('good/ruled:1'),
      'the manifest is invalid': image('odd/invalid:1'),
      'the manifest is too large': image('odd/large:1'),
      'the platform is absent': image('good/arm:1'),
    };
    let builds = 0;
    /** A base that nobody sends is given up after a while, and with it its build. */
    const submitHeld = () => {
      builds += 1;
      return submit(open.address, { containerFile: base64(`FROM odd/held:1\nLABEL build=${builds}\n`) });
    };
    return {
      closed: closed.address,
      stop,
      async whileFailing(cause, work) {
        if (cause === 'the build goes on') return work((await submitHeld()).targetImage);
        if (cause === 'all connections are in use') return occupy(open.address, () => work(images[cause]));
        return work(images[cause]);
      },
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

type Upstream = TestRegistry & Running;

async function startUpstream(requireToken?: { username: string; password: string }): Promise<Upstream> {
  const registry = await startRegistry(requireToken ? { requireToken } : {});
  return { ...registry, stop: () => registry.close() };
}

const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';

/** A registry that sends what is no manifest, and holds a base back for good. */
function answerOddly({ url = '' }: { url?: string | undefined }, response: Parameters<Intercept>[1]): boolean {
  const answer = (body: string) => {
    response.writeHead(200, { 'Content-Type': MANIFEST });
    return Boolean(response.end(body));
  };
  if (url.includes('/invalid/manifests/')) return answer('<html>');
  if (url.includes('/large/manifests/')) return answer(JSON.stringify({ a: 'a'.repeat(5 * 1024 ** 2) }));
  // Nobody answers.
  return url.includes('/held/blobs/');
}

type Intercept = NonNullable<Parameters<TestRegistry['intercept']>[0]>;

/** One image under several names, and one for arm64 alone. Gives the digest of the first. */
function putImage(registry: TestRegistry): string {
  const { content, root } = generateImage({
    seed: 1,
    platforms: ['linux/amd64', 'linux/arm64'],
    layers: 1,
    family: 'oci',
  });
  const put = (repository: string, image: Pick<ReturnType<typeof generateImage>, 'content' | 'root'>) =>
    registry.put(
      repository,
      [...image.content].map(([digest, each]) => ({ ...each, ...(digest === image.root.digest && { tags: ['1'] }) })),
    );
  for (const name of ['app', 'secret', 'public', 'pinned', 'ruled', 'held']) put(name, { content, root });
  put('arm', generateImage({ seed: 2, platforms: ['linux/arm64'], layers: 1, family: 'oci' }));
  return root.digest;
}

interface Upstreams {
  readonly good: Upstream;
  readonly guarded: Upstream;
  readonly odd: Upstream;
  readonly limiting: Upstream;
}

function startOpen(folder: string, { good, guarded, odd, limiting }: Upstreams): Promise<Server & Killable> {
  putImage(odd);
  const missingLayer = { location: `oci://good/none@sha256:${'0'.repeat(64)}` };
  return startVeneer(folder, undefined, {
    upstreams: {
      good: { url: good.url },
      closed: { url: good.url, allow: [] },
      guarded: { url: guarded.url },
      refusing: { url: guarded.url, credentials: { username: 'right', password: 'wrong' } },
      odd: { url: odd.url, breaker: FAR },
      limiting: { url: limiting.url },
      away: { url: DEAD, breaker: FAR },
      broken: { url: DEAD, breaker: { failures: 1, pause: '1h' } },
      offline: { url: good.url, offline: true },
    },
    rules: [
      { name: 'corporate-ca', match: { image: 'good/pinned' }, pinned: 'refused', labels: { a: 'b' } },
      { name: 'agent', match: { image: 'good/ruled' }, layers: [missingLayer] },
    ],
    builds: { backends: ['embedded'], hold: { token: '1s' } },
    scans: { command: [process.execPath, scanner, '{layout}'] },
    limits: { connections: MAX_CONNECTIONS },
  });
}

async function startClosed(folder: string, good: Upstream): Promise<Server & Killable> {
  const htpasswd = join(await mkdtemp(join(folder, 'access-')), 'htpasswd');
  await writeFile(htpasswd, htpasswdOf({ [USER.name]: USER.password }));
  return startVeneer(folder, undefined, {
    upstreams: { good: { url: good.url } },
    access: {
      htpasswd,
      grants: [
        { users: [USER.name], repositories: ['good/app'], allow: ['pull'] },
        { anyone: true, repositories: ['good/public'], allow: ['pull'] },
      ],
    },
    pulls: { rate: { anonymous: '1/24h' } },
  });
}

const base64 = (text: string) => Buffer.from(text).toString('base64');

async function submit(address: string, body: object): Promise<z.infer<typeof answerSchema>> {
  const response = await fetch(`http://${address}/v1alpha2/container`, {
    ...{ method: 'POST', headers: { 'Content-Type': 'application/json' } },
    body: JSON.stringify(body),
  });
  const text = await response.text();
  expect(response.status, text).toBe(200);
  return answerSchema.parse(JSON.parse(text));
}

async function submitAll(address: string) {
  const sbom = JSON.stringify([{ name: 'log4j', version: '1.0' }]);
  const layers = [{ location: dataUrl(await makeLayer('sbom.json', sbom)) }];
  const failed = await submit(address, { containerFile: base64('FROM scratch\nCOPY missing /\n') });
  const scanned = await submit(address, {
    ...{ containerImage: 'good/app:1', containerPlatform: 'linux/amd64', containerConfig: { layers } },
    scanMode: 'required',
  });
  const frozen = await submit(address, { containerFile: base64('FROM scratch\nLABEL a=b\n'), freeze: true });
  for (const { requestId } of [failed, scanned])
    await expectEnd(`http://${address}/v1alpha2/container/${requestId}/status`);
  return { failed, scanned, frozen };
}

async function expectEnd(url: string): Promise<void> {
  await waitUntil(async () => expect(await (await fetch(url)).json()).toMatchObject({ status: 'DONE' }));
}

const MAX_CONNECTIONS = 20;

/** Each asks for a blob that nobody sends: a connection whose client waits does not give way. */
async function occupy<T>(address: string, work: () => Promise<T>): Promise<T> {
  const [host = '', port] = address.split(':');
  const sockets: Socket[] = [];
  const hold = () => {
    const socket = connect(Number(port), host).on('error', () => {});
    sockets.push(socket);
    socket.write(`GET /v2/odd/held/blobs/sha256:${'0'.repeat(64)} HTTP/1.1\r\nHost: ${address}\r\n\r\n`);
  };
  try {
    for (let at = 0; at < MAX_CONNECTIONS; at += 1) hold();
    await waitUntil(async () => {
      const { status } = await fetch(`http://${address}/v2/`, { headers: { Connection: 'close' } });
      if (status !== 503) hold();
      expect(status).toBe(503);
    });
    return await work();
  } finally {
    for (const socket of sockets) socket.destroy();
  }
}
