// The builder without a daemon: buildah, with a storage of its own, rootless if need be, and how it is found on this machine.
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { getuid } from 'node:process';
import { z } from 'zod';
import { formatPlatform, isSamePlatform, type Platform, parsePlatform } from '../../../oci/platform.ts';
import type { Backend, BuildInput, BuildOptions, BuildResult, Detect } from '../../backend.ts';
import { BackendUnavailable } from '../../execution.ts';
import { findNeeds } from '../../needs.ts';
import { childEnvironment, type Environment, readProcess } from '../../process.ts';
import { buildImages } from './build.ts';
import { createClient } from './client.ts';
import { findUnsupportedReason, runModeArguments, type StorageOptions } from './command.ts';
import {
  detectRunSupport,
  type Isolation,
  isolations,
  probeRun,
  type RunProbes,
  type RunSupport,
} from './isolation.ts';
import { createStorageCleaner } from './storage.ts';
import { planWorkspace, type Workspace, writeWorkspace } from './workspace.ts';

/** With a `root`, the storage below it is used by these builds only, and cleaned up after them. */
interface BuildahOptions extends StorageOptions {
  readonly name: string;
  /** Absent: `oci` for root, `rootless` for other users: the strongest for each. */
  readonly isolation?: Isolation | undefined;
  /** The OCI runtime; absent: the first that works of buildah's default, runc and crun. */
  readonly runtime?: string | undefined;
  /** Whether a RUN may have the network of this machine. */
  readonly hostNetwork?: boolean | undefined;
  /** Restricts what it builds for; absent: all that it can. */
  readonly platforms?: readonly Platform[] | undefined;
  /** The buildah to run: a name in PATH or a path. */
  readonly command?: string | undefined;
  /** The service's: buildah gets what childEnvironment lets through. */
  readonly environment: Environment;
  readonly now?: () => number;
}

/** For a whole run of a runtime, on a busy machine. */
const TRIAL_MS = 30_000;
const RETRY_MS = 5 * 60_000;
/** Before this version, a rootless network reached the loopback address of the machine. */
const MIN_PRIVATE = [1, 32] as const;
const infoSchema = z.object({ host: z.object({ os: z.string(), arch: z.string() }) });

export function createBuildahBackend(options: BuildahOptions): Backend {
  const { name, root, platforms, command = 'buildah', now = Date.now } = options;
  const isRoot = getuid?.() === 0;
  const isolation = options.isolation ?? (isRoot ? 'oci' : 'rootless');
  const client = createClient({ ...options, command });
  // A cancelled build is cleaned up as well.
  const tidy = (args: readonly string[]) => client.read(args, new AbortController().signal);
  const storage = createStorageCleaner({ read: tidy, isOwn: root !== undefined, now });

  const closing = new AbortController();
  const trialSignal = () => AbortSignal.any([closing.signal, AbortSignal.timeout(TRIAL_MS)]);

  const trials: RunProbes = {
    probeRun: mode =>
      probeRun(
        (args, { onLine }) => client.probe(args, { onLine, wrapper: mode.wrapper, signal: trialSignal() }),
        runModeArguments(mode),
      ).catch(asFault),
    async probeCommand([program = '', ...args]) {
      const env = childEnvironment(options.environment, { HOME: options.environment.HOME });
      return readProcess(program, args, { env, signal: trialSignal(), timeoutMs: TRIAL_MS }).then(
        () => undefined,
        asFault,
      );
    },
    enter: isRoot ? [] : [command, 'unshare', '--'],
    leaksLoopback: async () => isBefore(await client.read(['--version'], trialSignal()), MIN_PRIVATE),
  };
  const hasHostNetwork = options.hostNetwork ?? false;
  let known: (RunSupport & { readonly until: number }) | undefined;

  /** A working mode is remembered for good; a fault may be repaired, and is probed again. */
  async function findOut(): Promise<RunSupport> {
    if (known && now() < known.until) return known;
    const support = await detectRunSupport({ isolation, runtime: options.runtime, hasHostNetwork, isRoot }, trials);
    known = { ...support, until: support.fault === undefined ? Number.POSITIVE_INFINITY : now() + RETRY_MS };
    return support;
  }

  async function listPlatforms(signal: AbortSignal): Promise<readonly Platform[]> {
    const all = await listMachinePlatforms(parseInfo(await client.read(['info'], signal)));
    await findOut();
    return platforms ? all.filter(one => platforms.some(other => isSamePlatform(one, other))) : all;
  }

  async function build(input: BuildInput, { signal, report }: BuildOptions): Promise<BuildResult> {
    signal.throwIfAborted();
    const workspace = planWorkspace(input);
    await writeWorkspace(input, workspace);
    const { mode, note } = await findOut();
    if (note !== undefined && findNeeds(input.spec)?.steps.some(({ kind }) => kind === 'run'))
      report({ kind: 'note', text: note });
    return await storage.use(async () => {
      try {
        return { digest: await buildImages({ client, input, workspace, mode, options: { signal, report } }) };
      } finally {
        if (input.platforms.length > 1) await removeList(workspace);
      }
    });
  }

  async function removeList({ list }: Workspace): Promise<void> {
    try {
      await tidy(['manifest', 'rm', list]);
    } catch (error) {
      // It was never created, or the next sweep removes it.
      if (!(error instanceof BackendUnavailable)) throw error;
    }
  }

  return {
    name,
    kind: 'buildah',
    isMultiPlatform: true,
    listPlatforms,
    findUnsupportedReason: spec => findUnsupportedReason(spec, known),
    listNotes: () =>
      [known?.fault === undefined ? undefined : `no RUN works: ${known.fault}`, known?.note].filter(isText),
    answerTimeoutMs: 4 * TRIAL_MS,
    build,
    async close() {
      closing.abort();
    },
  };
}

function asFault(error: unknown): string {
  if (error instanceof BackendUnavailable) return error.message;
  if (error instanceof DOMException && error.name === 'TimeoutError') return `nothing happened within ${TRIAL_MS} ms`;
  throw error;
}

/** Parses `buildah version 1.28.2 (…)`; an unknown version counts as old. */
function isBefore(output: string, [major, minor]: readonly [number, number]): boolean {
  const [, first = '0', second = '0'] = /(\d{1,4})\.(\d{1,4})/.exec(output) ?? [];
  return Number(first) < major || (Number(first) === major && Number(second) < minor);
}

function isText(value: string | undefined): value is string {
  return value !== undefined;
}

/** The machine's own platform. Throws BackendUnavailable for unexpected output. */
function parseInfo(output: string): string {
  try {
    const { host } = infoSchema.parse(JSON.parse(output));
    return `${host.os}/${host.arch}`;
  } catch (cause) {
    throw new BackendUnavailable('`buildah info` does not say what machine this is', { cause });
  }
}

/** Finds buildah if it is installed and its storage answers. BUILDAH_ISOLATION, if set, decides its isolation. */
export function detectBuildah(
  options: Pick<BuildahOptions, 'command' | 'root' | 'runRoot' | 'storageDriver'> = {},
): Detect {
  return async ({ environment, signal, onMiss }) => {
    const isolation = findIsolation(environment.BUILDAH_ISOLATION);
    const backend = createBuildahBackend({ name: 'buildah', ...options, environment, isolation });
    // A service that stops does not wait for probes.
    signal.addEventListener('abort', () => void backend.close(), { once: true });
    try {
      await backend.listPlatforms(signal);
      return backend;
    } catch (error) {
      if (!(error instanceof BackendUnavailable)) throw error;
      onMiss(`buildah: ${error.message}`);
      return undefined;
    }
  };
}

function findIsolation(text: string | undefined): Isolation | undefined {
  return isolations.find(isolation => isolation === text);
}

// The platforms that this machine runs: its own, and those that binfmt_misc passes to an emulator.

const BINFMT_FOLDER = '/proc/sys/fs/binfmt_misc';

/** By the name of QEMU's handler, without `qemu-`. */
const EMULATED: ReadonlyMap<string, readonly string[]> = new Map([
  ['x86_64', ['linux/amd64']],
  ['i386', ['linux/386']],
  ['aarch64', ['linux/arm64']],
  ['arm', ['linux/arm/v7', 'linux/arm/v6', 'linux/arm/v5']],
  ['ppc64le', ['linux/ppc64le']],
  ['riscv64', ['linux/riscv64']],
  ['s390x', ['linux/s390x']],
  ['loongarch64', ['linux/loong64']],
  ['mips64el', ['linux/mips64le']],
  ['mips64', ['linux/mips64']],
]);

/** The machine's own platform first; normalised, without duplicates. */
export async function listMachinePlatforms(own: string, folder = BINFMT_FOLDER): Promise<readonly Platform[]> {
  const handlers = await readHandlers(folder);
  const emulated = [...EMULATED].flatMap(([name, platforms]) => (isUsable(handlers.get(name)) ? platforms : []));
  const all = [own, ...emulated].map(parsePlatform);
  return [...new Map(all.map(platform => [formatPlatform(platform), platform])).values()];
}

async function readHandlers(folder: string): Promise<ReadonlyMap<string, string>> {
  const names = await readFolder(folder);
  const handlers = names.filter(name => name.startsWith('qemu-') && EMULATED.has(name.slice('qemu-'.length)));
  return new Map(
    await Promise.all(
      handlers.map(async name => [name.slice('qemu-'.length), await readFile(join(folder, name), 'utf8')] as const),
    ),
  );
}

async function readFolder(folder: string): Promise<readonly string[]> {
  try {
    return await readdir(folder);
  } catch {
    // Not mounted, or not accessible: nothing is emulated.
    return [];
  }
}

/** Without flag F the kernel looks for the emulator in the image, which has none. */
function isUsable(handler: string | undefined): boolean {
  return handler !== undefined && /^enabled$/m.test(handler) && /^flags: \S*F/m.test(handler);
}
