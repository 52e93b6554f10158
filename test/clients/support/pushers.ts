// How clients log in and push a copy of the environment's source. Each keeps what it learns at the login in a folder, and looks nowhere else.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { clientPath } from './clients.ts';
import type { Environment } from './environment.ts';
import { buildBusybox } from './image.ts';
import { run } from './process.ts';

export interface Login {
  /** host:port of the registry. */
  readonly address: string;
  readonly user: string;
  readonly secret: string;
}

export interface Pusher {
  /** Rejects with what the client says when the login is refused. */
  login(login: Login, folder: string): Promise<void>;
  /** Rejects with what the client says when the push is refused. */
  push(image: string, folder: string): Promise<void>;
}

export const PUSHERS = ['docker', 'buildctl', 'podman', 'skopeo', 'crane', 'oras', 'regctl'] as const;

export type PusherName = (typeof PUSHERS)[number];

/** Makes the folder of one who has not logged in. */
export async function makeCredentials(folder: string): Promise<string> {
  await mkdir(folder, { recursive: true });
  for (const file of ['config.json', 'auth.json', 'regctl.json']) await writeFile(join(folder, file), '{}');
  return folder;
}

/** The environment in which every client looks into the folder. */
export function envOf(folder: string): Readonly<Record<string, string>> {
  return {
    HOME: folder,
    DOCKER_CONFIG: folder,
    REGISTRY_AUTH_FILE: join(folder, 'auth.json'),
    REGCTL_CONFIG: join(folder, 'regctl.json'),
  };
}

/** `host` is the address of the engine. */
export function createPushers(environment: Environment, host: string): Readonly<Record<PusherName, Pusher>> {
  const docker = createDocker(environment, host);
  return {
    docker,
    buildctl: {
      // BuildKit asks buildctl, which has no login of its own.
      login: docker.login,
      push: (image, folder) => buildBusybox(environment.folder, environment.buildkit, { image, env: envOf(folder) }),
    },
    podman: createPodman(environment),
    skopeo: createSkopeo(environment),
    crane: createCrane(environment),
    oras: createOras(environment),
    regctl: createRegctl(environment),
  };
}

function createDocker({ source }: Environment, host: string): Pusher {
  const docker = ['docker', '-H', host];
  return {
    login: (login, folder) => enter([...docker, 'login'], login, folder),
    async push(image, folder) {
      await runIn(folder, [...docker, 'pull', source]);
      await runIn(folder, [...docker, 'tag', source, image]);
      await runIn(folder, [...docker, 'push', image]);
    },
  };
}

function createPodman({ source, folder: root }: Environment): Pusher {
  const roots = ['--root', join(root, 'podman'), '--runroot', join(root, 'podman-run')];
  const podman = ['podman', ...roots, '--storage-driver', 'vfs'];
  return {
    login: (login, folder) => enter([...podman, 'login', '--tls-verify=false'], login, folder),
    async push(image, folder) {
      const id = await run('podman', [...podman.slice(1), 'pull', '--quiet', '--tls-verify=false', source]);
      await runIn(folder, [...podman, 'push', '--tls-verify=false', id, image]);
    },
  };
}

function createSkopeo({ source }: Environment): Pusher {
  const copy = ['skopeo', 'copy', '--all', '--src-tls-verify=false', '--dest-tls-verify=false'];
  return {
    login: (login, folder) => enter(['skopeo', 'login', '--tls-verify=false'], login, folder),
    push: (image, folder) => runIn(folder, [...copy, `docker://${source}`, `docker://${image}`]),
  };
}

function createCrane({ source }: Environment): Pusher {
  const crane = clientPath('crane');
  return {
    login: (login, folder) => enter([crane, 'auth', 'login'], login, folder),
    push: (image, folder) => runIn(folder, [crane, 'copy', source, image]),
  };
}

function createOras({ source }: Environment): Pusher {
  const oras = clientPath('oras');
  return {
    login: (login, folder) => enter([oras, 'login', '--plain-http'], login, folder),
    push: (image, folder) => runIn(folder, [oras, 'copy', '--from-plain-http', '--to-plain-http', source, image]),
  };
}

function createRegctl({ source, registry }: Environment): Pusher {
  const regctl = clientPath('regctl');
  return {
    async login(login, folder) {
      await runIn(folder, [regctl, 'registry', 'set', '--tls', 'disabled', login.address]);
      const command = [regctl, 'registry', 'login', '--user', login.user, '--pass-stdin', login.address];
      await runIn(folder, command, login.secret);
    },
    push(image, folder) {
      const hosts = [registry, image.split('/')[0]].flatMap(host => ['--host', `reg=${host},tls=disabled`]);
      return runIn(folder, [regctl, ...hosts, 'image', 'copy', source, image]);
    },
  };
}

function enter(command: readonly string[], { address, user, secret }: Login, folder: string): Promise<void> {
  return runIn(folder, [...command, '--username', user, '--password-stdin', address], secret);
}

async function runIn(folder: string, [command = '', ...args]: readonly string[], input = ''): Promise<void> {
  await run(command, args, { env: envOf(folder), input });
}
