// What strangers, hostile registries and pages of the web try, over the real port. docs/security.md has a row for each.
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { hashSync } from 'bcryptjs';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';
import { startVictim, type Victim } from './victim.ts';

const MIB = 1024 * 1024;
/** A machine may be busy in a way that no baseline shows. */
const NOISY = { retry: 1, timeout: 60_000 };

let victim: Victim;
let server: Server;
let url: string;
const servers: Server[] = [];
const routes = new Map<string, Reply>();

type Reply = (response: ServerResponse, request: IncomingMessage) => void;

beforeAll(async () => {
  url = await serve((request, response) => {
    const path = (request.url ?? '').replace(/\?.*/, '');
    const reply = [...routes].find(([end]) => path.endsWith(end))?.[1];
    if (reply) reply(response, request);
    else response.writeHead(path === '/v2/' ? 200 : 404).end('{}');
  });
});

afterEach(() => routes.clear());

afterAll(() => {
  for (const each of servers) each.close().closeAllConnections();
});

/** The address of a registry of the attacker's, or of one that he must not reach. */
async function serve(answer: (request: IncomingMessage, response: ServerResponse) => void): Promise<string> {
  server = createServer(answer).listen(0, '127.0.0.1');
  servers.push(server);
  await once(server, 'listening');
  return `http://127.0.0.1:${Object(server.address()).port}`;
}

/** An image of one layer behind the names that `routes` answers. */
function putImage(repository: string, options: ImageOptions = {}) {
  const { tag = '1' } = options;
  const layer = randomBytes(2000);
  const config = Buffer.from(
    JSON.stringify({
      ...{ architecture: 'amd64', os: 'linux', config: { Env: [`IMAGE=${repository}:${tag}`] } },
      rootfs: { type: 'layers', diff_ids: [digestOf(layer)] },
    }),
  );
  const manifest = Buffer.from(
    JSON.stringify({
      ...{ schemaVersion: 2, mediaType: mediaTypes.ociManifest },
      config: options.config ?? descriptorOf(config, mediaTypes.ociConfig),
      layers: [descriptorOf(layer, 'application/vnd.oci.image.layer.v1.tar')],
    }),
  );
  const digests = { manifest: digestOf(manifest), config: digestOf(config), layer: digestOf(layer) };
  const reply =
    (raw: Buffer, type = 'application/octet-stream'): Reply =>
    (response, { method, headers }) => {
      if (options.authorization && headers.authorization !== options.authorization) {
        response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end('{}');
      } else {
        response.writeHead(200, { 'content-type': type, 'content-length': raw.byteLength });
        response.end(method === 'HEAD' ? undefined : raw);
      }
    };
  routes.set(`/${repository}/manifests/${tag}`, reply(manifest, mediaTypes.ociManifest));
  routes.set(`/${repository}/manifests/${digests.manifest}`, reply(manifest, mediaTypes.ociManifest));
  for (const raw of [config, layer, manifest]) routes.set(`/${repository}/blobs/${digestOf(raw)}`, reply(raw));
  return digests;
}

interface ImageOptions {
  readonly tag?: string;
  /** What a request has to show. */
  readonly authorization?: string;
  readonly config?: Descriptor;
}

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

function descriptorOf(raw: Uint8Array, mediaType: string): Descriptor {
  return { mediaType, digest: digestOf(raw), size: raw.byteLength };
}

const head = (host: string) => `Host: ${host}\r\n`;
const basic = (pair: string) => ({ authorization: `Basic ${Buffer.from(pair).toString('base64')}` });
const base64 = (text: string | Buffer) => Buffer.from(text).toString('base64');

/** Does `work` so many times, so many at a time. */
async function flood(count: number, atOnce: number, work: (at: number) => Promise<unknown>): Promise<void> {
  let at = 0;
  const next = async () => {
    while (at < count) await work(at++).catch(() => {});
  };
  await Promise.all(Array.from({ length: atOnce }, next));
}

describe('a service that is open on loopback', () => {
  beforeAll(async () => {
    victim = await startVictim({
      upstreams: { evil: { url } },
      cache: { maxSize: '60MiB' },
      builds: { backends: ['embedded'] },
      limits: {
        ...{ connections: 300, requestHead: '2s', requestBodyGrace: '2s', unreadResponse: '2s' },
      },
    });
  });

  afterAll(() => victim.stop());

  test.each([
    ['html', 'text/html; charset=utf-8'],
    ['xhtml', 'application/xhtml+xml'],
    ['svg', 'image/svg+xml'],
    ['script', 'text/javascript'],
  ])('active content: a manifest as %s is not one that a browser runs', NOISY, async (name, type) => {
    routes.set(`/manifests/${name}`, response =>
      response.writeHead(200, { 'content-type': type }).end('{"x":"<script>"}'),
    );
    await victim.hold(async () => {
      const { headers } = await victim.ask('GET', `/v2/evil/x/manifests/${name}`, { headers: { accept: '*/*' } });
      expect(headers['content-type']).toMatch(/^application\/(octet-stream|json|vnd\.)/);
      expect(headers['x-content-type-options']).toBe('nosniff');
      expect(headers['content-security-policy']).toContain('sandbox');
    });
  });

  test('rebinding: a page of another name neither reads nor acts', NOISY, async () => {
    putImage('private');
    await victim.hold(async () => {
      const foreign = { host: `evil.example:${victim.port}` };
      for (const path of ['/v2/evil/private/manifests/1', '/v1alpha1/builds', '/v1/rules']) {
        expect((await victim.ask('GET', path, { headers: foreign })).status, path).toBe(421);
      }
      const crossSite = {
        origin: 'https://evil.example',
        'sec-fetch-site': 'cross-site',
        'content-type': 'text/plain',
      };
      for (const path of ['/v1alpha2/container', '/v1/cache/prune?toBytes=0', '/v2/local/x/blobs/uploads/']) {
        expect([401, 403], path).toContain((await victim.ask('POST', path, { headers: crossSite, body: '{}' })).status);
      }
    });
  });

  test('addresses: no form of a private address is dialled', NOISY, async () => {
    const { port } = new URL(url);
    let asked = 0;
    routes.set('/layer.tar', response => {
      asked += 1;
      response.end('x');
    });
    putImage('base');
    await victim.hold(async () => {
      for (const host of [
        '127.0.0.1',
        '[::7f00:1]',
        '[::ffff:7f00:1]',
        '[64:ff9b::7f00:1]',
        '[2002:7f00:1::1]',
        '2130706433',
      ]) {
        const layers = [{ location: `http://${host}:${port}/layer.tar` }];
        const { status, text } = await victim.submit({ containerImage: 'evil/base:1', containerConfig: { layers } });
        expect([status, text], host).toEqual([400, expect.stringContaining('private or reserved address')]);
      }
      expect(asked).toBe(0);
    });
  });

  const stars = `${'*a'.repeat(30)}b`;
  const long = `ARG A=${'a'.repeat(30_000)}\n${`ENV B=\${A##${'*a'.repeat(1000)}b}\n`.repeat(20)}`;
  const substitutions = `FROM scratch\n${long}COPY . /\n`;

  test.each([
    ['.dockerignore', 'FROM scratch\nCOPY . /\n', { '.dockerignore': `${stars}\n` }],
    ['COPY --exclude', `FROM scratch\nCOPY --exclude=${stars} . /\n`, {}],
    ['COPY --parents', `# syntax=docker/dockerfile:1\nFROM scratch\nCOPY --parents ${stars} /\n`, {}],
    ['COPY', `FROM scratch\nCOPY ${stars} /\n`, {}],
    ['twenty substitutions', substitutions, {}],
  ])('patterns: thirty stars in %s', NOISY, async (_, containerFile, files) => {
    await victim.hold(async () => {
      const buildContext = { ['a'.repeat(200)]: 'x', ...files };
      const { status, text } = await victim.submit({ containerFile: base64(containerFile), buildContext });
      // What can be told from the request alone is refused.
      if (status !== 200) return expect(status).toBe(400);
      const { buildId } = JSON.parse(text);
      const isOver = async () => (await victim.ask('GET', `/v1alpha1/builds/${buildId}/status`)).text;
      await expect.poll(isOver, { timeout: 20_000, interval: 100 }).toContain('COMPLETED');
    });
  });

  const megabyte = (piece: string) => piece.repeat(Math.floor(1_000_000 / piece.length));

  test.each([
    ['a heredoc with a long name', `RUN << ${megabyte('a')}`],
    ['mounts', `RUN ${megabyte('--mount=from=a ')} x`],
    ['substitutions', `ENV A=${megabyte('$B')}`],
    ['lines', megabyte('\n')],
  ])('a Containerfile: a megabyte of %s', NOISY, async (_, instruction) => {
    await victim.hold(async () => {
      const containerFile = base64(`FROM scratch\n${instruction}\n`);
      const { status } = await victim.submit({ containerFile, buildContext: {} });
      expect([200, 400]).toContain(status);
    });
  });

  const many = (item: string) => Array.from({ length: (4 * MIB) / (item.length + 1) }, () => item).join(',');

  test.each([
    ['env of numbers', () => `{"containerImage":"evil/a:1","containerConfig":{"env":[${many('0')}]}}`],
    ['layers of nothing', () => `{"containerImage":"evil/a:1","containerConfig":{"layers":[${many('{}')}]}}`],
    ['entries of numbers', () => `{"packages":{"type":"CONDA","entries":[${many('0')}]}}`],
    ['lists in lists', () => `${'['.repeat(2 * MIB)}${']'.repeat(2 * MIB)}`],
    [
      'labels',
      () => {
        const labels = Array.from({ length: 250_000 }, (_, at) => `"${at}":0`);
        return `{"containerImage":"evil/a:1","containerConfig":{"labels":{${labels}}}}`;
      },
    ],
  ])('validation: four MiB of %s', NOISY, async (_, write) => {
    const body = write();
    await victim.hold(async () => {
      const headers = { 'content-type': 'application/json' };
      expect((await victim.ask('POST', '/v1alpha2/container', { headers, body })).status).toBe(400);
    });
  });

  test('work ends with its client', NOISY, async () => {
    putImage('base');
    const digest = digestOf(Buffer.from('a layer without an end'));
    let open = 0;
    routes.set(`/blobs/${digest}`, response => {
      open += 1;
      response.writeHead(200).write(gzipSync(Buffer.alloc(1000)).subarray(0, 10));
      const drip = setInterval(() => response.write(randomBytes(100_000)), 100);
      response.on('close', () => {
        open -= 1;
        clearInterval(drip);
      });
    });
    await victim.hold(async () => {
      const leaving = new AbortController();
      const layers = [{ location: `docker://evil/v2/x/blobs/${digest}` }];
      const asked = victim.submit({ containerImage: 'evil/base:1', containerConfig: { layers } }, leaving);
      asked.catch(() => {});
      await expect.poll(() => open, { timeout: 10_000 }).toBeGreaterThan(0);
      leaving.abort();
      await expect.poll(() => open, { timeout: 20_000 }).toBe(0);
    });
  });

  test('disk: blobs without an end stay within the budget, and end with their clients', NOISY, async () => {
    let sent = 0;
    const endless: Reply = (response, { method }) => {
      response.writeHead(200);
      if (method === 'HEAD') return void response.end();
      const chunk = Buffer.alloc(256 * 1024, 'x');
      const more = () => {
        while (!response.destroyed && response.write(chunk)) sent += chunk.byteLength;
      };
      response.on('drain', more);
      more();
    };
    const digests = Array.from({ length: 4 }, (_, at) => digestOf(Buffer.from(`endless ${at}`)));
    for (const digest of digests) routes.set(`/blobs/${digest}`, endless);
    await victim.hold(async () => {
      let most = 0;
      for (const digest of digests) {
        const socket = await victim.connect(`GET /v2/evil/x/blobs/${digest} HTTP/1.1\r\n${head(victim.host)}\r\n`);
        await delay(500);
        socket.destroy();
        most = Math.max(most, await victim.diskBytes());
      }
      await delay(1500);
      const after = sent;
      expect(Math.max(most, await victim.diskBytes()) / MIB).toBeLessThan(100);
      await delay(1000);
      expect((sent - after) / MIB, 'MiB after all had left').toBeLessThan(8);
    });
  });

  test('connections: half requests and bodies that trickle are cut, and nobody is shut out', NOISY, async () => {
    await victim.hold(async () => {
      const halves = await Promise.all(
        Array.from({ length: 1100 }, () => victim.connect(`GET / HTTP/1.1\r\n${head(victim.host)}`)),
      );
      const post = `POST /v1alpha2/container HTTP/1.1\r\n${head(victim.host)}Content-Type: application/json\r\n`;
      const slow = await Promise.all(
        Array.from({ length: 100 }, () => victim.connect(`${post}Content-Length: 1000000\r\n\r\n{`)),
      );
      const drip = setInterval(() => {
        for (const socket of halves) if (socket.writable) socket.write('X-a: b\r\n');
        for (const socket of slow) if (socket.writable) socket.write(' ');
      }, 200);
      const isOver = () => [...halves, ...slow].every(({ closed, destroyed }) => closed || destroyed);
      for (const socket of [...halves, ...slow]) socket.resume();
      await expect.poll(isOver, { timeout: 20_000, interval: 100 }).toBe(true);
      clearInterval(drip);
    });
  });

  test('pipelining: fifty that send requests without an end and read nothing hold up nobody', NOISY, async () => {
    await victim.hold(async () => {
      const requests = `GET /v2/ HTTP/1.1\r\n${head(victim.host)}\r\n`.repeat(5000);
      const clients = await Promise.all(Array.from({ length: 50 }, () => victim.connect('')));
      for (const client of clients) {
        client.pause();
        client.write(requests);
      }
      await delay(3000);
    });
  });

  test('unread answers: readers that never read cost no memory, and are cut', NOISY, async () => {
    const blob = randomBytes(20 * MIB);
    const digest = `sha256:${createHash('sha256').update(blob).digest('hex')}`;
    const pushed = await victim.ask('POST', `/v2/local/big/blobs/uploads/?digest=${digest}`, { body: blob });
    expect(pushed.status).toBe(201);
    await victim.hold(async () => {
      const readers = await Promise.all(
        Array.from({ length: 40 }, async () => {
          const socket = await victim.connect('');
          socket.pause();
          socket.write(`GET /v2/local/big/blobs/${digest} HTTP/1.1\r\n${head(victim.host)}Connection: close\r\n\r\n`);
          return socket;
        }),
      );
      await delay(6000);
      // What lies in the kernel is still there to read, and behind it the connection is cut.
      const received = readers.map(async socket => {
        let bytes = 0;
        socket.on('data', chunk => {
          bytes += chunk.length;
        });
        socket.resume();
        if (!socket.closed) await new Promise(resolve => socket.once('close', resolve));
        return bytes / MIB;
      });
      expect(Math.max(...(await Promise.all(received))), 'MiB that one of them got').toBeLessThan(20);
    });
  });
});

describe('a service that keeps much', () => {
  beforeAll(async () => {
    victim = await startVictim({ upstreams: { evil: { url } } });
  });

  afterAll(() => victim.stop());

  test('large documents: a manifest that names a blob of 300 MiB as its config', NOISY, async () => {
    const chunk = Buffer.alloc(10 * MIB);
    const hash = createHash('sha256');
    for (let at = 0; at < 30; at += 1) hash.update(chunk);
    const config = { mediaType: mediaTypes.ociConfig, digest: `sha256:${hash.digest('hex')}`, size: 2000 };
    const large: Reply = async (response, { method }) => {
      response.writeHead(200, { 'content-length': 300 * MIB });
      for (let at = 0; at < 30 && method !== 'HEAD'; at += 1) if (!response.write(chunk)) await once(response, 'drain');
      response.end();
    };
    putImage('large', { config });
    routes.set(`/large/blobs/${config.digest}`, large);
    const kept = await victim.connect(
      `GET /v2/evil/large/blobs/${config.digest} HTTP/1.1\r\n${head(victim.host)}Connection: close\r\n\r\n`,
    );
    await once(kept.resume(), 'close');
    await victim.hold(async () => {
      await flood(32, 16, () => victim.submit({ containerImage: 'evil/large:1', containerConfig: { env: ['A=1'] } }));
    });
  });
});

describe('a service with users', () => {
  const htpasswd = join(tmpdir(), `veneer-attacks-${process.pid}`);
  const corp = basic('service:secret').authorization;

  beforeAll(async () => {
    writeFileSync(htpasswd, `dev:${hashSync('dev-pw', 10)}\nguest:${hashSync('guest-pw', 4)}\n`);
    victim = await startVictim({
      publicUrl: 'http://veneer.example',
      upstreams: { corp: { url, credentials: { username: 'service', password: 'secret' } }, evil: { url } },
      access: {
        htpasswd,
        grants: [
          { users: ['dev'], repositories: ['corp/**', 'local/**'], allow: ['pull', 'push'] },
          { users: ['guest'], repositories: ['evil/**'], allow: ['pull'] },
          { anyone: true, repositories: ['evil/base'], allow: ['pull'] },
        ],
      },
    });
  });

  afterAll(async () => {
    await victim.stop();
    rmSync(htpasswd);
  });

  const dev = { headers: basic('dev:dev-pw') };
  const guest = { headers: basic('guest:guest-pw') };

  test('cache leak: who knows a digest gets nothing of what another upstream sent', NOISY, async () => {
    const secret = putImage('secret', { authorization: corp });
    await victim.hold(async () => {
      for (const path of [`manifests/${secret.manifest}`, `blobs/${secret.config}`, `blobs/${secret.layer}`]) {
        expect((await victim.ask('GET', `/v2/corp/secret/${path}`, dev)).status).toBe(200);
      }
      for (const digest of Object.values(secret)) {
        routes.set(`/thief/blobs/${digest}`, response => response.end('short'));
        for (let time = 0; time < 3; time += 1) {
          const { text = '' } = await victim
            .ask('GET', `/v2/evil/thief/blobs/${digest}`, guest)
            .catch(() => ({ text: '' }));
          expect(digestOf(Buffer.from(text))).not.toBe(digest);
          expect(text).not.toContain('IMAGE=secret');
        }
      }
    });
  });

  test('token scope: a token opens nothing but its own image', NOISY, async () => {
    putImage('base');
    const other = putImage('team', { tag: 'other', authorization: corp });
    const own = putImage('team', { authorization: corp });
    await victim.hold(async () => {
      for (const tag of ['1', 'other']) {
        expect((await victim.ask('GET', `/v2/corp/team/manifests/${tag}`, dev)).status).toBe(200);
      }
      const submitted = await victim.submit({ containerImage: 'corp/team:1', containerConfig: { env: ['A=1'] } }, dev);
      const { containerToken } = JSON.parse(submitted.text);
      const base = `/v2/wt/${containerToken}/team`;
      expect((await victim.ask('GET', `${base}/blobs/${own.layer}`)).status).toBe(200);
      const paths = [`manifests/${other.manifest}`, `blobs/${other.config}`, `blobs/${other.layer}`, 'manifests/other'];
      for (const path of paths)
        expect((await victim.ask('GET', `${base}/${path}`)).status, path).toBeGreaterThanOrEqual(400);
    });
  });

  test('floods of names: a right password opens while made-up names come', NOISY, async () => {
    await victim.hold(async () => {
      expect((await victim.ask('GET', '/v2/', dev)).status).toBe(200);
      let isOver = false;
      const strangers = Array.from({ length: 24 }, async (_, line) => {
        for (let at = 0; !isOver; at += 1) {
          await victim.ask('GET', '/v2/', { headers: basic(`no-${line}-${at}:x`) }).catch(() => {});
        }
      });
      await delay(2500);
      const statuses: number[] = [];
      for (let at = 0; at < 5; at += 1) {
        statuses.push((await victim.ask('GET', '/v2/', dev)).status);
        await delay(100);
      }
      isOver = true;
      await Promise.all(strangers);
      expect(statuses).toEqual([200, 200, 200, 200, 200]);
    });
  });

  test('token flood: strangers get no more than their part', NOISY, async () => {
    putImage('base');
    const statuses: number[] = [];
    await victim.hold(async () => {
      await flood(700, 4, async at => {
        const { status } = await victim.submit({
          containerImage: 'evil/base:1',
          containerConfig: { env: [`A=${at}`] },
        });
        statuses.push(status);
      });
      expect(statuses).toContain(429);
      expect(statuses.filter(status => status === 200).length).toBeLessThanOrEqual(250);
    });
  });
});

describe('a service that strangers fill', () => {
  beforeAll(async () => {
    writeFileSync(recipe, 'FROM scratch\nARG name\nCOPY <<EOF /a\n{name}\nEOF\n');
    victim = await startVictim({
      publicUrl: 'http://veneer.example',
      upstreams: { evil: { url } },
      tokens: { layers: { maxSize: '40MiB', maxSizePerCaller: '16MiB' } },
      access: { grants: [{ anyone: true, repositories: ['**'], allow: ['pull'] }] },
      builds: {
        ...{ backends: ['embedded'], rate: { anonymous: '2/24h', known: '250/1h' } },
        recipes: [{ match: 'local/tools/{name}:{version}', containerFile: recipe, platforms: ['linux/amd64'] }],
      },
    });
  });

  afterAll(async () => {
    await victim.stop();
    rmSync(recipe);
  });

  const recipe = join(tmpdir(), `veneer-attacks-${process.pid}.Containerfile`);

  test('layer fill: layers of anonymous submits are no records, and have a quota', NOISY, async () => {
    putImage('base');
    const before = await victim.diskBytes();
    await victim.hold(async () => {
      for (let at = 0; at < 16; at += 1) {
        const layers = [{ location: `data:${base64(tarOf(randomBytes(3 * MIB)))}` }];
        await victim.submit({ containerImage: 'evil/base:1', containerConfig: { layers } }).catch(() => {});
      }
      expect((await victim.diskBytes('records.db')) / MIB).toBeLessThan(8);
      expect(((await victim.diskBytes()) - before) / MIB).toBeLessThan(24);
    });
  });

  test('recipes: made-up names build no more than other requests do', NOISY, async () => {
    await victim.hold(async () => {
      const statuses: number[] = [];
      await flood(25, 5, async at => {
        const { status } = await victim.ask('GET', `/v2/local/tools/made-up-${at}/manifests/1`);
        statuses.push(status);
      });
      expect(statuses).toHaveLength(25);
      expect(statuses.filter(status => status === 200).length).toBeLessThanOrEqual(2);
      expect(statuses).toContain(429);
    });
  });
});

/** A tar of one file. */
function tarOf(bytes: Buffer): Buffer {
  const header = Buffer.alloc(512);
  header.write('file');
  header.write('0000644\0', 100);
  header.write('0000000\0', 108);
  header.write('0000000\0', 116);
  header.write(`${bytes.byteLength.toString(8).padStart(11, '0')}\0`, 124);
  header.write('00000000000\0', 136);
  header.write('        ', 148);
  header.write('0', 156);
  header.write('ustar\x0000', 257);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return Buffer.concat([header, bytes, Buffer.alloc(((512 - (bytes.byteLength % 512)) % 512) + 1024)]);
}
