// What deploy/ has for an operator, given to the programs that it is for: the unit to systemd, and the reverse proxies to nginx and Caddy.
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer, request, type Server } from 'node:http';
import { request as requestTls } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadAllYaml } from '@kubernetes/client-node';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { configSchema } from '../../src/config/schema.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { startApp, type TestApp } from '../support/app.ts';
import { clientPath, findMissingTools } from './support/clients.ts';
import { checkUrl, findFreePort, type Killable, run, startProcess } from './support/process.ts';

const NAME = 'veneer.example';
/** Of a client that may push, and of one that may not. */
const [ALLOWED, OTHER] = ['127.0.0.2', '127.0.0.3'];
const MIB = 1024 * 1024;

let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veneer-deploy-'));
});

afterAll(() => rm(folder, { recursive: true }));

describe('deploy/veneer.service', () => {
  const missing = findMissingTools(['systemd-analyze']);

  test.skipIf(missing)(`is a unit without faults, and a hardened one${missing ? ` (${missing})` : ''}`, async () => {
    const unit = join(folder, 'veneer.service');
    const shown = await readFile('deploy/veneer.service', 'utf8');
    await writeFile(unit, shown.replace('ExecStart=/opt/veneer/node', `ExecStart=${process.execPath}`));
    expect(await run('systemd-analyze', ['verify', unit])).toBe('');
    await run('systemd-analyze', ['security', '--offline=yes', '--threshold=20', unit]);
  });

  test('starts Veneer', async () => {
    const [, line = ''] = /^ExecStart=\S+ \S+ (.+)$/m.exec(await readFile('deploy/veneer.service', 'utf8')) ?? [];
    const address = `127.0.0.1:${await findFreePort()}`;
    await writeFile(join(folder, 'veneer.yaml'), `listen: ${address}\n`);
    const args = line.replace('/etc/veneer', folder).replace('/var/lib/veneer', join(folder, 'unit-data')).split(' ');
    const checkReady = () => checkUrl(`http://${address}/health/ready`);
    const service = await startProcess(process.execPath, ['src/main.ts', ...args], { checkReady });
    await service.stop();
    expect(await readdir(join(folder, 'unit-data'))).toContain('records.db');
  });
});

test('deploy/nginx.conf waits longer than a pull for its build', async () => {
  const [, minutes] = /proxy_read_timeout (\d+)m;/.exec(await readFile('deploy/nginx.conf', 'utf8')) ?? [];
  const { hold } = configSchema({}).parse({}).builds;
  expect(Number(minutes) * 60_000).toBeGreaterThan(Math.max(...Object.values(hold)));
});

test('deploy/nodes.yaml writes the file that containerd reads, and removes it in the end', async () => {
  const objects = loadAllYaml(await readFile('deploy/nodes.yaml', 'utf8'));
  const { data } = nodesSchema.map.parse(objects.find(({ kind }) => kind === 'ConfigMap'));
  const [container] = nodesSchema.set.parse(objects.find(({ kind }) => kind === 'DaemonSet')).spec.template.spec
    .containers;
  const [node, config] = await Promise.all(['node-', 'nodes-'].map(name => mkdtemp(join(folder, name))));
  await writeFile(join(`${config}`, 'hosts.toml'), data['hosts.toml']);
  const [, , script = ''] = container.command;
  const placed = script.replaceAll('/node/', `${node}/`).replaceAll('/config/', `${config}/`);
  const read = () => readFile(join(`${node}`, 'hosts.toml'), 'utf8');
  const running = await startProcess('sh', ['-c', placed], { checkReady: read });
  expect(await read()).toBe(data['hosts.toml']);
  await running.stop();
  await expect(read()).rejects.toThrow('ENOENT');
});

const nodesSchema = {
  map: z.object({ data: z.object({ 'hosts.toml': z.string() }) }),
  set: z.object({
    spec: z.object({
      template: z.object({ spec: z.object({ containers: z.tuple([z.object({ command: z.array(z.string()) })]) }) }),
    }),
  }),
};

interface Proxy {
  readonly command: string;
  /** Whether it passes the reason phrase of an answer on. */
  readonly passesReason: boolean;
  start(own: string, ports: Ports): Promise<Killable>;
}

interface Ports {
  readonly listen: number;
  readonly veneer: number;
}

const PROXIES: Readonly<Record<string, Proxy>> = {
  'deploy/nginx.conf': {
    command: 'nginx',
    passesReason: true,
    async start(own, ports) {
      return startNginx(own, await readFile('deploy/nginx.conf', 'utf8'), ports);
    },
  },
  'deploy/Caddyfile': {
    command: 'caddy',
    passesReason: false,
    async start(own, { listen, veneer }) {
      const site = (await readFile('deploy/Caddyfile', 'utf8'))
        .replace(`\n${NAME} {`, `\n${NAME}:${listen} {\n\tbind 127.0.0.1\n\ttls ${own}/veneer.pem ${own}/veneer.key`)
        .replace('127.0.0.1:8080 {', `127.0.0.1:${veneer} {`);
      const file = join(own, 'Caddyfile');
      await writeFile(file, `{\n\tadmin off\n\tauto_https disable_redirects\n}\n${site}`);
      const env = { HOME: own, XDG_DATA_HOME: own, XDG_CONFIG_HOME: own };
      const checkReady = () => ask(listen, own, ['/health/live']);
      return await startProcess(clientPath('caddy'), ['run', '--adapter', 'caddyfile', '--config', file], {
        env,
        checkReady,
      });
    },
  },
};

describe.each(Object.entries(PROXIES))('%s', (_, { command, passesReason, start }) => {
  const missing = findMissingTools([command, 'curl', 'openssl']);

  describe.skipIf(missing)(`with Veneer behind it${missing ? ` (${missing})` : ''}`, { timeout: 240_000 }, () => {
    let app: TestApp;
    let listening: Awaited<ReturnType<TestApp['listen']>>;
    let way: Server;
    let own: string;
    let proxy: Killable;
    let port: number;

    beforeAll(async () => {
      const grants = [
        { anyone: true, repositories: ['lab/**'], allow: ['pull'] },
        { networks: [`${ALLOWED}/32`], repositories: ['local/**'], allow: ['pull', 'push'] },
      ];
      const config = { publicUrl: `https://${NAME}`, trustedProxies: { addresses: ['127.0.0.1'] }, access: { grants } };
      app = await startApp({ config });
      listening = await app.listen();
      way = await startWay(listening.host);
      own = await mkdtemp(join(folder, 'proxy-'));
      await makeCertificate(own);
      port = await findFreePort();
      proxy = await start(own, { listen: port, veneer: Object(way.address()).port });
    });

    afterAll(async () => {
      await proxy?.stop();
      way?.closeAllConnections();
      way?.close();
      await listening?.[Symbol.asyncDispose]();
      await app?.close();
    });

    const curl = (...args: readonly string[]) => ask(port, own, args);

    test('a layer of any size is pushed and pulled, by a client that is known by its own address', async () => {
      const layer = Buffer.alloc(5 * MIB, 'layer');
      await writeFile(join(own, 'layer'), layer);
      const begun = await curl('-i', '-X', 'POST', '--interface', ALLOWED, '/v2/local/app/blobs/uploads/');
      const [, location = ''] = /^location: (\S+)/im.exec(begun) ?? [];
      const put = `${location}${location.includes('?') ? '&' : '?'}digest=${digestOf(layer)}`;
      const type = ['-H', 'Content-Type: application/octet-stream'];
      const sent = ['-X', 'PUT', ...type, '--data-binary', `@${join(own, 'layer')}`];
      expect(await curl('-i', '--interface', ALLOWED, ...sent, put)).toMatch(/^HTTP\S+ 201/m);
      const pulled = join(own, 'pulled');
      await curl('--interface', ALLOWED, '-o', pulled, `/v2/local/app/blobs/${digestOf(layer)}`);
      expect(digestOf(await readFile(pulled))).toBe(digestOf(layer));
    });

    test('a client that claims the address of another is who it is, and is sent to the public address to log in', async () => {
      const claim = ['-H', `X-Forwarded-For: ${ALLOWED}`];
      const refused = await curl('-i', ...claim, '--interface', OTHER, '/v2/local/app/tags/list');
      expect(refused).toMatch(/^HTTP\S+ 401/);
      expect(refused).toContain(`realm="https://${NAME}/token"`);
    });

    test('a push is not kept until it is whole', async () => {
      const begun = await curl('-i', '-X', 'POST', '--interface', ALLOWED, '/v2/local/slow/blobs/uploads/');
      const [, path = ''] = /^location: (\S+)/im.exec(begun) ?? [];
      const ca = await readFile(join(own, 'veneer.pem'));
      const pushing = requestTls({
        ...{ host: '127.0.0.1', port, path, ca, servername: NAME, method: 'PATCH', localAddress: ALLOWED },
        headers: { Host: NAME, 'Content-Type': 'application/octet-stream', 'Content-Length': 2 * MIB },
      });
      pushing.write(Buffer.alloc(MIB));
      const drafts = join(app.directory, 'data/hosted/drafts');
      const countBytes = async () => {
        const names = await readdir(drafts);
        const sizes = await Promise.all(names.map(async name => (await stat(join(drafts, name))).size));
        return sizes.reduce((sum, size) => sum + size, 0);
      };
      await expect.poll(countBytes).toBeGreaterThan(MIB / 2);
      pushing.end(Buffer.alloc(MIB));
      const [{ statusCode }] = await once(pushing, 'response');
      expect(statusCode).toBe(202);
    });

    test('an answer is not kept until it is whole', async () => {
      const ca = await readFile(join(own, 'veneer.pem'));
      const asking = requestTls({ host: '127.0.0.1', port, path: SLOW, ca, servername: NAME, headers: { Host: NAME } });
      asking.end();
      const [answer] = await once(asking, 'response');
      const [first] = await once(answer, 'data');
      expect(String(first)).toBe('first');
      asking.destroy();
    });

    test(`the reason of an error ${passesReason ? 'is' : 'is not'} passed on as its phrase, and always as its body`, async () => {
      const failed = await curl('-i', '--http1.1', '/v2/lab/library/none/manifests/1');
      const [line = ''] = failed.split('\n');
      const reason = 'lab: library/none/manifests/1: status 404';
      expect(line.includes(reason)).toBe(passesReason);
      expect(failed.slice(line.length)).toContain(reason);
    });
  });
});

describe('what people read, who have missed a setting', () => {
  const missing = findMissingTools(['nginx', 'curl', 'openssl', 'skopeo']);

  test.skipIf(missing)(`of nginx, or of a client${missing ? ` (${missing})` : ''}`, async () => {
    const app = await startApp();
    await using listening = await app.listen();
    const way = await startWay(listening.host);
    const own = await mkdtemp(join(folder, 'missed-'));
    await makeCertificate(own);
    const port = await findFreePort();
    const sample = await readFile('deploy/nginx.conf', 'utf8');
    const missed = sample
      .replace('client_max_body_size 0;', '')
      .replace('proxy_read_timeout 20m', 'proxy_read_timeout 1s');
    const proxy = await startNginx(own, missed, { listen: port, veneer: Object(way.address()).port });
    const inspect = (host: string) => run('skopeo', ['inspect', '--raw', `docker://${host}/lab/library/app:1`]);
    try {
      await writeFile(join(own, 'layer'), Buffer.alloc(2 * MIB));
      const push = ['-i', '--http1.1', '-H', 'Expect:', '--data-binary', `@${join(own, 'layer')}`];
      expect(await ask(port, own, [...push, '/v2/local/app/blobs/uploads/'])).toContain('413 Request Entity Too Large');
      expect(await ask(port, own, ['-i', SILENT])).toContain('504 Gateway Time-out');
      await expect(inspect(listening.host)).rejects.toThrow('server gave HTTP response to HTTPS client');
      await expect(inspect(`127.0.0.1:${port}`)).rejects.toThrow('certificate signed by unknown authority');
    } finally {
      await proxy.stop();
      way.closeAllConnections();
      way.close();
      await app.close();
    }
  });
});

const SLOW = '/of-the-test/slow';
const SILENT = '/of-the-test/silent';

/** To Veneer, but for two paths: an answer that never ends, and none. */
async function startWay(target: string): Promise<Server> {
  const server = createServer((incoming, outgoing) => {
    if (incoming.url === SLOW) return void outgoing.write('first');
    if (incoming.url === SILENT) return;
    const { method, url: path, headers } = incoming;
    const passed = request(`http://${target}${path}`, { ...(method && { method }), headers }, answer => {
      outgoing.writeHead(answer.statusCode ?? 502, answer.statusMessage, answer.headers);
      answer.pipe(outgoing);
    });
    passed.on('error', () => outgoing.destroy());
    incoming.pipe(passed);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
}

/** `sample` is the file as it is in deploy/, or changed. */
async function startNginx(own: string, sample: string, { listen, veneer }: Ports): Promise<Killable> {
  const server = sample
    .replace('listen 443', `listen 127.0.0.1:${listen}`)
    .replaceAll('/etc/nginx/', `${own}/`)
    .replace('127.0.0.1:8080;', `127.0.0.1:${veneer};`);
  const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
  const folders = paths.map(name => `${name}_temp_path ${own}/${name};`).join(' ');
  const file = join(own, 'nginx.conf');
  const http = `http { access_log off; ${folders}\n${server} }`;
  await writeFile(file, `pid ${own}/pid; daemon off; error_log stderr; events {}\n${http}\n`);
  const checkReady = () => ask(listen, own, ['/health/live']);
  return await startProcess('nginx', ['-p', own, '-c', file], { checkReady });
}

/** By curl as a client of the public name. The last argument is a path. */
async function ask(port: number, own: string, args: readonly string[]): Promise<string> {
  const to = ['--cacert', join(own, 'veneer.pem'), '--resolve', `${NAME}:${port}:127.0.0.1`, '-H', `Host: ${NAME}`];
  const url = `https://${NAME}:${port}${args.at(-1)}`;
  return run('curl', ['-sS', '--noproxy', '*', ...to, ...args.slice(0, -1), url]);
}

async function makeCertificate(own: string): Promise<void> {
  await mkdir(own, { recursive: true });
  await run('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'],
    ...['-subj', `/CN=${NAME}`, '-addext', `subjectAltName=DNS:${NAME},IP:127.0.0.1`],
    ...['-keyout', join(own, 'veneer.key'), '-out', join(own, 'veneer.pem')],
  ]);
}
