// `veneer doctor`: each fault is planted for real, in files and servers, and is named with what puts it right.
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type RequestListener, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { stringify } from 'yaml';
import { findStartFaults, probeBuilders, probeUpstreams } from '../../src/app/probing.ts';
import { createDoctorCommand, type DoctorDeps } from '../../src/cli/doctor/doctor.ts';
import { lockDirectory } from '../../src/state/data-directory.ts';
import { createSqliteStore } from '../../src/state/sqlite.ts';
import { findFreePort } from '../clients/support/process.ts';
import { startServer } from '../support/server.ts';
import { pem } from '../upstream/server.ts';
import { runCommand } from './run.ts';

let folder: string;
let cleanUp: AsyncDisposableStack;
let registry: string;
let port: number;

beforeEach(async () => {
  cleanUp = new AsyncDisposableStack();
  folder = await mkdtemp(join(tmpdir(), 'veneer-doctor-'));
  cleanUp.defer(() => rm(folder, { recursive: true }));
  registry = await listen(createServer(answer(404)));
  port = await findFreePort();
});

afterEach(() => cleanUp.disposeAsync());

/** Of a registry that has nothing. */
function answer(status: number, headers: Record<string, string> = {}): RequestListener {
  return (_, response) => {
    const code = status === 429 ? 'TOOMANYREQUESTS' : 'NAME_UNKNOWN';
    response.writeHead(status, { 'content-type': 'application/json', ...headers });
    response.end(JSON.stringify({ errors: [{ code }] }));
  };
}

async function listen(server: Server, scheme = 'http', host = '127.0.0.1'): Promise<string> {
  server.listen(0, host);
  await once(server, 'listening');
  cleanUp.defer(async () => {
    server.closeAllConnections();
    server.close();
  });
  return `${scheme}://${host}:${Object(server.address()).port}`;
}

function listenTls(name: 'server' | 'expired', host?: string): Promise<string> {
  const options = { cert: pem(`${name}.pem`), key: pem(`${name}.key`) };
  return listen(createTlsServer(options, answer(404)), 'https', host);
}

interface Planted {
  readonly config?: Record<string, unknown>;
  /** Of the upstream. */
  readonly lab?: Record<string, unknown>;
  readonly env?: Record<string, string>;
  readonly deps?: Partial<DoctorDeps>;
  /** More options of the command. */
  readonly options?: readonly string[];
}

async function run(args: readonly string[], { config = {}, lab = {}, env = {}, deps = {} }: Planted = {}) {
  const file = join(folder, 'veneer.yaml');
  const base = {
    ...{ listen: `127.0.0.1:${port}`, dataDir: join(folder, 'data'), defaultUpstream: 'lab', openUpstreams: false },
    ...{ builds: { backends: ['embedded'] }, upstreams: { lab: { url: registry, ...lab } } },
  };
  await writeFile(file, stringify({ ...base, ...config }));
  const command = createDoctorCommand({
    findConfigSources: () => ({ env, flags: { config: file } }),
    findStartFaults,
    probeUpstreams: config => probeUpstreams(config, { dockerConfigPath: join(folder, 'docker.json') }),
    probeBuilders: config => probeBuilders(config, {}),
    runtimePlaces: { root: folder, dockerSocket: join(folder, 'docker.sock') },
    ...deps,
  });
  return runCommand(command, args);
}

async function write(path: string, text: string): Promise<void> {
  await mkdir(dirname(join(folder, path)), { recursive: true });
  await writeFile(join(folder, path), text);
}

test('nothing is wrong, and nothing is changed', async () => {
  const { out, err, exitCode } = await run(['--all']);
  expect(exitCode).toBe(0);
  expect(err).toBe('no faults\n');
  expect(out).toContain('ok    configuration: it is valid\n');
  expect(out).toContain('ok    upstream lab: ');
  expect(out).toContain('ok    clock: ');
  expect(await readdir(folder)).toEqual(['veneer.yaml']);
});

test('--json has every finding', async () => {
  const { out, exitCode } = await run(['--json'], { lab: { url: 'http://127.0.0.1:1' } });
  const { faults, findings } = JSON.parse(out);
  expect([faults, exitCode]).toEqual([1, 2]);
  expect(findings).toContainEqual({ about: 'configuration', level: 'ok', message: 'it is valid' });
  expect(findings).toContainEqual({
    about: 'upstream lab',
    level: 'fault',
    message: expect.stringContaining('(ECONNREFUSED)'),
    remedy: expect.stringContaining('curl -v'),
  });
});

const LAN = { config: { listen: '0.0.0.0:0', publicUrl: 'http://localhost:9' } };
const MIRRORED = { address: 'http://localhost:9' };

interface Fault {
  readonly name: string;
  readonly plant: () => Promise<Planted>;
  readonly about: string;
  readonly message: RegExp;
  readonly remedy: RegExp;
}

const FAULTS: readonly Fault[] = [
  {
    name: 'a key that is misspelt',
    plant: async () => ({ config: { cahce: {} } }),
    about: 'configuration',
    message: /veneer\.yaml:\d+: cahce: unknown key; did you mean cache\?/,
    remedy: /veneer config check/,
  },
  {
    name: 'a secret that is not set',
    plant: async () => ({ lab: { credentials: { username: 'a', password: { env: 'LAB' } } } }),
    about: 'configuration',
    message: /the environment variable LAB is not set/,
    remedy: /veneer config check/,
  },
  {
    name: 'a file of users that is not there',
    plant: async () => ({ config: { access: { htpasswd: join(folder, 'htpasswd') } } }),
    about: 'configuration',
    message: /cannot read .*htpasswd \(ENOENT\)/,
    remedy: /veneer config check/,
  },
  {
    name: 'a data directory that others can read',
    plant: async () => {
      await mkdir(join(folder, 'data'));
      await chmod(join(folder, 'data'), 0o755);
      return {};
    },
    about: 'data directory',
    message: /other users of this machine can read .*data/,
    remedy: /chmod -R go= /,
  },
  {
    name: 'a data directory that is a file',
    plant: async () => {
      await write('data', '');
      return {};
    },
    about: 'data directory',
    message: /data is a file/,
    remedy: /dataDir/,
  },
  {
    name: 'a data directory that another process uses',
    plant: async () => {
      const lock = lockDirectory(join(folder, 'data'));
      cleanUp.defer(() => lock.release());
      return {};
    },
    about: 'data directory',
    message: /another Veneer process uses .*data, but none answers/,
    remedy: /fuser -v .*owner\.db/,
  },
  {
    name: 'records that are damaged',
    plant: async () => {
      await mkdir(join(folder, 'data'), { mode: 0o700 });
      await writeFile(join(folder, 'data/records.db'), 'notes, and not a few of them\n'.repeat(100), { mode: 0o600 });
      return {};
    },
    about: 'records',
    message: /records\.db: it is damaged/,
    remedy: /veneer restore.*veneer repair/,
  },
  {
    name: 'records that are older than the content',
    plant: async () => {
      const path = join(folder, 'data/records.db');
      await mkdir(join(folder, 'data'), { mode: 0o700 });
      const first = createSqliteStore({ path });
      await first.put('a', '1', Buffer.from('x'));
      await first.close();
      const copy = await readFile(path);
      const second = createSqliteStore({ path });
      await second.put('a', '2', Buffer.from('y'));
      await second.close();
      await writeFile(path, copy, { mode: 0o600 });
      return {};
    },
    about: 'records',
    message: /older than what was acknowledged/,
    remedy: /veneer restore.*veneer repair/,
  },
  {
    name: 'a disk that is nearly full',
    plant: async () => ({
      deps: { readSpace: () => ({ bavail: 100, bsize: 4096, blocks: 10_000_000, files: 1000, ffree: 900 }) },
    }),
    about: 'disk',
    message: /400 KiB of 38\.1 GiB are free/,
    remedy: /veneer cache prune/,
  },
  {
    name: 'a disk without inodes',
    plant: async () => ({
      deps: { readSpace: () => ({ bavail: 9_000_000, bsize: 4096, blocks: 10_000_000, files: 1000, ffree: 3 }) },
    }),
    about: 'disk',
    message: /3 of 1000 inodes are free/,
    remedy: /veneer gc/,
  },
  {
    name: 'a database that is away',
    plant: async () => ({ config: { state: { postgres: { url: 'postgres://veneer:pw@127.0.0.1:1/veneer' } } } }),
    about: 'database',
    message: /the database at 127\.0\.0\.1:1 cannot be reached \(ECONNREFUSED\)/,
    remedy: /start PostgreSQL/,
  },
  {
    name: 'a port that is taken',
    plant: async () => ({ config: { listen: new URL(registry).host } }),
    about: 'listen',
    message: /cannot listen on 127\.0\.0\.1:\d+ \(EADDRINUSE\)/,
    remedy: /ss -ltnp/,
  },
  {
    name: 'an address of another machine',
    plant: async () => ({ config: { listen: '192.0.2.1:8080', publicUrl: 'http://localhost:9' } }),
    about: 'listen',
    message: /\(EADDRNOTAVAIL\)/,
    remedy: /ip address/,
  },
  {
    name: 'no publicUrl',
    plant: async () => ({ config: { listen: '0.0.0.0:0' } }),
    about: 'publicUrl',
    message: /publicUrl is not set/,
    remedy: /set publicUrl to the address that clients use/,
  },
  {
    name: 'a publicUrl that does not resolve',
    plant: async () => ({ config: { publicUrl: 'https://veneer.invalid' } }),
    about: 'publicUrl',
    message: /the name veneer\.invalid does not resolve/,
    remedy: /add veneer\.invalid to the DNS/,
  },
  {
    name: 'a publicUrl that nobody answers',
    plant: async () => ({ config: { ...(await startOwn()), publicUrl: 'http://127.0.0.1:1' } }),
    about: 'publicUrl',
    message: /http:\/\/127\.0\.0\.1:1 cannot be reached from here \(ECONNREFUSED\)/,
    remedy: /start the proxy/,
  },
  {
    name: 'a publicUrl that leads elsewhere',
    plant: async () => ({ config: { ...(await startOwn()), publicUrl: registry } }),
    about: 'publicUrl',
    message: /answered by something else \(status 404/,
    remedy: /let the proxy there pass all paths on/,
  },
  {
    name: 'a proxy for clients',
    plant: async () => ({
      config: { publicUrl: 'http://localhost:9' },
      env: { HTTPS_PROXY: 'http://proxy.example:3128', NO_PROXY: 'other.example' },
    }),
    about: 'proxy',
    message: /HTTPS_PROXY is set, and clients .* ask that proxy for localhost:9/,
    remedy: /add localhost to NO_PROXY/,
  },
  {
    name: 'certificates for an upstream that have expired',
    plant: async () => ({
      lab: { tls: { ca: pem('ca.pem') } },
      deps: { now: () => new Date(Date.parse('2120-01-02')) },
    }),
    about: 'upstreams["lab"].tls.ca',
    message: /the certificate has expired on 2120-01-01/,
    remedy: /replace it by the one that is valid now/,
  },
  {
    name: 'a certificate of our own that has expired',
    plant: async () => {
      await write('own.pem', pem('server.pem'));
      await write('own.key', pem('server.key'));
      const tls = { cert: join(folder, 'own.pem'), key: join(folder, 'own.key') };
      return { config: { tls }, deps: { now: () => new Date(Date.parse('2120-01-02')) } };
    },
    about: 'tls.cert',
    message: /the certificate has expired on 2120-01-01/,
    remedy: /renew it, and replace the file/,
  },
  {
    name: 'a builder that cannot RUN',
    plant: async () => ({ options: ['--builds'], config: await startOwn() }),
    about: 'builds',
    message: /a RUN of `true` for linux\/amd64 is refused: .*RUN needs a builder/,
    remedy: /docs\/builds\.md/,
  },
  {
    name: 'an upstream whose name does not resolve',
    plant: async () => ({ lab: { url: 'https://registry.invalid' } }),
    about: 'upstream lab',
    message: /its name does not resolve \((?:ENOTFOUND|EAI_AGAIN)\)/,
    remedy: /check the DNS/,
  },
  {
    name: 'an upstream that cannot be reached',
    plant: async () => ({ lab: { url: 'http://127.0.0.1:1' } }),
    about: 'upstream lab',
    message: /it cannot be reached \(ECONNREFUSED\)/,
    remedy: /curl -v/,
  },
  {
    name: 'an upstream with a CA that is not known',
    plant: async () => ({ lab: { url: await listenTls('server') } }),
    about: 'upstream lab',
    message: /a CA that this machine does not trust/,
    remedy: /set upstreams\["lab"\]\.tls\.ca/,
  },
  {
    name: 'an upstream with a certificate that has expired',
    plant: async () => ({ lab: { url: await listenTls('expired'), tls: { ca: pem('expired.pem') } } }),
    about: 'upstream lab',
    message: /its certificate has expired/,
    remedy: /has to renew it/,
  },
  {
    name: 'an upstream with a certificate for another name',
    plant: async () => ({ lab: { url: await listenTls('server', '127.0.0.2'), tls: { ca: pem('ca.pem') } } }),
    about: 'upstream lab',
    message: /its certificate is for another name/,
    remedy: /as its certificate does/,
  },
  {
    name: 'an upstream of plain HTTP at https',
    plant: async () => ({ lab: { url: registry.replace('http:', 'https:') } }),
    about: 'upstream lab',
    message: /it does not speak TLS there/,
    remedy: /as http:\/\/127/,
  },
  {
    name: 'credentials that an upstream does not take',
    plant: async () => {
      const url = await listen(createServer(answer(401, { 'www-authenticate': 'Basic realm="lab"' })));
      return { lab: { url, credentials: { username: 'me', password: 'old' } } };
    },
    about: 'upstream lab',
    message: /it does not accept the credentials/,
    remedy: /docker login/,
  },
  {
    name: 'an upstream that limits us',
    plant: async () => ({
      lab: {
        url: await listen(
          createServer((request, response) =>
            answer(request.url === '/v2/' ? 200 : 429, { 'retry-after': '120' })(request, response),
          ),
        ),
      },
    }),
    about: 'upstream lab',
    message: /it has limited our requests, for 120 s/,
    remedy: /an account with a higher limit/,
  },
  {
    name: 'an upstream that fails',
    plant: async () => ({ lab: { url: await listen(createServer(answer(503))) } }),
    about: 'upstream lab',
    message: /answers with status 503/,
    remedy: /the upstream itself fails/,
  },
  {
    name: 'a clock that is behind',
    plant: async () => ({
      lab: { url: await listen(createServer(answer(404, { date: new Date(Date.now() + 600_000).toUTCString() }))) },
    }),
    about: 'clock',
    message: /it is (?:59\d|60\d) s behind all upstreams/,
    remedy: /timedatectl set-ntp true/,
  },
  {
    name: 'a builder that does not answer',
    plant: async () => ({
      config: { builds: { backends: [{ type: 'buildkit', address: `unix://${folder}/buildkitd.sock` }] } },
    }),
    about: 'builder buildkit',
    message: /it cannot build: /,
    remedy: /start buildkit/,
  },
  {
    name: 'no builder that can do a RUN, although one is configured',
    plant: async () => ({
      config: { builds: { backends: [{ type: 'buildkit', address: `unix://${folder}/buildkitd.sock` }, 'embedded'] } },
    }),
    about: 'builders',
    message: /no builder can do a RUN/,
    remedy: /install BuildKit/,
  },
  {
    name: 'a registry that docker takes for insecure',
    plant: async () => {
      await write('etc/docker/daemon.json', '{}');
      return { config: { listen: '0.0.0.0:0', publicUrl: 'http://veneer.localhost:9' } };
    },
    about: 'docker',
    message: /plain HTTP at veneer\.localhost:9, which dockerd refuses/,
    remedy: /"insecure-registries": \["veneer\.localhost:9"\].*systemctl reload docker/,
  },
  {
    name: 'a daemon.json that is no JSON',
    plant: async () => {
      await write('etc/docker/daemon.json', '{ "registry-mirrors": [, }');
      return LAN;
    },
    about: 'docker',
    message: /daemon\.json cannot be parsed/,
    remedy: /correct it/,
  },
  {
    name: 'a mirror of docker at another address',
    plant: async () => {
      await write('etc/docker/daemon.json', '{ "registry-mirrors": ["http://localhost:8"] }');
      return LAN;
    },
    about: 'docker',
    message: /registry-mirrors of .* has http:\/\/localhost:8, and Veneer is at http:\/\/localhost:9/,
    remedy: /veneer mirror-config docker/,
  },
  {
    name: 'a mirror that dockerd has not read',
    plant: async () => {
      await write('etc/docker/daemon.json', '{ "registry-mirrors": ["http://localhost:9"] }');
      await listenDocker({ Mirrors: [], IndexConfigs: {} });
      return { config: { ...LAN.config, defaultUpstream: 'docker.io', upstreams: { 'docker.io': { url: registry } } } };
    },
    about: 'docker',
    message: /has Veneer, but dockerd has not read it/,
    remedy: /systemctl reload docker/,
  },
  {
    name: 'an insecure registry that dockerd has not read',
    plant: async () => {
      await write('etc/docker/daemon.json', '{ "insecure-registries": ["veneer.localhost:9"] }');
      await listenDocker({ Mirrors: null, IndexConfigs: {} });
      return { config: { listen: '0.0.0.0:0', publicUrl: 'http://veneer.localhost:9' } };
    },
    about: 'docker',
    message: /insecure-registries .* but dockerd has not read it/,
    remedy: /systemctl reload docker/,
  },
  {
    name: 'containerd 1 without config_path',
    plant: async () => {
      await write('etc/containerd/config.toml', 'version = 2\n');
      await write('etc/containerd/certs.d/docker.io/hosts.toml', `[host."${MIRRORED.address}"]\n`);
      return LAN;
    },
    about: 'containerd',
    message: /certs\.d has no effect: config_path is not set/,
    remedy: /to \[plugins\."io\.containerd\.grpc\.v1\.cri"\.registry\] .*systemctl restart containerd/,
  },
  {
    name: 'containerd 2 with config_path where containerd 1 reads it',
    plant: async () => {
      const old = '[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = "/etc/containerd/certs.d"\n';
      await write('etc/containerd/config.toml', `version = 3\n${old}`);
      return LAN;
    },
    about: 'containerd',
    message: /"io\.containerd\.grpc\.v1\.cri"\.registry\], which containerd ignores in a file of version 3/,
    remedy: /to \[plugins\."io\.containerd\.cri\.v1\.images"\.registry\]/,
  },
  {
    name: 'containerd with a mirror at another address',
    plant: async () => {
      await write('etc/containerd/config.toml', NEW_CONTAINERD);
      await write('etc/containerd/certs.d/docker.io/hosts.toml', '[host."http://localhost:8"]\n');
      return LAN;
    },
    about: 'containerd',
    message: /docker\.io\/hosts\.toml has http:\/\/localhost:8; Veneer is at http:\/\/localhost:9/,
    remedy: /veneer mirror-config containerd/,
  },
  {
    name: 'containerd with mirrors beside config_path',
    plant: async () => {
      const mirrors = '[plugins."io.containerd.cri.v1.images".registry.mirrors."docker.io"]\nendpoint = ["http://a"]\n';
      await write('etc/containerd/config.toml', `${NEW_CONTAINERD}${mirrors}`);
      return LAN;
    },
    about: 'containerd',
    message: /has config_path and mirrors, which containerd refuses/,
    remedy: /remove the mirrors/,
  },
  {
    name: 'podman with a mirror at another address',
    plant: async () => {
      await write('etc/containers/registries.conf.d/veneer.conf', podmanConf('localhost:8/docker.io'));
      return LAN;
    },
    about: 'podman',
    message: /veneer\.conf has localhost:8\/docker\.io, and Veneer is at localhost:9/,
    remedy: /veneer mirror-config podman/,
  },
  {
    name: 'podman that would speak TLS to a mirror of plain HTTP',
    plant: async () => {
      await write('etc/containers/registries.conf.d/veneer.conf', podmanConf('localhost:9/docker.io'));
      return LAN;
    },
    about: 'podman',
    message: /without insecure = true, and Veneer speaks plain HTTP/,
    remedy: /add insecure = true/,
  },
  {
    name: 'a file that podman does not read',
    plant: async () => {
      await write('etc/containers/registries.conf.d/veneer.toml', podmanConf('localhost:9/docker.io'));
      return LAN;
    },
    about: 'podman',
    message: /veneer\.toml is not read/,
    remedy: /rename it to veneer\.conf/,
  },
  {
    name: 'CRI-O with a mirror at another address',
    plant: async () => {
      await mkdir(join(folder, 'etc/crio'), { recursive: true });
      await write('etc/containers/registries.conf.d/veneer.conf', podmanConf('localhost:8/docker.io'));
      return LAN;
    },
    about: 'podman, CRI-O',
    message: /veneer\.conf has localhost:8\/docker\.io/,
    remedy: /systemctl reload crio/,
  },
];

const NEW_CONTAINERD =
  'version = 3\n[plugins."io.containerd.cri.v1.images".registry]\nconfig_path = "/etc/containerd/certs.d"\n';

function podmanConf(location: string): string {
  return `[[registry]]\nprefix = "docker.io"\nlocation = "docker.io"\n\n[[registry.mirror]]\nlocation = "${location}"\n`;
}

/** A whole service, and what a configuration that leads to it has. */
async function startOwn(): Promise<Record<string, unknown>> {
  const server = await startServer();
  cleanUp.defer(() => server.close());
  return { listen: `127.0.0.1:${server.port}`, dataDir: join(server.directory, 'data') };
}

async function listenDocker(registryConfig: object): Promise<void> {
  const server = createServer((_, response) => response.end(JSON.stringify({ RegistryConfig: registryConfig })));
  server.listen(join(folder, 'docker.sock'));
  await once(server, 'listening');
  cleanUp.defer(async () => void server.close());
}

test.each(FAULTS)('names $name, and what puts it right', async ({ plant, about, message, remedy }) => {
  const planted = await plant();
  const { out, exitCode } = await run(['--json', ...(planted.options ?? [])], planted);
  const faults = JSON.parse(out).findings.filter(({ level }: { readonly level: string }) => level === 'fault');
  expect(faults).toContainEqual({
    about,
    level: 'fault',
    message: expect.stringMatching(message),
    remedy: expect.stringMatching(remedy),
  });
  expect(exitCode).toBe(2);
});

test('says that runtimes pull through Veneer', async () => {
  await write('etc/docker/daemon.json', '{ "registry-mirrors": ["http://localhost:9"] }');
  await listenDocker({ Mirrors: ['http://localhost:9/'], IndexConfigs: {} });
  await write('etc/containerd/config.toml', NEW_CONTAINERD);
  await write('etc/containerd/certs.d/docker.io/hosts.toml', `[host."${MIRRORED.address}"]\n`);
  await write(
    'etc/containers/registries.conf.d/veneer.conf',
    `${podmanConf('localhost:9/docker.io')}insecure = true\n`,
  );
  const { out } = await run(['--all'], {
    config: { ...LAN.config, defaultUpstream: 'docker.io', upstreams: { 'docker.io': { url: registry } } },
  });
  expect(out).toContain('ok    docker: it reaches Veneer at localhost:9\n');
  expect(out).toContain('ok    containerd: it pulls docker.io through Veneer\n');
  expect(out).toContain('ok    podman: it pulls docker.io through Veneer\n');
});

test('says that a certificate expires soon', async () => {
  const deps = { now: () => new Date(Date.parse('2119-12-22')) };
  const { out } = await run([], { lab: { tls: { ca: pem('ca.pem') } }, deps });
  expect(out).toContain('note  upstreams["lab"].tls.ca: the certificate expires in 10 days, on 2120-01-01\n');
});

test('builds nothing unless a service runs', async () => {
  const { out } = await run(['--builds']);
  expect(out).toContain('note  builds: no test build: no service runs\n');
});

test('says that a running service is reached', async () => {
  const own = await startOwn();
  const { out } = await run(['--all'], { config: { ...own, publicUrl: `http://${own.listen}` } });
  expect(out).toContain(`ok    listen: the service answers at ${own.listen}\n`);
  expect(out).toContain(`ok    publicUrl: http://${own.listen} is a Veneer\n`);
  expect(out).toContain('ok    data directory: the service uses ');
});
