// The container runtimes of this machine: whether their configuration files name Veneer, and are in effect. They are only read.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { parse as parseToml, TomlError } from 'smol-toml';
import { z } from 'zod';
import type { OwnMirror } from '../../config/mirror-file.ts';
import { type Finding, fault, findErrorCode, note, ok } from './findings.ts';

export interface RuntimePlaces {
  /** Where `etc` is: `/`. */
  readonly root: string;
  /** The socket of dockerd. */
  readonly dockerSocket: string;
}

const LOOPBACK = /^(?:localhost|127(?:\.\d+){3}|\[::1\])$/;

/** No findings for a runtime that is not installed, or without an address of Veneer. */
export async function checkRuntimes(own: OwnMirror, places: RuntimePlaces): Promise<readonly Finding[]> {
  const { address } = own;
  if (!address) return [];
  const mirror = { ...own, address };
  return [
    ...(await checkDocker(mirror, places)),
    ...guard('containerd', () => checkContainerd(mirror, places)),
    ...guard('podman', () => checkRegistriesConf(mirror, places)),
  ];
}

type Mirror = OwnMirror & { readonly address: URL };

/** A file that cannot be read or parsed is a finding. */
function guard(about: string, check: () => readonly Finding[]): readonly Finding[] {
  try {
    return check();
  } catch (error) {
    if (error instanceof Unreadable) return [fault(about, error.message, error.remedy)];
    throw error;
  }
}

class Unreadable extends Error {
  override readonly name = 'Unreadable';
  readonly remedy: string;

  constructor(message: string, remedy: string, options?: ErrorOptions) {
    super(message, options);
    this.remedy = remedy;
  }
}

/** Throws Unreadable. */
function read<T>(path: string, parse: (text: string) => T): T {
  try {
    return parse(readFileSync(path, 'utf8'));
  } catch (error) {
    if (error instanceof TomlError || error instanceof SyntaxError || error instanceof z.ZodError) {
      const [reason = ''] = error instanceof z.ZodError ? [error.issues[0]?.message] : error.message.split('\n');
      throw new Unreadable(`${path} cannot be parsed: ${reason}`, 'correct it: the runtime cannot use it either', {
        cause: error,
      });
    }
    throw new Unreadable(`${path} cannot be read (${findErrorCode(error)})`, 'run doctor as a user who may read it', {
      cause: error,
    });
  }
}

const daemonSchema = z.looseObject({
  'registry-mirrors': z.array(z.string()).default([]),
  'insecure-registries': z.array(z.string()).default([]),
});

/** Docker's API, "Get system information". */
const infoSchema = z.looseObject({
  RegistryConfig: z.looseObject({
    Mirrors: z
      .array(z.string())
      .nullable()
      .transform(all => all ?? []),
    IndexConfigs: z
      .record(z.string(), z.looseObject({ Secure: z.boolean().optional() }))
      .nullable()
      .transform(all => all ?? {}),
  }),
});

async function checkDocker(mirror: Mirror, { root, dockerSocket }: RuntimePlaces): Promise<readonly Finding[]> {
  const path = join(root, 'etc/docker/daemon.json');
  const isThere = existsSync(path);
  const info = await askDocker(dockerSocket);
  if (!isThere && !info) return [];
  return guard('docker', () => {
    const file = isThere ? read(path, text => daemonSchema.parse(JSON.parse(text))) : daemonSchema.parse({});
    const findings = [
      ...checkInsecure(mirror, { path, file, info }),
      ...checkDockerMirror(mirror, { path, file, info }),
    ];
    return findings.length > 0 ? findings : [ok('docker', `it reaches Veneer at ${mirror.address.host}`)];
  });
}

interface Docker {
  readonly path: string;
  readonly file: z.output<typeof daemonSchema>;
  readonly info: z.output<typeof infoSchema> | undefined;
}

const RELOAD = 'systemctl reload docker';

function checkInsecure({ address }: Mirror, { path, file, info }: Docker): readonly Finding[] {
  if (address.protocol === 'https:' || LOOPBACK.test(address.hostname)) return [];
  if (!file['insecure-registries'].includes(address.host)) {
    const message = `Veneer speaks plain HTTP at ${address.host}, which dockerd refuses: it is not in insecure-registries of ${path}`;
    return [
      fault(
        'docker',
        message,
        `add "insecure-registries": ["${address.host}"] to ${path}, then: ${RELOAD}; or put TLS in front of Veneer`,
      ),
    ];
  }
  const known = info?.RegistryConfig.IndexConfigs[address.host];
  if (!info || known?.Secure === false) return [];
  return [fault('docker', `insecure-registries of ${path} has ${address.host}, but dockerd has not read it`, RELOAD)];
}

function checkDockerMirror({ address, defaultUpstream }: Mirror, { path, file, info }: Docker): readonly Finding[] {
  const isOurs = (text: string) => URL.parse(text)?.origin === address.origin;
  const mirrors = file['registry-mirrors'];
  const set = `set "registry-mirrors": ["${address.origin}"] in ${path} (\`veneer mirror-config docker\`), then: ${RELOAD}`;
  if (mirrors.length === 0)
    return [note('docker', 'it does not use Veneer as a mirror: only images named by Veneer come through it', set)];
  if (!mirrors.some(isOurs))
    return [
      fault('docker', `registry-mirrors of ${path} has ${mirrors.join(', ')}, and Veneer is at ${address.origin}`, set),
    ];
  if (defaultUpstream !== 'docker.io') {
    const message = `dockerd asks its mirror for images of docker.io, and defaultUpstream is ${defaultUpstream}`;
    return [fault('docker', message, 'set defaultUpstream to docker.io')];
  }
  if (!info || info.RegistryConfig.Mirrors.some(isOurs)) return [];
  return [fault('docker', `registry-mirrors of ${path} has Veneer, but dockerd has not read it`, RELOAD)];
}

/** Undefined where no dockerd answers. */
function askDocker(socketPath: string): Promise<z.output<typeof infoSchema> | undefined> {
  if (!existsSync(socketPath)) return Promise.resolve(undefined);
  const { promise, resolve } = Promise.withResolvers<z.output<typeof infoSchema> | undefined>();
  const signal = AbortSignal.timeout(5_000);
  const asked = request({ socketPath, path: '/info', headers: { Host: 'docker' }, agent: false, signal }, response => {
    let text = '';
    response.setEncoding('utf8').on('error', () => resolve(undefined));
    response.on('data', part => {
      text += part;
    });
    response.on('end', () => resolve(infoSchema.safeParse(parseOrUndefined(text)).data));
  });
  asked.on('error', () => resolve(undefined)).end();
  return promise;
}

function parseOrUndefined(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const tables = z.record(z.string(), z.unknown()).catch({});
const containerdSchema = z.looseObject({
  version: z.int().default(1),
  plugins: z.record(z.string(), tables).default({}),
});
const registrySchema = z.looseObject({ config_path: z.string().default(''), mirrors: tables.default({}) });
const hostsSchema = z.looseObject({
  server: z.string().optional(),
  host: z.record(z.string(), z.unknown()).default({}),
});

/** The plugin section of `registry` by version of config.toml: containerd migrates older ones, and ignores those of another version. */
const REGISTRY_PLUGINS: Readonly<Record<number, string>> = {
  1: 'cri',
  2: 'io.containerd.grpc.v1.cri',
  3: 'io.containerd.cri.v1.images',
};
const NEWEST = 3;

function checkContainerd(mirror: Mirror, { root }: RuntimePlaces): readonly Finding[] {
  const path = join(root, 'etc/containerd/config.toml');
  if (!existsSync(path)) return [];
  const { version, plugins } = read(path, text => containerdSchema.parse(parseToml(text)));
  const plugin = REGISTRY_PLUGINS[Math.min(version, NEWEST)] ?? '';
  const registryOf = (name: string) => registrySchema.safeParse(plugins[name]?.registry ?? {}).data;
  const { config_path: folders = '', mirrors = {} } = registryOf(plugin) ?? {};
  const section = `[plugins."${plugin}".registry]`;
  const add = `add config_path = "/etc/containerd/certs.d" to ${section} in ${path}, then: systemctl restart containerd`;
  if (folders !== '' && Object.keys(mirrors).length > 0) {
    const message = `${section} of ${path} has config_path and mirrors, which containerd refuses`;
    return [fault('containerd', message, `remove the mirrors, then: systemctl restart containerd`)];
  }
  const found = folders.split(':').filter(folder => folder !== '');
  const hosts = found.flatMap(folder => readHosts(join(root, folder)));
  if (found.length === 0) {
    const other = Object.values(REGISTRY_PLUGINS).find(name => name !== plugin && registryOf(name)?.config_path);
    if (other !== undefined) {
      const message = `config_path is in [plugins."${other}".registry], which containerd ignores in a file of version ${version}`;
      return [fault('containerd', message, add)];
    }
    if (!existsSync(join(root, 'etc/containerd/certs.d')))
      return [note('containerd', NO_MIRROR, `\`veneer mirror-config containerd\`; ${add}`)];
    return [fault('containerd', `/etc/containerd/certs.d has no effect: config_path is not set in ${path}`, add)];
  }
  return checkHosts(mirror, hosts);
}

const NO_MIRROR =
  'it does not use Veneer as a mirror: only images with its address in their name are pulled through it';

interface HostsFile {
  readonly path: string;
  /** The registry that it mirrors. */
  readonly registry: string;
  readonly addresses: readonly string[];
}

function readHosts(folder: string): readonly HostsFile[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder).flatMap(registry => {
    const path = join(folder, registry, 'hosts.toml');
    if (!existsSync(path)) return [];
    const { host } = read(path, text => hostsSchema.parse(parseToml(text)));
    return [{ path, registry, addresses: Object.keys(host) }];
  });
}

function checkHosts({ address, upstreams }: Mirror, files: readonly HostsFile[]): readonly Finding[] {
  const isOurs = (text: string) => URL.parse(text)?.origin === address.origin;
  const wanted = ['_default', 'docker.io', ...upstreams];
  const ours = files.filter(({ addresses }) => addresses.some(isOurs));
  const others = files.filter(file => wanted.includes(file.registry) && !ours.includes(file));
  if (others.length > 0) {
    const message = others.map(({ path, addresses }) => `${path} has ${addresses.join(', ') || 'no host'}`).join('; ');
    return [
      fault(
        'containerd',
        `${message}; Veneer is at ${address.origin}`,
        '`veneer mirror-config containerd` prints the file; no restart is needed',
      ),
    ];
  }
  if (ours.length === 0) return [note('containerd', NO_MIRROR, '`veneer mirror-config containerd`')];
  return [ok('containerd', `it pulls ${ours.map(({ registry }) => registry).join(', ')} through Veneer`)];
}

const mirrorSchema = z.looseObject({ location: z.string(), insecure: z.boolean().default(false) });
const registriesSchema = z.looseObject({
  registry: z
    .array(
      z.looseObject({
        prefix: z.string().optional(),
        location: z.string().optional(),
        insecure: z.boolean().default(false),
        mirror: z.array(mirrorSchema).default([]),
      }),
    )
    .default([]),
});

interface Location {
  readonly path: string;
  readonly registry: string;
  readonly location: string;
  readonly isInsecure: boolean;
}

/** containers-registries.conf.d(5), read by podman, buildah, skopeo and CRI-O. */
function checkRegistriesConf(mirror: Mirror, { root }: RuntimePlaces): readonly Finding[] {
  const folder = join(root, 'etc/containers');
  if (!existsSync(folder)) return [];
  const about = existsSync(join(root, 'etc/crio')) ? 'podman, CRI-O' : 'podman';
  const dropIns = join(folder, 'registries.conf.d');
  const names = existsSync(dropIns) ? readdirSync(dropIns).sort() : [];
  const unread = names.filter(name => /veneer/i.test(name) && !name.endsWith('.conf'));
  if (unread.length > 0) {
    return [
      fault(
        about,
        `${join(dropIns, unread.join(', '))} is not read: its name does not end with .conf`,
        'rename it to veneer.conf',
      ),
    ];
  }
  const paths = [
    join(folder, 'registries.conf'),
    ...names.filter(name => name.endsWith('.conf')).map(name => join(dropIns, name)),
  ];
  const locations = paths.filter(path => existsSync(path)).flatMap(readLocations);
  return checkLocations(about, mirror, locations);
}

function readLocations(path: string): readonly Location[] {
  const { registry } = read(path, text => registriesSchema.parse(parseToml(text)));
  return registry.flatMap(({ prefix, location = '', insecure, mirror }) => {
    const places = [{ location, insecure }, ...mirror];
    return places.map(place => ({
      path,
      registry: prefix ?? location,
      location: place.location,
      isInsecure: place.insecure,
    }));
  });
}

function checkLocations(about: string, { address, upstreams }: Mirror, all: readonly Location[]): readonly Finding[] {
  const reload = about === 'podman' ? '' : ', then: systemctl reload crio';
  const print = `\`veneer mirror-config podman\` prints the file${reload}`;
  const wanted = ['docker.io', ...upstreams];
  const ours = all.filter(({ location }) => location.startsWith(`${address.host}/`));
  // A mirror of Veneer ends in the registry's own name.
  const stale = all.find(
    place =>
      wanted.some(host => place.location.endsWith(`/${host}`)) &&
      place.registry !== place.location &&
      !ours.includes(place),
  );
  if (stale) return [fault(about, `${stale.path} has ${stale.location}, and Veneer is at ${address.host}`, print)];
  if (ours.length === 0) return [note(about, NO_MIRROR, print)];
  const refused = address.protocol === 'http:' ? ours.find(({ isInsecure }) => !isInsecure) : undefined;
  if (refused) {
    const message = `${refused.path} has ${refused.location} without insecure = true, and Veneer speaks plain HTTP there`;
    return [fault(about, message, `add insecure = true to it${reload}; or put TLS in front of Veneer`)];
  }
  return [ok(about, `it pulls ${[...new Set(ours.map(({ registry }) => registry))].join(', ')} through Veneer`)];
}
